"""The wire of WebSockets: uvicorn's protocol, with the bounds that it does not have.

Beside `http_protocol.py`, which hands it a connection once the handshake is known to be right. What
is done with the messages is the affair of `websocket.py`.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request
from websockets.protocol import State

from frontdesk.gateway.client_connection import CONNECTION_KEY, ClientConnection, WireConfig
from frontdesk.gateway.http_framing import RequestHead

PIECE_BYTES = 4 * 1024
"""How much of what came is parsed in one turn of the loop."""
MAX_CONTROL_FRAMES, CONTROL_WINDOW_S = 100, 10.0
"""Pings and pongs of a client in a while; whoever sends more is disconnected."""
MAX_FRAGMENTS = 1024


class BoundedWebSocket(ClientConnection, WebSocketsSansIOProtocol):
    """A WebSocket that drops a client that does not read, and takes a turn of the loop for little.

    What has come is parsed in pieces, one a turn, and only once what came before it is answered.
    """

    config: WireConfig
    head: RequestHead

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._ahead = bytearray()
        self._next_piece: asyncio.Handle | None = None
        self._control_frames, self._window_since = 0, self.loop.time()
        self.begin_bounds()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ahead.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._ahead += data
        if self._next_piece is None:
            self._read_piece()

    def _read_piece(self) -> None:
        """Parse a little of what has come, and the rest in later turns of the loop."""
        self._next_piece = None
        if self._is_behind():
            return
        # The handshake was bounded as a head.
        size = PIECE_BYTES if self.handshake_initiated else len(self._ahead)
        piece = bytes(self._ahead[:size])
        del self._ahead[:size]
        super().data_received(piece)
        self._go_on()

    def _is_behind(self) -> bool:
        """Tell whether the application has yet to take what came. One that has closed takes none:
        what comes then is the client's answer to the close, and what it had sent before.
        """
        return self.handshake_initiated and not self.close_sent and not self.queue.empty()

    def _go_on(self) -> None:
        """Read on where nothing waits, else pause."""
        busy = bool(self._ahead) or self._is_behind()
        if self.transport.is_closing():
            self._ahead.clear()
        elif busy != self.read_paused:
            self.read_paused = busy
            (self.transport.pause_reading if busy else self.transport.resume_reading)()
        if self._ahead and self._next_piece is None:
            self._next_piece = self.loop.call_soon(self._read_piece)

    async def receive(self) -> Any:
        message = await self.queue.get()
        self._go_on()
        return message

    async def send(self, message: Any) -> None:
        if self.close_sent and self.initial_response is None:
            # Closed for what came after the message that this answers: nobody is there, and
            # uvicorn would take it for a fault of the application.
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.close":
            self._go_on()
        if message["type"] == "websocket.http.response.body":
            # A refusal ends a handshake: uvicorn would log that the application forgot it.
            self.handshake_complete = True

    def handle_ping(self) -> None:
        self._count_control_frame()
        super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        self._count_control_frame()
        super().handle_pong(event)

    def _count_control_frame(self) -> None:
        if self.loop.time() - self._window_since > CONTROL_WINDOW_S:
            self._control_frames, self._window_since = 0, self.loop.time()
        self._control_frames += 1
        if self._control_frames > MAX_CONTROL_FRAMES:
            self._fail(CloseCode.POLICY_VIOLATION)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MAX_FRAGMENTS:
            # Empty ones weigh nothing by the message's size.
            self._fail(CloseCode.MESSAGE_TOO_BIG)
        else:
            super().handle_cont(event)

    def _fail(self, code: CloseCode) -> None:
        """Close because of what the client did."""
        self.frames: list[bytes] = []
        if not self.close_sent and self.conn.state is State.OPEN:
            self.conn.send_close(code)
            self.handle_parser_exception()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        # The application's task has been made but has not run yet: it will find this.
        scope = cast("dict[str, Any]", self.scope)
        scope |= self.head.target_in(self.root_path)
        scope[CONNECTION_KEY] = self

    def send_receive_event_to_app(self) -> None:
        try:
            if self.curr_msg_data_type == "text":
                b"".join(self.frames).decode()
        except UnicodeDecodeError:
            # The client's fault, which uvicorn would log as ours, with a traceback.
            self._fail(CloseCode.INVALID_DATA)
            return
        super().send_receive_event_to_app()
