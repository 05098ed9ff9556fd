"""The wire: uvicorn's protocols, with the bounds that it does not have.

At the very top, between the sockets and the middleware. A head has a greatest size and a deadline,
a body has a deadline, and a client that stops reading what it asked for is disconnected; without
these a slow or silent client holds its connection for ever. It also tells a stream at once when its
client leaves (`CONNECTION_KEY` in the scope), which saves each stream a task that would wait for
that. It knows nothing of what is requested.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol, cast

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from frontdesk.gateway.error_table import (
    BAD_REQUEST,
    HEAD_TOO_LARGE,
    TOO_SLOW,
    ErrorAnswer,
    Refusal,
)
from frontdesk.gateway.settings import LimitSettings

CONNECTION_KEY = "frontdesk.connection"
LINGER_S = 2.0
ANNOUNCING = frozenset({b"content-length", b"transfer-encoding"})
"""What a request has that brings a body; one without has come whole with its head."""
LINGER_BYTES = 4 * 1024 * 1024


class HttpConfig(uvicorn.Config):
    """uvicorn's configuration, and how large and how slow a client may be."""

    def __init__(self, app: Any, *, limits: LimitSettings, **settings: Any) -> None:
        self.limits = limits
        super().__init__(app, http=BoundedHttp, ws=BoundedWebSocket, **settings)


class StalledWrites:
    """Abort a connection whose client has read nothing for a while, though there is something."""

    __slots__ = ("_abort", "_after_s", "_timer")

    def __init__(self, *, after_s: float, abort: Callable[[], None]) -> None:
        self._after_s, self._abort = after_s, abort
        self._timer: asyncio.TimerHandle | None = None

    @property
    def paused(self) -> bool:
        return self._timer is not None

    def pause(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._after_s, self._abort)

    def resume(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class CoalescingTransport:
    """Write through to a transport, but hold the head of an answer until more is written.

    uvicorn writes a head and its body one after the other, and each would be a system call of ours
    and a wake-up of the client's.

    Nothing else is held, nothing changes its order, and a head that nothing follows leaves when the
    loop has its next turn. What is not about writing is the transport's own.
    """

    __slots__ = ("_held", "_loop", "is_closing", "transport", "write")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.transport, self._loop = transport, loop
        self._held = b""
        self.write: Callable[[bytes], None] = transport.write
        self.is_closing = transport.is_closing

    def expect_head(self) -> None:
        """Hold what is written next."""
        if not self._held:
            self.write = self._defer_head

    def _defer_head(self, head: bytes) -> None:
        self._held = head
        self.write = self._write_with_head
        self._loop.call_soon(self.flush)

    def _write_with_head(self, data: bytes) -> None:
        head, self._held = self._held, b""
        self.write = self.transport.write
        self.transport.write(head + data)

    def flush(self) -> None:
        """Write the head that is held, if one is."""
        if self._held and not self.transport.is_closing():
            self._write_with_head(b"")

    def close(self) -> None:
        """Close the transport, once what was written has left."""
        self.flush()
        self.transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


class ClientConnection(Protocol):
    """What a stream may ask of the connection under it."""

    on_disconnect: Callable[[], None] | None
    """Called once when the client leaves."""

    def abort_if_stalled(self) -> None:
        """Drop a client that does not read; whoever waits to write to it goes on."""
        ...


def connection_of(scope: Mapping[str, Any]) -> ClientConnection | None:
    """Return the connection of an ASGI scope where the server is ours, else None."""
    return scope.get(CONNECTION_KEY)


class BoundedHttp(HttpToolsProtocol):
    """HTTP/1.1 with bounds on heads, bodies and stalled writes."""

    config: HttpConfig

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._limits = self.config.limits
        self._coalescing = CoalescingTransport(transport, self.loop)
        self.transport = cast("asyncio.Transport", self._coalescing)
        self._stalled = StalledWrites(after_s=self._limits.stalled_write_s, abort=transport.abort)
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head, self._head_bytes = True, 0
        self._overhead_bytes = 0
        self._lingers, self._lingering_bytes = False, 0
        self.on_disconnect: Callable[[], None] | None = None
        self._arm(self._limits.head_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._stalled.resume()
        super().connection_lost(exc)
        if self.on_disconnect is not None:
            self.on_disconnect()

    def abort_if_stalled(self) -> None:
        if self._stalled.paused:
            self.transport.abort()

    # -- reading ---------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        self._overhead_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._head_bytes > self._limits.head_bytes:
            self._refuse(HEAD_TOO_LARGE, "the head of the request is over the limit")
        elif self._in_head:
            if self._deadline is None and self._head_bytes:
                self._arm(self._limits.head_timeout_s)
        elif self._overhead_bytes > self._limits.head_bytes:
            # Trailers without end, or what a chunk says of itself: no body comes of it.
            self._refuse(HEAD_TOO_LARGE, "the request has too much beside its body")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[CONNECTION_KEY] = self

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers of a chunked body come here as well. They are no headers: whoever let the
        # request in, a proxy for one, has not seen them there.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._disarm()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        self._in_head, self._head_bytes = False, 0
        # What came before is no overhead of this body: a connection carries many requests.
        self._overhead_bytes = 0
        if size > self._limits.head_bytes:
            self._refuse(HEAD_TOO_LARGE, "the head of the request is over the limit")
        if not self.transport.is_closing():
            if any(name in ANNOUNCING for name, _ in self.headers):
                self._arm(self._limits.body_timeout_s)
            self._coalescing.expect_head()
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead_bytes = 0
        if self.transport.is_closing():
            return
        if self.cycle.response_complete and not self._lingers:
            # Answered before it was read, a 413 for instance. Closed at once, the client might
            # never see the answer: it may go on sending for a moment, into nothing.
            self._lingers = True
            self._arm(LINGER_S)
        self._lingering_bytes += len(body) if self._lingers else 0
        if self._lingering_bytes > LINGER_BYTES:
            self.transport.abort()
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._disarm()
        self._in_head, self._head_bytes = True, 0
        self._lingers, self._lingering_bytes = False, 0
        if not self.transport.is_closing():
            super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._disarm()
        # Some devices send a length of 0, which is no body.
        announced = any(name in ANNOUNCING and value != b"0" for name, value in self.headers)
        if announced or self.scope["method"] != "GET":
            # The WebSocket's parser would wait for another handshake on it, for ever.
            self._refuse(BAD_REQUEST, "a WebSocket is opened by a GET without a body")
            return
        self.transport = self._coalescing.transport
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words name its parser
        self._refuse(BAD_REQUEST, "this is not an HTTP request")

    # -- deadlines -------------------------------------------------------------------------------

    def _arm(self, timeout_s: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(timeout_s, self._on_deadline)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_deadline(self) -> None:
        self._deadline = None
        begun = not self._in_head or self._head_bytes > 0
        answering = self.cycle is not None and self.cycle.response_started  # type: ignore[redundant-expr]
        if begun and not answering and not self.transport.is_closing():
            self._refuse(TOO_SLOW, "the request took too long to arrive")
        else:
            self.transport.close()

    def _refuse(self, answer: ErrorAnswer, sentence: str) -> None:
        body = msgspec.json.encode(Refusal(error=answer.code, message=sentence))
        status = HTTPStatus(answer.status)
        head = (
            f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    # -- writing ---------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        self._stalled.pause()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled.resume()
        super().resume_writing()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that drops a client that does not read."""

    config: HttpConfig

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._stalled = StalledWrites(
            after_s=self.config.limits.stalled_write_s, abort=self.transport.abort
        )

        self.on_disconnect: Callable[[], None] | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._stalled.resume()
        super().connection_lost(exc)
        if self.on_disconnect is not None:
            self.on_disconnect()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        # The application's task has been made but has not run yet: it will find this.
        if hasattr(self, "scope"):
            cast("dict[str, Any]", self.scope)[CONNECTION_KEY] = self

    def abort_if_stalled(self) -> None:
        if self._stalled.paused:
            self.transport.abort()

    def pause_writing(self) -> None:
        self._stalled.pause()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled.resume()
        super().resume_writing()
