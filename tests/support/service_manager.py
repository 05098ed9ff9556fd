"""What systemd is to a service: a socket that is told things, one datagram each."""

import socket
import time

WITHIN_S = 60


class ServiceManager:
    """A notify socket. A context manager."""

    def __init__(self, address):
        self.address = address
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._end.bind(f"\0{address[1:]}" if address[0] == "@" else address)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._end.close()

    def next(self, within_s=WITHIN_S):
        """Return what it is told next, as a dict of a datagram's lines."""
        self._end.settimeout(within_s)
        told = self._end.recv(4096).decode()
        return dict(line.split("=", 1) for line in told.splitlines())

    def told(self, name, within_s=WITHIN_S):
        """Return the next datagram that has this name, and pass over those that feed a watchdog."""
        until = time.monotonic() + within_s
        while True:
            told = self.next(max(0.01, until - time.monotonic()))
            if name in told:
                return told
            assert "WATCHDOG" in told, f"not {name} but {told}"

    def discard(self):
        """Forget what was told until now."""
        self._end.setblocking(False)
        try:
            while True:
                self._end.recv(4096)
        except BlockingIOError:
            return

    def silent_for(self, seconds):
        """Say whether it is told nothing for so long."""
        try:
            self.next(seconds)
        except TimeoutError:
            return True
        return False
