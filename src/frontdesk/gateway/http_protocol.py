"""The wire of HTTP: uvicorn's protocol, with the bounds that it does not have.

At the very top, between the sockets and the middleware. A head has a greatest size and a deadline,
and a body has a deadline; without these a slow or silent client holds its connection for ever. It
knows nothing of what is requested.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import httptools
import msgspec
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from frontdesk.gateway.client_connection import CONNECTION_KEY, ClientConnection, WireConfig
from frontdesk.gateway.error_answers import (
    BAD_REQUEST,
    HEAD_TOO_LARGE,
    TOO_SLOW,
    UPGRADE_REQUIRED,
    ErrorAnswer,
)
from frontdesk.gateway.http_framing import FRAMING, MessageBounds, RequestHead
from frontdesk.gateway.websocket_protocol import BoundedWebSocket
from frontdesk.schemas.refusal import Refusal

LINGER_S = 2.0
LINGER_BYTES = 4 * 1024 * 1024
AHEAD_BYTES = 64 * 1024
"""What a client may send ahead of its answers before nothing more is read from it."""
AHEAD_S = 1.0
"""How long that may last without an answer: who is not read from is not seen to leave."""
JOINED_BYTES = 64 * 1024
"""A larger body is not copied to be one piece with its head."""
ON_ITS_WAY_S = 0.5
"""For a client that was answered, or has just connected, to send its next request."""
SPOKEN = ("upgrade: websocket", "sec-websocket-version: 13")
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
)


class CoalescingTransport:
    """Write through to a transport, but hold the head of an answer until more is written.

    uvicorn writes a head and its body one after the other, and each would be a system call of ours
    and a wake-up of the client's.

    Nothing else is held, nothing changes its order, and a head that nothing follows leaves when the
    loop has its next turn. What is not about writing is the transport's own.
    """

    __slots__ = ("_held", "_loop", "answer_bytes", "is_closing", "transport", "write")
    answer_bytes: int
    transport: asyncio.Transport

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.transport, self._loop = transport, loop
        self._held = b""
        self.answer_bytes = 0
        """Of the latest answer's first piece, which is all of it where it is no stream."""
        self.write: Callable[[bytes], None] = transport.write
        self.is_closing: Callable[[], bool] = transport.is_closing

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
        self.answer_bytes = len(head) + len(data)
        if len(data) > JOINED_BYTES:
            # As it is: whoever made it may hold it as well, while its client is behind. Not by
            # `writelines`, which pauses nobody in Python 3.12.0 to 3.12.8 and 3.13.0 to 3.13.1
            # (CVE-2024-12254).
            self.transport.write(head)
            self.transport.write(data)
        else:
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


class ReadingFlow(FlowControl):
    """Pauses reading while the application is behind with a body, or the client too far ahead.

    uvicorn's own knows the first reason only, and reads on whenever an answer is complete.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._body_held = self._ahead_held = False

    def pause_reading(self) -> None:
        self._body_held = True
        self._follow()

    def resume_reading(self) -> None:
        self._body_held = False
        self._follow()

    def pause_ahead(self, held: bool) -> None:
        """Read nothing more while the client is ahead of its answers."""
        self._ahead_held = held
        self._follow()

    def _follow(self) -> None:
        if self._body_held or self._ahead_held:
            super().pause_reading()
        else:
            super().resume_reading()


class OldClientCycle(RequestResponseCycle):
    """An answer to a client of HTTP/1.0, which knows no chunks: it ends with the connection."""

    expected_content_length: int

    _until_close = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", ())}
            self._until_close = b"content-length" not in names
            self.chunked_encoding = False if self._until_close else None
        elif self._until_close:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


@dataclass(frozen=True, slots=True)
class BodyCallbacks:
    """What a parser may call that reads a body whose head another one has read."""

    on_body: Callable[[bytes], None]
    on_message_complete: Callable[[], None]


class BoundedHttp(ClientConnection, HttpToolsProtocol):
    """HTTP/1.1 with bounds on heads, bodies and stalled writes; one request at a time.

    The parser sees the bytes of a request only once the request before it is answered: what a
    client sends ahead waits as bytes (`AHEAD_BYTES`), and can spoil no answer but its own.
    """

    config: WireConfig
    parser: httptools.HttpRequestParser
    transport: asyncio.Transport
    flow: ReadingFlow
    cycle: RequestResponseCycle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._limits = self.config.limits
        self._coalescing = CoalescingTransport(transport, self.loop)
        self.transport = cast("asyncio.Transport", self._coalescing)
        self.flow = self._flow = ReadingFlow(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._ahead, self._bounds = bytearray(), MessageBounds()
        self._too_far_ahead: asyncio.TimerHandle | None = None
        self._in_head, self._head_bytes = True, 0
        self._overhead_bytes = 0
        self._begun = self._has_body = self._without_upgrade = False
        self._lingers, self._lingering_bytes = False, 0
        self._idle_since = self.loop.time()
        self._arm(self._limits.head_timeout_s)
        self.begin_bounds()

    @property
    def unread_bytes(self) -> int:
        """What is held for a client that has not read it: a piece that has left in part, whole."""
        left = self.transport.get_write_buffer_size()
        return left and left + self._coalescing.answer_bytes

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._ahead.clear()
        self._check_ahead()
        super().connection_lost(exc)

    def may_be_asked(self) -> bool:
        """Whether a request may be on its way to an idle connection: closed, it would be lost."""
        cycle: RequestResponseCycle | None = self.cycle
        if self.transport.is_closing() or not (cycle is None or cycle.response_complete):
            return False
        begun = not self._in_head or self._head_bytes > 0
        return begun or self.loop.time() - self._idle_since < ON_ITS_WAY_S or self._is_readable()

    def _is_readable(self) -> bool:
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    # -- reading ---------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._ahead += data
        self._read()

    def _read(self) -> None:
        """Give the parser what belongs to the request that is being read."""
        while self._ahead and not self._awaits_answer() and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            size = self._bounds.take(self._ahead, limit=self._limits.head_bytes)
            piece = bytes(self._ahead[:size])
            del self._ahead[:size]
            self._feed(piece)
        self._check_ahead()

    def _awaits_answer(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return self._in_head and cycle is not None and not cycle.response_complete

    def _check_ahead(self) -> None:
        held = len(self._ahead) > AHEAD_BYTES
        self._flow.pause_ahead(held)
        if held and self._too_far_ahead is None:
            # Nobody sees a client leave that is not read from.
            self._too_far_ahead = self.loop.call_later(AHEAD_S, self.transport.abort)
        elif not held:
            self._stop_waiting_ahead()

    def _stop_waiting_ahead(self) -> None:
        if self._too_far_ahead is not None:
            self._too_far_ahead.cancel()
            self._too_far_ahead = None

    def _feed(self, piece: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(piece)
        self._overhead_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserError:
            self._refuse(BAD_REQUEST, "this is not an HTTP request")
        except httptools.HttpParserUpgrade:
            self._on_upgrade()
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

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers of a chunked body come here as well. They are no headers: whoever let the
        # request in, a proxy for one, has not seen them there.
        if self._in_head:
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self._disarm()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        self._in_head, self._head_bytes = False, 0
        # What came before is no overhead of this body: a connection carries many requests.
        self._overhead_bytes = 0
        self._head = head = RequestHead(
            self.parser.get_method().decode(),
            self.url,
            self.parser.get_http_version(),
            self.headers,
        )
        if size > self._limits.head_bytes:
            self._refuse(HEAD_TOO_LARGE, "the head of the request is over the limit")
        elif (mistake := head.mistake()) is not None:
            self._refuse(BAD_REQUEST, mistake)
        elif not head.wants_websocket:
            self._has_body = self._bounds.begin_body(self.headers)
            if self._has_body:
                self._arm(self._limits.body_timeout_s)
            self.begin(head)

    def begin(self, head: RequestHead) -> None:
        """Start the application on a request whose head is right."""
        scope = cast("dict[str, Any]", self.scope)
        scope["method"], scope["http_version"] = head.method, head.version
        scope |= head.target_in(self.root_path)
        scope[CONNECTION_KEY] = self
        kind = RequestResponseCycle if head.version == "1.1" else OldClientCycle
        self._coalescing.expect_head()
        self._begun = True
        self.cycle = kind(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=head.expects_continue,
            keep_alive=head.keeps_alive and not self.config.closing,
            on_response=self.on_response_complete,
        )
        self.config.starts.start(self.owner, partial(self._start_asgi_task, self.cycle, self.app))

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
        if self.transport.is_closing() or self.parser.should_upgrade():
            # A parser that sees an upgrade calls the message complete after its head.
            return
        self._disarm()
        self._in_head, self._head_bytes = True, 0
        self._lingers, self._lingering_bytes = False, 0
        self._bounds.begin_head()
        super().on_message_complete()
        self._begun = False
        if self._without_upgrade:
            self._without_upgrade = False
            self.parser = httptools.HttpRequestParser(self)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._idle_since = self.loop.time()
        self._stop_waiting_ahead()
        self._read()

    # -- leaving HTTP, or not --------------------------------------------------------------------

    def _on_upgrade(self) -> None:
        if self._head.wants_websocket:
            self.handle_websocket_upgrade()
            return
        # A protocol that is not spoken here is ignored (RFC 9110, 7.8), but the parser takes what
        # follows for that protocol: the body, which might look like a request, is another's.
        if not self._has_body:
            self.parser = httptools.HttpRequestParser(self)
            self.on_message_complete()
            return
        self._without_upgrade = True
        body = BodyCallbacks(on_body=self.on_body, on_message_complete=self.on_message_complete)
        self.parser = httptools.HttpRequestParser(body)
        framing = [b"%b: %b\r\n" % each for each in self.headers if each[0] in FRAMING]
        self.parser.feed_data(b"POST / HTTP/1.1\r\nhost: x\r\n%b\r\n" % b"".join(framing))

    def handle_websocket_upgrade(self) -> None:
        self._disarm()
        if self.transport.is_closing():
            # Refused already, for its head.
            return
        if (mistake := self._head.handshake_mistake()) is not None:
            # The WebSocket's parser would wait for another handshake on it, for ever.
            self._refuse(BAD_REQUEST, mistake)
        elif not self._head.speaks_version_13:
            self._refuse(UPGRADE_REQUIRED, "version 13 is spoken here", *SPOKEN)
        elif self._ahead:
            # 6455, 4.1: a client waits for the answer. What comes before it is no frame.
            self._refuse(BAD_REQUEST, "nothing may follow the opening of a WebSocket unanswered")
        else:
            self.open_websocket()

    def open_websocket(self) -> None:
        """Hand the connection to a WebSocket, which learns from the head what was asked for."""
        self.config.keyless.leave(self)
        self.connections.discard(self)
        protocol = BoundedWebSocket(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        protocol.head = self._head
        protocol.connection_made(self._coalescing.transport)
        # Not as it came: it was judged here, and the library would stumble over what is no mistake
        # (many fields, a long cookie), in a form of its own.
        protocol.data_received(HANDSHAKE % self._head.websocket_key)
        self._coalescing.transport.set_protocol(protocol)

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
        if self._begun or not self._in_head or self._head_bytes > 0:
            self._refuse(TOO_SLOW, "the request took too long to arrive")
        else:
            self.transport.close()

    def _refuse(self, answer: ErrorAnswer, sentence: str, *headers: str) -> None:
        """Answer the request that is being read, unless it has an answer already, and close."""
        if self.transport.is_closing():
            return
        if self._begun and not self.cycle.response_started:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        elif self._begun:
            self.transport.close()
            return
        if self.config.on_refused is not None:
            self.config.on_refused(answer.code)
        body = msgspec.json.encode(Refusal(error=answer.code, message=sentence))
        status = HTTPStatus(answer.status)
        head = (
            f"HTTP/1.1 {status} {status.phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "connection: close",
            *headers,
        )
        self.transport.write("\r\n".join((*head, "", "")).encode() + body)
        self.transport.close()
