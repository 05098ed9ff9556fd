"""The service manager, as a service sees it: a socket that it is told on how the service does.

systemd's protocol (`sd_notify`): a datagram of `NAME=value` lines to the socket that
`NOTIFY_SOCKET` names, a path or, with `@` in front, an abstract one. Without that variable all of
it does nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping

SEND_TIMEOUT_S = 1.0
US = 1_000_000

logger: logging.Logger = logging.getLogger("frontdesk.serve")


class NotifySocket:
    """Where a service manager is told how a service does; `NotifySocket(None)` tells nobody.

    `watchdog_s` is how long the manager bears to hear nothing before it ends the service; None
    where it does not mind.
    """

    def __init__(self, address: str | None, *, watchdog_s: float | None = None) -> None:
        self._address = address
        self.watchdog_s: float | None = watchdog_s

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> NotifySocket:
        """Take it out of an environment, so that no child of this process can speak for it."""
        address = environment.pop("NOTIFY_SOCKET", None)
        of, after_us = environment.pop("WATCHDOG_PID", None), environment.pop("WATCHDOG_USEC", "")
        ours = of is None or of == str(os.getpid())
        if not address or address[0] not in "/@":
            return cls(None)
        if not (ours and after_us.isdecimal() and int(after_us) > 0):
            return cls(address)
        return cls(address, watchdog_s=int(after_us) / US)

    def ready(self, status: str) -> None:
        """Tell that it serves, at the start or again after a reload."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Tell that its configuration is read again; `ready` follows, whatever comes of it."""
        # The same clock as systemd's: it tells this from what was sent before it asked.
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, *, within_s: float) -> None:
        """Tell that it ends, and how long that may take: what the manager allows may be less."""
        wanted_us = round(within_s * US)
        self._send("STOPPING=1", "STATUS=draining", f"EXTEND_TIMEOUT_USEC={wanted_us}")

    def alive(self) -> None:
        """Tell that it moves, to be told again within `watchdog_s`."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        named = self._address
        address = f"\0{named[1:]}" if named[0] == "@" else named
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.settimeout(SEND_TIMEOUT_S)
                end.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            # It goes on serving: whoever watches over it draws the consequences.
            logger.warning("the service manager cannot be told %s: %s", lines[0], error.strerror)
