"""A client's connection: what all of them are held to, whatever is spoken on it.

Below the server's protocols (`http_protocol.py`, `websocket_protocol.py`), which are such
connections, and below the streams, which ask the connection under them (`CONNECTION_KEY` in the
scope). A client that stops reading what it asked for is disconnected, what it leaves unread is
counted, and so is who has shown no key.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Callable, Mapping
from typing import Any

import uvicorn

from frontdesk.gateway.fair_starts import FairStarts
from frontdesk.gateway.keyless_connections import KeylessConnections
from frontdesk.gateway.settings import LimitSettings
from frontdesk.gateway.unread_answers import UnreadAnswers

CONNECTION_KEY = "frontdesk.connection"
KEYLESS_SHARE = 4
"""Connections without a key have one in so many of the descriptors that the process may open."""


class WireConfig(uvicorn.Config):
    """uvicorn's configuration, and how large and how slow a client may be."""

    def __init__(self, app: Any, *, limits: LimitSettings, **settings: Any) -> None:
        self.limits = limits
        self.keyless: KeylessConnections = KeylessConnections(
            in_all=min(limits.keyless_connections, descriptors() // KEYLESS_SHARE),
            per_address=limits.keyless_connections_per_address,
        )
        self.unread: UnreadAnswers = UnreadAnswers(max_bytes=limits.unread_bytes_per_key)
        self.starts: FairStarts = FairStarts(call_soon)
        self.on_refused: Callable[[str], None] | None = None
        """Told the error's code of each request that no application saw."""
        self.closing: bool = False
        """Whether each answer is the last on its connection: the server ends."""
        super().__init__(app, **settings)


def call_soon(callback: Callable[[], None]) -> None:
    """Call in the next turn of the loop that runs."""
    asyncio.get_running_loop().call_soon(callback)


def descriptors() -> int:
    """Return how many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


class StalledWrites:
    """Abort a connection whose client has read nothing for a while, though there is something."""

    __slots__ = ("_abort", "_after_s", "_timer", "aborted")

    def __init__(self, *, after_s: float, abort: Callable[[], None]) -> None:
        self._after_s, self._abort = after_s, abort
        self._timer: asyncio.TimerHandle | None = None
        self.aborted: bool = False

    @property
    def paused(self) -> bool:
        return self._timer is not None

    def pause(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._after_s, self._on_stalled)

    def resume(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_stalled(self) -> None:
        self.aborted = True
        self._abort()


class ClientConnection(asyncio.Protocol):
    """The bounds of a connection; mixed into a protocol of uvicorn's, before it."""

    config: WireConfig
    transport: asyncio.Transport
    client: tuple[str, int] | None

    on_disconnect: Callable[[], None] | None = None
    """Called once when the client leaves: a stream sets it, and needs no task that waits."""

    owner: str

    def begin_bounds(self) -> None:
        """Count it among those without a key, once its transport is known."""
        self._stalled = StalledWrites(
            after_s=self.config.limits.stalled_write_s, abort=self.transport.abort
        )
        self.owner = self.client[0] if self.client else "-"
        self.config.keyless.enter(self, self.owner)

    def admitted(self, key_id: str) -> None:
        """Count it no more among those without a key, and what it holds for that key."""
        self.config.keyless.leave(self)
        self.config.unread.leave(self, self.owner)
        self.owner = key_id

    @property
    def unread_bytes(self) -> int:
        """What was written and has not left."""
        return self.transport.get_write_buffer_size()

    def may_be_asked(self) -> bool:
        """Whether a request may be on its way to it, though none is answered."""
        return False

    @property
    def read_too_slowly(self) -> bool:
        """Whether it was ended because its client read nothing for too long."""
        return self._stalled.aborted

    def abort(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def abort_if_stalled(self) -> None:
        """Drop a client that does not read; whoever waits to write to it goes on."""
        if self._stalled.paused:
            self.transport.abort()

    def pause_writing(self) -> None:
        self._stalled.pause()
        super().pause_writing()
        self.config.unread.enter(self, self.owner)

    def resume_writing(self) -> None:
        self._stalled.resume()
        super().resume_writing()
        self.config.unread.leave(self, self.owner)

    def connection_lost(self, exc: Exception | None) -> None:
        self.config.keyless.leave(self)
        self.config.unread.leave(self, self.owner)
        self._stalled.resume()
        super().connection_lost(exc)
        if self.on_disconnect is not None:
            self.on_disconnect()


def connection_of(scope: Mapping[str, Any]) -> ClientConnection | None:
    """Return the connection of an ASGI scope where the server is ours, else None."""
    return scope.get(CONNECTION_KEY)
