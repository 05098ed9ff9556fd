"""The WebSocket: actions come in, their answers and the session's events go out.

Beside the event stream, above the conversation. One task answers actions, one sends events, and a
lock between them keeps the order that the contract wants: the answer to an action goes out before
any event that the action causes. Pings, the greatest message and stalled clients are the server's
affair (`http_protocol.py`, `server.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from frontdesk.errors import FrontdeskError
from frontdesk.gateway.actions import parsed, socket_answer, understood
from frontdesk.gateway.client_connection import connection_of
from frontdesk.gateway.event_frames import messages
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.open_streams import StreamKind
from frontdesk.gateway.problems import problem_of
from frontdesk.gateway.queries import StreamQuery, query_of
from frontdesk.gateway.request_context import Message, RequestContext
from frontdesk.schemas.answer_schemas import Answer
from frontdesk.schemas.refusal import Refusal
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.errors import ReaderTooSlow, SessionDead

ENDED, GOING_AWAY, REVOKED, FAILED, TOO_SLOW = 1000, 1001, 1008, 1011, 1013
FAILURE = FAILED, "the gateway failed"
AWAY = GOING_AWAY, "the gateway ends; connect again with ?since="
MAX_REFUSED = 20
"""Messages in a row that the rate limit refuses before the socket is closed."""


class SessionSocket:
    """One client's WebSocket to one conversation."""

    __slots__ = (
        "_closing",
        "_context",
        "_gateway",
        "_reader",
        "_refused",
        "_sending",
        "_session_id",
    )

    def __init__(self, gateway: Gateway, context: RequestContext, *, session_id: str) -> None:
        self._gateway, self._context, self._session_id = gateway, context, session_id
        self._sending = asyncio.Lock()
        self._refused = 0
        self._closing: tuple[int, str] = (ENDED, "the session has ended")

    async def run(self) -> None:
        """Answer and send until the session ends, the client leaves, or its key is revoked."""
        await self._context.receive_on()  # websocket.connect
        query = query_of(self._context.query, StreamQuery)
        conversation = self._context.tenant_sessions.recent(self._session_id)
        since = query.since
        if conversation.ended is not None and since is None:
            # A socket is for talking; what a session that has ended said is read from its stream.
            raise SessionDead(self._session_id, reason=conversation.ended)
        self._reader = await conversation.open_stream(
            since=since, types=query.wanted, from_now=since is None
        )
        key = self._context.tenant_key
        try:
            self._gateway.streams.enter(key, self._on_key_revoked, kind=StreamKind.WEBSOCKET)
            # An OSError is how the server says that the client has left in the middle.
            with suppress(OSError):
                await self._context.send({"type": "websocket.accept"})
                if self._reader.has_gap:
                    self._gateway.metrics.requests.on_gap()
                await self._serve(conversation)
        finally:
            self._gateway.streams.leave(key, self._on_key_revoked)
            self._reader.close()

    async def _serve(self, conversation: Conversation) -> None:
        sender = asyncio.create_task(self._send_events(conversation))
        try:
            while (message := await self._context.receive_on())["type"] == "websocket.receive":
                asked, do = await self._understood(conversation, message)
                async with self._sending:
                    # The lock is fair: events that the action causes come after its answer, which
                    # comes once it is stored.
                    try:
                        answer = do()
                        await conversation.committed()
                    except FrontdeskError as error:
                        answer = problem_of(error).refusal
                    if isinstance(answer, Refusal):
                        self._gateway.metrics.requests.on_refused(answer.error)
                    await self._send(socket_answer(asked, answer))
                if self._refused > MAX_REFUSED:
                    self._closing = (REVOKED, "too many requests")
                    break
                # What has come already costs no wait: without this, a burst is one turn.
                await asyncio.sleep(0)
            else:
                self._closing = (0, "")
        except Exception:
            # Or the client has left, and nobody hears this.
            self._closing = FAILURE
            raise
        finally:
            # The reader's end is the sender's: it closes the socket and returns.
            self._reader.close()
            with suppress(OSError):
                await sender

    async def _understood(
        self, conversation: Conversation, message: Message
    ) -> tuple[dict[str, Any] | None, Callable[[], Answer | Refusal]]:
        """Return a message, None where it is none, and what carries it out."""
        content = message.get("text")
        asked: dict[str, Any] | None = None
        try:
            self._refused += 1
            key = self._context.tenant_key
            if not key.forwarded:
                await self._gateway.count(key.key_id)
            self._refused = 0
            asked = parsed(content if content is not None else message.get("bytes") or b"")
            limit = self._gateway.config.limits.text_characters
            return asked, await understood(
                conversation,
                asked,
                key=key,
                max_text_characters=limit,
                reader=self._gateway.attachments,
            )
        except FrontdeskError as error:
            refusal = problem_of(error).refusal
            return asked, lambda: refusal

    async def _send_events(self, conversation: Conversation) -> None:
        """Send until the reader ends, and say why the socket closes, also after a failure."""
        try:
            while (batch := await self._reader.next()) is not None:
                async with self._sending:
                    for text in messages(batch):
                        await self._send(text)
            if conversation.log.over and not conversation.log.ended and self._closing[0] == ENDED:
                self._closing = AWAY
        except ReaderTooSlow:
            self._gateway.metrics.requests.on_slow_reader()
            self._closing = (TOO_SLOW, "too slow; connect again with ?since=")
        except Exception:
            self._closing = FAILURE
            raise
        finally:
            code, reason = self._closing
            if code:
                close = {"type": "websocket.close", "code": code, "reason": reason}
                await self._context.send_on(close)

    async def _send(self, text: bytes) -> None:
        await self._context.send_on({"type": "websocket.send", "text": text.decode()})

    def _on_key_revoked(self) -> None:
        """Close because the key opens nothing any more, or because the gateway ends."""
        self._closing = (
            AWAY if self._gateway.draining else (REVOKED, "the key opens nothing any more")
        )
        self._reader.close()
        if (connection := connection_of(self._context.scope)) is not None:
            connection.abort_if_stalled()
