"""Packets: whole messages with descriptors over a UNIX socket of type SEQPACKET.

Shared by the gateway, the keeper and the templates. The kernel keeps the bounds of a message and
carries its descriptors; the end of the peer is the end of the stream. It knows nothing of what the
messages say.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Iterable, Sequence

MOST_DESCRIPTORS = 4

Packet = tuple[bytes, tuple[int, ...]]


class Packets:
    """Send and receive packets without blocking, over a connected socket that this object owns.

    What the kernel does not take at once waits here; whoever runs the loop calls `flush` when the
    socket is writable and `pending` is true. The number that waits is bounded by what the callers
    have under way: a packet or two for each ward.
    """

    __slots__ = ("_outgoing", "socket")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._outgoing: deque[Packet] = deque()

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def pending(self) -> bool:
        """Tell whether packets wait for the socket to become writable."""
        return bool(self._outgoing)

    def send(self, payload: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send, or keep for `flush`. The descriptors become ours and are closed once sent."""
        self._outgoing.append((payload, tuple(descriptors)))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it; `ConnectionError` if the peer is gone."""
        while self._outgoing:
            payload, descriptors = self._outgoing[0]
            try:
                socket.send_fds(self.socket, [payload], list(descriptors))
            except (BlockingIOError, InterruptedError):
                return
            self._outgoing.popleft()
            close_all(descriptors)

    def receive(self, *, largest: int) -> Packet | None:
        """Return one packet, `None` at the end; `BlockingIOError` if there is none yet.

        The descriptors are the caller's. A packet whose descriptors did not all arrive (the limit
        of open files is reached here) comes with none of them.
        """
        payload, descriptors, flags, _ = socket.recv_fds(
            self.socket, largest, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if flags & socket.MSG_CTRUNC:
            close_all(descriptors)
            descriptors = []
        return (payload, tuple(descriptors)) if payload else None

    def close(self) -> None:
        """Close the socket and every descriptor that still waits to be sent."""
        self.socket.close()
        while self._outgoing:
            close_all(self._outgoing.popleft()[1])


def packet_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a fresh connection for packets."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors that this process owns."""
    for descriptor in descriptors:
        os.close(descriptor)
