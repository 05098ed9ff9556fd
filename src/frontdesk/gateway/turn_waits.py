"""Requests that wait for the end of a turn.

Used by the routes that accept a prompt. A wait has a place like an open stream: so many for each
key, taken before anything is accepted. It is over with the turn, which always has an end, or with
its time, or when the client leaves; the turn knows nothing of it, and goes on.
"""

from __future__ import annotations

import asyncio
from typing import Any, Self

from frontdesk.gateway.client_connection import connection_of
from frontdesk.gateway.errors import Unauthorized
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.open_streams import StreamKind
from frontdesk.gateway.request_context import RequestContext
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.turn_ends import TurnEnd


class TurnWait:
    """The place of one request that waits. A context manager; `RateLimited` where there is none."""

    __slots__ = ("_broken_off", "_context", "_gateway", "_listener", "_revoked")

    def __init__(self, gateway: Gateway, context: RequestContext) -> None:
        self._gateway, self._context = gateway, context
        self._broken_off: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listener: asyncio.Task[None] | None = None
        self._revoked = False

    def __enter__(self) -> Self:
        self._gateway.streams.enter(
            self._context.tenant_key, self._on_key_revoked, kind=StreamKind.WAIT
        )
        if (connection := connection_of(self._context.scope)) is not None:
            connection.on_disconnect = self._break_off
            if connection.transport.is_closing():
                self._break_off()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._gateway.streams.leave(self._context.tenant_key, self._on_key_revoked)
        if self._listener is not None:
            self._listener.cancel()
        if (connection := connection_of(self._context.scope)) is not None:
            connection.on_disconnect = None

    async def for_end(
        self, conversation: Conversation, request_id: str, *, wait_s: float
    ) -> TurnEnd | None:
        """Wait for a turn's end; None where the time is over, or nobody waits any more.

        At most the deadline of a turn. `Unauthorized` where the key is revoked meanwhile.
        """
        if connection_of(self._context.scope) is None:
            self._listener = asyncio.create_task(self._wait_for_disconnect())
        ended = asyncio.create_task(conversation.end_of(request_id))
        waited_for: set[asyncio.Future[Any]] = {ended, self._broken_off}
        try:
            await asyncio.wait(
                waited_for,
                timeout=min(wait_s, conversation.turn_timeout_s),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            ended.cancel()
        if self._revoked and not self._gateway.draining:
            raise Unauthorized
        return ended.result() if ended.done() and not ended.cancelled() else None

    async def _wait_for_disconnect(self) -> None:
        while (await self._context.receive_on())["type"] != "http.disconnect":
            pass
        self._break_off()

    def _on_key_revoked(self) -> None:
        self._revoked = True
        self._break_off()

    def _break_off(self) -> None:
        if not self._broken_off.done():
            self._broken_off.set_result(None)
