"""The event stream: server-sent events, written directly as ASGI, for it is the hot path.

Beside the WebSocket, above the conversation, whose reader it follows with a cursor: there is no
queue per stream. One task a stream, which is the server's own. What the reader has is sent in one
piece, however many events it is. Where the server is ours, the connection (`client_connection.py`)
tells at once when the client leaves; under another server a second task listens for that.
"""

from __future__ import annotations

import asyncio

from frontdesk.gateway.client_connection import connection_of
from frontdesk.gateway.event_frames import enveloped_frame, frames, named_frame
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.open_streams import StreamKind
from frontdesk.gateway.queries import EventStreamQuery, query_of
from frontdesk.gateway.request_context import Message, RequestContext
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.errors import ReaderTooSlow

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
HEARTBEAT_HEADER = b"x-frontdesk-heartbeat"
"""How many seconds pass at most before a stream gives a sign of life."""
WELCOME = b": welcome\n\n"
HEARTBEAT = b": still here\n\n"
RETRY = b"retry: 1000\n\n"
"""How soon a client comes again where the gateway ends and its stream does not."""


class EventStream:
    """One client's stream of one conversation.

    As few frames and helpers as it can be made of: what is alive while the stream waits is what an
    idle stream costs.
    """

    __slots__ = ("_context", "_gateway", "_heartbeat", "_listener", "_reader", "_session_id")

    def __init__(self, gateway: Gateway, context: RequestContext, *, session_id: str) -> None:
        self._gateway, self._context, self._session_id = gateway, context, session_id
        self._heartbeat: asyncio.TimerHandle | None = None
        self._listener: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Send events until the session ends, the client leaves, or its key is revoked."""
        query = query_of(self._context.query, EventStreamQuery)
        conversation = self._context.tenant_sessions.recent(self._session_id)
        since = self._context.header(b"last-event-id") or query.since
        self._reader = await conversation.open_stream(since=since, types=query.wanted)
        if self._reader.drained:
            self._reader.close()
            # EventSource comes again after every end, but not after this.
            await self._context.answer(204, b"")
            return
        encoder = enveloped_frame if query.envelope else named_frame
        key = self._context.tenant_key
        try:
            self._gateway.streams.enter(key, self._on_key_revoked, kind=StreamKind.EVENTS)
            await self._context.send(start(self._gateway.config.streams.heartbeat_s))
            if self._reader.has_gap:
                self._gateway.metrics.requests.on_gap()
            # Headers alone may wait in a proxy; a first comment takes them along.
            await self._send(WELCOME)
            self._schedule_heartbeat()
            if (connection := connection_of(self._context.scope)) is not None:
                connection.on_disconnect = self._reader.close
            else:
                self._listener = asyncio.create_task(self._wait_for_disconnect())
            while (batch := await self._reader.next()) is not None:
                await self._send(frames(batch, encoder) or HEARTBEAT)
            await self._end(conversation)
        except ReaderTooSlow:
            self._gateway.metrics.requests.on_slow_reader()
            # The client is disconnected after what was sent, and can resume after that.
            await self._context.send_on(end())
        finally:
            self._gateway.streams.leave(key, self._on_key_revoked)
            self._reader.close()
            if self._heartbeat is not None:
                self._heartbeat.cancel()
            if self._listener is not None:
                self._listener.cancel()
            if (connection := connection_of(self._context.scope)) is not None:
                connection.on_disconnect = None

    async def _end(self, conversation: Conversation) -> None:
        """End the stream. Where its log goes on elsewhere, its client comes again soon."""
        if conversation.log.over and not conversation.log.ended:
            await self._send(RETRY)
        await self._context.send_on(end())

    async def head(self) -> None:
        """Answer as the stream would begin, without one."""
        query_of(self._context.query, EventStreamQuery)
        self._context.tenant_sessions.recent(self._session_id)
        await self._context.send(start(self._gateway.config.streams.heartbeat_s))
        await self._context.send_on(end())

    async def _send(self, body: bytes) -> None:
        await self._context.send_on({"type": "http.response.body", "body": body, "more_body": True})

    # -- what comes from outside -----------------------------------------------------------------

    def _schedule_heartbeat(self) -> None:
        heartbeat_s = self._gateway.config.streams.heartbeat_s
        self._heartbeat = asyncio.get_running_loop().call_later(heartbeat_s, self._on_heartbeat)

    def _on_heartbeat(self) -> None:
        # The reader's `next` returns with what there is: nothing, as a rule, and that is the sign.
        self._reader.nudge()
        self._schedule_heartbeat()

    async def _wait_for_disconnect(self) -> None:
        while (await self._context.receive_on())["type"] != "http.disconnect":
            pass
        self._reader.close()

    def _on_key_revoked(self) -> None:
        """End the stream because its key opens nothing any more, even where it waits to write."""
        self._reader.close()
        if (connection := connection_of(self._context.scope)) is not None:
            connection.abort_if_stalled()


def start(heartbeat_s: float) -> Message:
    """Begin a stream; a client that hears nothing for longer knows that it was cut."""
    heartbeat = (HEARTBEAT_HEADER, f"{heartbeat_s:g}".encode())
    return {"type": "http.response.start", "status": 200, "headers": (*HEADERS, heartbeat)}


def end() -> Message:
    return {"type": "http.response.body", "body": b"", "more_body": False}
