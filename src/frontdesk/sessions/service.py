"""The session service: opens sessions, finds them, ends them, and follows the registry.

An entry in the registry has a conversation here, and when the registry says that an agent has
ended, its conversation ends or gets another agent. Protocols reach sessions only through a
`TenantSessions`, which puts its tenant's id into every question. All on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Self

from frontdesk.records import Change, Ended, ExitReason, Snapshot
from frontdesk.sessions.hooks import (
    TurnTracer,
)
from frontdesk.sessions.live import LiveSession
from frontdesk.sessions.session_opening import SessionOpening
from frontdesk.sessions.tenant_sessions import OneConversation, TenantSessions
from frontdesk.store import Watch

_log = logging.getLogger("frontdesk.sessions")
_SHUTDOWN = ExitReason.of("shutdown")


class SessionService(SessionOpening):
    """Open, find and end sessions over a registry. Use it with `async with`, on one event loop.

    `blueprints` may be replaced while it runs: sessions keep the blueprint that they began with.
    Leaving the block ends every session; `drain` before that gives turns their time.

    Examples:
        >>> import asyncio
        >>> from frontdesk import SessionStore
        >>> from frontdesk.agents import Blueprints, CreateSession, blueprint
        >>> from frontdesk.sessions import SessionService
        >>> @blueprint("parrot")
        ... async def parrot(turn):
        ...     yield turn.text
        >>> async def main():
        ...     with SessionStore() as store:
        ...         async with SessionService(store, Blueprints([parrot])) as service:
        ...             acme = service.tenant("acme", api_key="key-1")
        ...             session = await acme.create(CreateSession(model="none"))
        ...             session.prompt("hello")
        ...             stream = session.subscribe(types=frozenset({"message_delta"}))
        ...             for logged in await stream.next():
        ...                 print(logged.name, logged.json.split(b",")[1].decode())
        ...             stream.close()
        >>> asyncio.run(main())
        message_delta "delta":"hello"}
    """

    def trace(self, tracer: TurnTracer) -> None:
        """Have turns traced that begin from now on."""
        self._context.tracer = tracer

    async def __aenter__(self) -> Self:
        self._watch = self._store.watch()
        self._following = asyncio.create_task(
            self._follow(self._watch), name="frontdesk session service"
        )
        if self._keeping is not None:
            await self._keeping.recover()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._keeping is not None:
            await self._keeping.close()
        await self.drain(0.0)
        if self._watch is not None and self._following is not None:
            self._watch.close()
            await asyncio.wait({self._following})
        self._watcher.close()

    def tenant(
        self, tenant_id: str, api_key: str | None, *, only: OneConversation | None = None
    ) -> TenantSessions:
        """Return the sessions as a key of a tenant sees them. Cheap: make one a request.

        With `only`, there is none for it but that one.
        """
        return TenantSessions(self, tenant_id=tenant_id, api_key=api_key, only=only)

    def begin_draining(self) -> None:
        """Take no new sessions and no new prompts from now on."""
        self._context.draining = True

    async def drain(self, grace_s: float) -> None:
        """Take nothing new, let turns finish for `grace_s`, then end every agent.

        Prompts that wait are not begun. What is stored is dormant then; streams of the rest get
        `session_end{reason: "shutdown"}`. Returns when all have ended, at the latest the agents'
        own grace period after `grace_s`.
        """
        self.begin_draining()
        for live_session in self._live:
            live_session.conversation.prompts.pause()

        async def end(live_session: LiveSession) -> None:
            turn = live_session.conversation.turn
            if turn is not None and grace_s > 0:
                await asyncio.wait({turn.done}, timeout=grace_s)
            await self._supervisor.begin_ending(live_session, _SHUTDOWN, dormant=True)

        await asyncio.gather(*map(end, self._live))
        await self._supervisor.join()
        if self._keeping is not None:
            await self._keeping.rest()

    async def _follow(self, watch: Watch) -> None:
        """Learn from the registry which agents have ended. One error does not end the watch."""
        async for item in watch:
            try:
                self._on_change(item)
            except Exception:  # noqa: BLE001 - logged; the next change is handled all the same
                _log.exception("a change of the registry could not be followed")

    def _on_change(self, item: Change | Snapshot) -> None:
        if isinstance(item, Snapshot):
            # What ended while changes were missed is found by asking for each.
            for live_session in self._live:
                self._supervisor.refresh(live_session)
        elif isinstance(item, Ended):
            ended = self._live.get(item.session.session_id)
            if ended is not None:
                self._supervisor.on_agent_exit(ended, item.session.fence, item.reason)
