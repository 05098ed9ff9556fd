"""The session service: opens sessions, finds them, ends them, and follows the registry.

Protocols stand on it, and reach its sessions only through a `TenantSessions`. It joins
conversations to the registry: an entry there has a conversation here, and when the registry says
that an agent has ended, its conversation ends or gets another agent. All on one event loop. It
knows nothing of HTTP, of keys or of processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from frontdesk.agents.blueprints import Blueprint, Blueprints
from frontdesk.agents.ids import registry_key
from frontdesk.agents.protocol import check
from frontdesk.agents.records import CreateSession, SessionContext
from frontdesk.clock import Clock, SystemClock
from frontdesk.errors import SessionAlreadyExists, SessionLimitExceeded, SessionNotFound
from frontdesk.monitors import Watcher
from frontdesk.records import Change, ExitReason, Metadata, Snapshot
from frontdesk.sessions.admission import admit
from frontdesk.sessions.context import ServiceContext, SessionSettings
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.errors import Draining, SessionDead
from frontdesk.sessions.hooks import Guardrails, Meter, NoMeter, ToolCaller
from frontdesk.sessions.live import LiveSession, LiveSessions
from frontdesk.sessions.starting import Starter
from frontdesk.sessions.supervision import Ending
from frontdesk.sessions.tenant import TenantSessions
from frontdesk.store import SessionStore, Watch

__all__ = ["SessionService", "SessionSettings", "TenantSessions"]

_log = logging.getLogger("frontdesk.sessions")

_EXPIRED = ExitReason.of("expired")
_DELETED = ExitReason.of("deleted")
_SHUTDOWN = ExitReason.of("shutdown")
_UNKNOWN = ExitReason.of("unknown")


class SessionService:
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
        ...             for frame in await stream.next():
        ...                 print(frame.name, frame.data.split(b",")[1].decode())
        ...             stream.close()
        >>> asyncio.run(main())
        message_delta "delta":"hello"}
    """

    def __init__(
        self,
        store: SessionStore,
        blueprints: Blueprints,
        *,
        clock: Clock | None = None,
        settings: SessionSettings | None = None,
        meter: Meter | None = None,
        guardrails: Guardrails | None = None,
        call_tool: ToolCaller | None = None,
    ) -> None:
        self.blueprints = blueprints
        self._store = store
        self._house = ServiceContext(
            update_model=self._update_model,
            expire=self._expire,
            settings=settings or SessionSettings(),
            clock=clock or SystemClock(),
            meter=meter or NoMeter(),
            guardrails=guardrails,
            call_tool=call_tool,
        )
        self._watcher = Watcher()
        self._residents = LiveSessions()
        self._starter = Starter(store, house=self._house, watcher=self._watcher)
        self._ending = Ending(
            store, house=self._house, residents=self._residents, starter=self._starter
        )
        self._opening: set[str] = set()
        self._watch: Watch | None = None
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watch = self._store.watch()
        self._following = asyncio.create_task(
            self._follow(self._watch), name="frontdesk session service"
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.drain(0.0)
        if self._watch is not None and self._following is not None:
            self._watch.close()
            await asyncio.wait({self._following})
        self._watcher.close()

    @property
    def draining(self) -> bool:
        """Say whether it is draining: it takes no new sessions and no new prompts."""
        return self._house.draining

    @property
    def settings(self) -> SessionSettings:
        """Return what the operator has set."""
        return self._house.settings

    @property
    def stuck(self) -> int:
        """Return how many turns were abandoned while their task still ran, and runs now."""
        return len(self._house.stuck)

    def tenant(self, tenant_id: str, api_key: str | None) -> TenantSessions:
        """Return the sessions as a key of a tenant sees them. Cheap: make one a request."""
        return TenantSessions(self, tenant_id=tenant_id, api_key=api_key)

    async def drain(self, grace_s: float) -> None:
        """Take nothing new, let turns finish for `grace_s`, then end every session.

        Prompts that wait are not begun. Streams get `session_end{reason: "shutdown"}`. Returns
        when all have ended, at the latest the agents' own grace period after `grace_s`.
        """
        self._house.draining = True
        for resident in self._residents:
            resident.may_restart = False
            resident.conversation.prompts.hold()
        await asyncio.gather(*(self._drain_one(each, grace_s) for each in self._residents))
        await self._ending.settle()

    # -- what a tenant's desk asks ---------------------------------------------------------------

    async def open(
        self, order: CreateSession, *, tenant_id: str, api_key: str | None
    ) -> Conversation:
        """Open a session for a tenant; see `TenantSessions.create`."""
        if self._house.draining:
            raise Draining
        facts, rules = admit(
            order,
            tenant_id=tenant_id,
            blueprints=self.blueprints,
            tenants_root=self._house.settings.tenants_root,
        )
        await check(rules.recipe, facts)
        registered = self._claim(facts)
        try:
            self._check_limit(tenant_id, rules)
            return await self._open(facts, rules=rules, api_key=api_key)
        finally:
            self._opening.discard(registered)

    def live(self, registered: str, session_id: str) -> Conversation:
        """Return a live session; see `TenantSessions.find`."""
        resident = self._residents.get(registered)
        if resident is not None and self._ending.catch_up(resident):
            return resident.conversation
        raise self._absent(registered, session_id)

    def recently_ended(self, registered: str) -> Conversation | None:
        """Return the conversation that ended last under this id, while it is held."""
        return self._ending.recent.get(registered)

    def live_of_tenant(self, tenant_id: str) -> list[Conversation]:
        """Return a tenant's live sessions, those between two agents included, oldest first."""
        entries = self._store.list_by_tenant(tenant_id)
        found = [self._residents.get(each.session_id) for each in entries]
        live = {each.registered_id: each.conversation for each in found if each is not None}
        live.update(self._between_agents(tenant_id))
        return sorted(live.values(), key=lambda each: each.fence)

    async def delete(self, registered: str, session_id: str) -> None:
        """End a session; see `TenantSessions.delete`."""
        self.live(registered, session_id)
        resident = self._residents.get(registered)
        if resident is not None:
            grace_s = self._house.settings.end_grace_s
            # Shielded: a client that leaves does not keep its session from ending.
            await asyncio.shield(self._ending.begin(resident, _DELETED, grace_s=grace_s))

    # -- opening ---------------------------------------------------------------------------------

    def _claim(self, facts: SessionContext) -> str:
        registered = registry_key(facts.tenant_id, facts.session_id)
        resident = self._residents.get(registered)
        held = resident is not None and self._ending.catch_up(resident)
        if held or registered in self._opening:
            raise SessionAlreadyExists(facts.session_id, holder=self._holder(registered))
        self._opening.add(registered)
        return registered

    def _holder(self, registered: str) -> Metadata | None:
        try:
            return self._store.get(registered).metadata
        except SessionNotFound:
            return None

    async def _open(
        self, facts: SessionContext, *, rules: Blueprint, api_key: str | None
    ) -> Conversation:
        conversation = Conversation(facts, house=self._house, blueprint=rules, api_key=api_key)
        resident = LiveSession(conversation)
        try:
            await self._starter.start(resident)
        except BaseException:
            conversation.expiry.cancel()
            raise
        self._residents.add(resident)
        self._ending.attend(resident)
        return conversation

    def _check_limit(self, tenant_id: str, rules: Blueprint) -> None:
        limit = rules.max_sessions_per_tenant
        if limit is None or self._residents.count(tenant_id, rules.name) < limit:
            return
        for resident in self._residents:
            if resident.conversation.tenant_id == tenant_id:
                self._ending.catch_up(resident)
        if self._residents.count(tenant_id, rules.name) >= limit:
            raise SessionLimitExceeded(scope="per_tenant", limit=limit)

    # -- looking ---------------------------------------------------------------------------------

    def _absent(self, registered: str, session_id: str) -> SessionNotFound:
        ended = self._ending.recent.get(registered)
        if ended is not None and ended.ended is not None:
            return SessionDead(session_id, reason=ended.ended)
        try:
            return SessionDead(session_id, reason=self._store.ended(registered).reason)
        except SessionNotFound:
            return SessionNotFound(session_id)

    def _between_agents(self, tenant_id: str) -> Iterator[tuple[str, Conversation]]:
        for each in self._residents:
            if each.runner is None and each.conversation.tenant_id == tenant_id:
                yield each.registered_id, each.conversation

    # -- ending ----------------------------------------------------------------------------------

    async def _follow(self, watch: Watch) -> None:
        """Hear from the registry which agents have ended. One error does not end the hearing."""
        async for item in watch:
            try:
                self._hear(item)
            except Exception:  # noqa: BLE001 - logged; the next change is heard all the same
                _log.exception("a change of the registry could not be followed")

    def _hear(self, item: Change | Snapshot) -> None:
        if isinstance(item, Snapshot):
            # What ended while changes were missed is found by asking for each.
            for resident in self._residents:
                self._ending.catch_up(resident)
        elif item.kind == "ended":
            ended = self._residents.get(item.session.session_id)
            if ended is not None:
                self._ending.conclude(ended, item.session.fence, item.reason or _UNKNOWN)

    async def _drain_one(self, resident: LiveSession, grace_s: float) -> None:
        turn = resident.conversation.turn
        if turn is not None and grace_s > 0:
            await asyncio.wait({turn.done}, timeout=grace_s)
        await self._ending.begin(resident, _SHUTDOWN, grace_s=self._house.settings.end_grace_s)

    def _expire(self, conversation: Conversation) -> None:
        resident = self._residents.of(conversation)
        if resident is not None:
            self._ending.begin(resident, _EXPIRED, grace_s=self._house.settings.end_grace_s)

    def _update_model(self, conversation: Conversation, model: str) -> None:
        resident = self._residents.of(conversation)
        if resident is not None and resident.runner is not None:
            # An agent that has just died is heard of in its own time.
            with contextlib.suppress(SessionNotFound):
                self._store.update(resident.registered_id, model=model)
