"""Connections that have shown no key: bounded by address and in all.

Beside the server's protocol (`http_protocol.py`), which enters every connection and takes it out
once a key was let in on it. Where one comes too many, the oldest is closed and not the newest: a
client with a key, and a probe of `/healthz`, always gets its moment to ask, whoever else holds
connections open. It belongs to one event loop and knows nothing of HTTP.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, defaultdict
from typing import Protocol

WARNED_EVERY_S = 60.0

logger: logging.Logger = logging.getLogger("frontdesk.server")


class Closable(Protocol):
    """A connection that can be ended at once."""

    def abort(self) -> None: ...


class KeylessConnections:
    """Keep the connections without a key, oldest first."""

    __slots__ = (
        "_address_of",
        "_by_address",
        "_closed",
        "_in_all",
        "_per_address",
        "_warned_at",
        "accepted",
    )

    def __init__(self, *, in_all: int, per_address: int) -> None:
        self._in_all, self._per_address = in_all, per_address
        self._address_of: OrderedDict[Closable, str] = OrderedDict()
        self._by_address: defaultdict[str, OrderedDict[Closable, None]] = defaultdict(OrderedDict)
        self._closed, self._warned_at = 0, -WARNED_EVERY_S
        self.accepted: int = 0
        """How many have come by now: all that were accepted, as each comes without a key."""

    def enter(self, connection: Closable, address: str) -> None:
        """Take a connection in; the oldest of its address, or of all, goes where it is too many."""
        self.accepted += 1
        self._address_of[connection] = address
        self._by_address[address][connection] = None
        if len(self._by_address[address]) > self._per_address:
            self._close(next(iter(self._by_address[address])))
        elif len(self._address_of) > self._in_all:
            self._close(next(iter(self._address_of)))

    def leave(self, connection: Closable) -> None:
        """Forget one that has a key or has ended. Does nothing for one that is not here."""
        address = self._address_of.pop(connection, None)
        if address is None:
            return
        del self._by_address[address][connection]
        if not self._by_address[address]:
            del self._by_address[address]

    def _close(self, connection: Closable) -> None:
        address = self._address_of[connection]
        self.leave(connection)
        connection.abort()
        self._closed += 1
        if time.monotonic() - self._warned_at >= WARNED_EVERY_S:
            self._warned_at = time.monotonic()
            logger.warning(
                "too many connections without a key: %d were closed so far, the last from %s",
                self._closed,
                address,
            )

    def __len__(self) -> int:
        return len(self._address_of)
