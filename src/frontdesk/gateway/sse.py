"""The event stream: server-sent events, written directly as ASGI, for it is the hot path.

Beside the WebSocket, above the conversation, whose reader it follows with a cursor: there is no
queue per stream. One task a stream, which is the server's own. What the reader has is sent in one
piece, however many events it is. Where the server is ours (`http_protocol.py`), it tells at once
when the client leaves; under another server a second task listens for that.
"""

from __future__ import annotations

import asyncio

import msgspec

from frontdesk.agents.events import Error
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.http_protocol import connection_of
from frontdesk.gateway.request_context import Message, RequestContext, since_of, types_of
from frontdesk.sessions.errors import ReaderTooSlow
from frontdesk.sessions.event_log import LoggedEvent
from frontdesk.sessions.event_reader import EventReader, Gap

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
WELCOME = b": welcome\n\n"
HEARTBEAT = b": still here\n\n"


class EventStream:
    """One client's stream of one conversation.

    As few frames and helpers as it can be made of: what is alive while the stream waits is what an
    idle stream costs.
    """

    __slots__ = ("_beat", "_gateway", "_listener", "_passage", "_reader", "_session_id")

    def __init__(self, gateway: Gateway, passage: RequestContext, *, session_id: str) -> None:
        self._gateway, self._passage, self._session_id = gateway, passage, session_id
        self._beat: asyncio.TimerHandle | None = None
        self._listener: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Send events until the session ends, the client leaves, or its key is revoked."""
        self._reader = self._subscribe()
        if self._reader.drained:
            self._reader.close()
            # EventSource comes again after every end, but not after this.
            await self._passage.answer(204, b"")
            return
        key = self._passage.tenant_key
        try:
            self._gateway.streams.enter(key, self._cut)
            await self._passage.send(start())
            # Headers alone may wait in a proxy; a first comment takes them along.
            await self._send(WELCOME)
            self._attend()
            while (batch := await self._reader.next()) is not None:
                await self._send(joined(batch) or HEARTBEAT)
            await self._passage.send_on(end())
        except ReaderTooSlow:
            # The client is disconnected after what was sent, and can resume after that.
            await self._passage.send_on(end())
        finally:
            self._gateway.streams.leave(key, self._cut)
            self._release()

    def _subscribe(self) -> EventReader:
        conversation = self._passage.tenant_sessions.recent(self._session_id)
        since = self._passage.header(b"last-event-id") or since_of(self._passage)
        return conversation.subscribe(since=since, types=types_of(self._passage))

    async def _send(self, body: bytes) -> None:
        await self._passage.send_on({"type": "http.response.body", "body": body, "more_body": True})

    # -- what comes from outside -----------------------------------------------------------------

    def _attend(self) -> None:
        """Begin to beat, and to notice when the client leaves."""
        self._arm()
        connection = connection_of(self._passage.scope)
        if connection is None:
            self._listener = asyncio.create_task(self._listen())
        else:
            connection.on_leaving = self._reader.close

    def _release(self) -> None:
        self._reader.close()
        if self._beat is not None:
            self._beat.cancel()
        if self._listener is not None:
            self._listener.cancel()
        if (connection := connection_of(self._passage.scope)) is not None:
            connection.on_leaving = None

    def _arm(self) -> None:
        heartbeat_s = self._gateway.config.streams.heartbeat_s
        self._beat = asyncio.get_running_loop().call_later(heartbeat_s, self._nudge)

    def _nudge(self) -> None:
        # The reader's `next` returns with what there is: nothing, as a rule, and that is a beat.
        self._reader.nudge()
        self._arm()

    async def _listen(self) -> None:
        while (await self._passage.receive_on())["type"] != "http.disconnect":
            pass
        self._reader.close()

    def _cut(self) -> None:
        """End the stream because its key opens nothing any more, even where it waits to write."""
        self._reader.close()
        if (connection := connection_of(self._passage.scope)) is not None:
            connection.hang_up_if_stalled()


def start() -> Message:
    return {"type": "http.response.start", "status": 200, "headers": HEADERS}


def end() -> Message:
    return {"type": "http.response.body", "body": b"", "more_body": False}


def joined(batch: list[LoggedEvent] | Gap) -> bytes:
    """Return what the reader gave as the bytes of a stream."""
    if isinstance(batch, Gap):
        # Without an id: it is no event of the session.
        return b"event: %b\ndata: %b\n\n" % (Error.name.encode(), msgspec.json.encode(batch))
    if len(batch) == 1:
        return batch[0].encoded(server_sent_event)
    return b"".join([logged.encoded(server_sent_event) for logged in batch])


def server_sent_event(logged: LoggedEvent) -> bytes:
    """Encode an event for event streams."""
    head = f"id: {logged.id}\nevent: {logged.name}\ndata: ".encode()
    return b"%b%b\n\n" % (head, logged.json)
