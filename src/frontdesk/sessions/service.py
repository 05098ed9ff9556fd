"""The session service: opens sessions, finds them, ends them, and follows the registry.

An entry in the registry has a conversation here, and when the registry says that an agent has
ended, its conversation ends or gets another agent. Protocols reach sessions only through a
`TenantSessions`, which puts its tenant's id into every question. All on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from frontdesk.agents.attachments import Attachment
from frontdesk.agents.blueprints import Blueprint, Blueprints
from frontdesk.agents.events import AgentRestarted
from frontdesk.agents.ids import check_session_id, check_tenant, registry_key
from frontdesk.agents.protocol import check
from frontdesk.agents.records import Accepted, CreateSession, SessionContext
from frontdesk.clock import Clock, SystemClock
from frontdesk.errors import (
    InvalidArgument,
    SessionAlreadyExists,
    SessionLimitExceeded,
    SessionNotFound,
)
from frontdesk.monitors import Watcher
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.stored import StoredConversation
from frontdesk.records import Change, Ended, ExitReason, Fence, Snapshot
from frontdesk.sessions.admission import admit, admit_fork
from frontdesk.sessions.attachment_room import AttachmentRoom, require_types
from frontdesk.sessions.context import ServiceContext, SessionSettings
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.conversation_record import ConversationRecord
from frontdesk.sessions.errors import Draining, NotStored, SessionDead
from frontdesk.sessions.exporting import exported
from frontdesk.sessions.forking import ForkSource, fork_source
from frontdesk.sessions.hooks import (
    Budgets,
    Guardrails,
    Meter,
    NoMeter,
    SessionObserver,
    ToolCaller,
    TurnTracer,
)
from frontdesk.sessions.importing import ImportedConversation
from frontdesk.sessions.input_checks import checked_prompt
from frontdesk.sessions.keeping import Keeping
from frontdesk.sessions.keeping_settings import KeepingSettings, StorageLimits
from frontdesk.sessions.listing import SessionPage, SessionQuery, number_after
from frontdesk.sessions.live import LiveSession, LiveSessions
from frontdesk.sessions.reservations import Place, Reservations
from frontdesk.sessions.stored_sessions import StoredSessions
from frontdesk.sessions.supervision import Supervisor
from frontdesk.store import SessionStore, Watch

if TYPE_CHECKING:
    # Late: without a cluster, nothing of it is imported.
    from frontdesk.cluster.node import Node

MAX_PAGE = 1000
NUMBERED_NODES = 1024
"""So many processes give conversations numbers at a time; 63 bits last until the year 2255."""

FORKED = "forked"
"""Why the first agent of a fork is one that takes over: the reason of its first event."""

_log = logging.getLogger("frontdesk.sessions")

_EXPIRED = ExitReason.of("expired")
_DELETED = ExitReason.of("deleted")
_SHUTDOWN = ExitReason.of("shutdown")
_SUPERSEDED = ExitReason.of("superseded")
_LOST = ExitReason.of("lost")


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
        ...             for logged in await stream.next():
        ...                 print(logged.name, logged.json.split(b",")[1].decode())
        ...             stream.close()
        >>> asyncio.run(main())
        message_delta "delta":"hello"}
    """

    def __init__(
        self,
        store: SessionStore[Any],
        blueprints: Blueprints,
        *,
        clock: Clock | None = None,
        settings: SessionSettings | None = None,
        meter: Meter | None = None,
        budgets: Budgets | None = None,
        guardrails: Guardrails | None = None,
        call_tool: ToolCaller | None = None,
        observer: SessionObserver | None = None,
        node: Node | None = None,
        commits: CommitQueue | None = None,
        keeping: KeepingSettings | None = None,
    ) -> None:
        self._blueprints = blueprints
        self._store = store
        self._context = ServiceContext(
            update_model=self._on_model_switched,
            expire=self._on_expired,
            settings=settings or SessionSettings(),
            clock=clock or SystemClock(),
            meter=meter or NoMeter(),
            budgets=budgets,
            guardrails=guardrails,
            call_tool=call_tool,
            observer=observer,
            node=node,
            commits=commits,
        )
        self._watcher, self._live = Watcher(), LiveSessions()
        self._reservations = Reservations(store)
        self._supervisor = self._make_supervisor()
        self._keeping: Keeping | None = self._make_keeping(keeping)
        self.stored: StoredSessions = self._make_stored_sessions()
        self._latest_number = 0
        self._watch: Watch | None = None
        self._following: asyncio.Task[None] | None = None

    def _make_supervisor(self) -> Supervisor:
        return Supervisor(
            self._store,
            service=self._context,
            live_sessions=self._live,
            reservations=self._reservations,
            watcher=self._watcher,
            on_live=self._on_live,
            on_dormant=self._on_dormant,
            on_place_free=self._on_place_free,
        )

    def _make_stored_sessions(self) -> StoredSessions:
        return StoredSessions(
            live_sessions=self._live,
            supervisor=self._supervisor,
            keeping=self._keeping,
            find=self.live,
            living=self.live_of_tenant,
        )

    def _make_keeping(self, settings: KeepingSettings | None) -> Keeping | None:
        """Return what deals with stored conversations, where there are any."""
        if self._context.commits is None:
            return None
        self._context.commits.on_lost = self._on_lost
        return Keeping(
            self._context.commits,
            context=self._context,
            live_sessions=self._live,
            reservations=self._reservations,
            supervisor=lambda: self._supervisor,
            blueprints=lambda: self.blueprints,
            refuse_over_limit=self._refuse_resuming,
            settings=settings or KeepingSettings(),
        )

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

    @property
    def blueprints(self) -> Blueprints:
        """What sessions are opened from, and dormant ones resumed."""
        return self._blueprints

    @blueprints.setter
    def blueprints(self, blueprints: Blueprints) -> None:
        self._blueprints = blueprints
        if self._keeping is not None:
            self._keeping.on_blueprints_changed()

    @property
    def draining(self) -> bool:
        """Say whether it is draining: it takes no new sessions and no new prompts."""
        return self._context.draining

    def follow_limits(self, limits: StorageLimits) -> None:
        """Have other limits of what is stored from now on."""
        if self._keeping is not None:
            self._keeping.limits = limits

    @property
    def stores(self) -> bool:
        """Say whether conversations are stored, so that they outlive it."""
        return self._keeping is not None

    @property
    def settings(self) -> SessionSettings:
        """Return what the operator has set."""
        return self._context.settings

    @property
    def stuck(self) -> int:
        """Return how many turns were abandoned while their task still ran, and runs now."""
        return len(self._context.stuck)

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

    # -- what the cluster's node calls -----------------------------------------------------------

    def on_superseded(self, key: str, fence: Fence) -> None:
        """Stop the agent of this entry: another node's has the id by now. No later one of it."""
        self._stop_entry(key, fence, _SUPERSEDED)

    def on_isolated(self, key: str, fence: Fence) -> None:
        """Stop the agent of this entry: cut off, this node may soon not be its owner any more."""
        self._stop_entry(key, fence, _LOST)

    # -- what a tenant's sessions ask, by registry key -------------------------------------------

    async def open(
        self,
        request: CreateSession,
        *,
        tenant_id: str,
        api_key: str | None,
        first: Callable[[Conversation], None] | None = None,
    ) -> Conversation:
        """Open a session for a tenant; see `TenantSessions.create`."""
        if self._context.draining:
            raise Draining
        source = await self._fork_source(request, tenant_id)
        context, rules = await self._admitted(request, tenant_id, source)
        key = registry_key(tenant_id, context.session_id)
        minted = request.session_id is None
        stored = self.stores and rules.durable and not request.ephemeral
        if self._keeping is not None:
            await self._refuse_stored(self._keeping, context, minted=minted, stored=stored)
        self._refuse_taken(key, context.session_id)
        self._refuse_over_limit(tenant_id, rules)
        self._reservations.refuse_over_limit(tenant_id, api_key)
        # From here on nothing waits until the place is reserved: no burst gets past a limit.
        self._reservations.reserve(key, Place(tenant_id, api_key, rules.name))
        try:
            conversation = Conversation(
                context,
                service=self._context,
                blueprint=rules,
                api_key=api_key,
                number=self._next_number(),
                stored=stored,
            )
            conversation.label = request.label
            if source is not None:
                conversation.take_over(source)
            live_session = LiveSession(conversation, key=key, minted=minted)
            return await self._opened(live_session, source, first)
        finally:
            self._reservations.release(key)

    async def _admitted(
        self, request: CreateSession, tenant_id: str, source: ForkSource | None
    ) -> tuple[SessionContext, Blueprint]:
        """Return what a session that is asked for will be, once its blueprint has agreed."""
        name = request.blueprint if source is None else source.options.context.blueprint
        blueprints = await self.blueprints.completed(name)
        if source is not None:
            context, rules = admit_fork(request, source, blueprints=blueprints)
        else:
            root = self._context.settings.tenants_root
            context, rules = admit(
                request, tenant_id=tenant_id, blueprints=blueprints, tenants_root=root
            )
        await check(rules.factory, context)
        return context, rules

    async def _fork_source(self, request: CreateSession, tenant_id: str) -> ForkSource | None:
        """Return what a fork takes over; `SessionNotFound`, `NotStored`."""
        point = request.fork
        if point is None:
            return None
        key = registry_key(tenant_id, point.session_id)
        found = self.latest(key)
        if found is not None and found.record is not None:
            await found.committed()
        elif found is not None or self._context.commits is None:
            self.live(key, point.session_id)
            raise NotStored(point.session_id)
        assert self._context.commits is not None
        return await self._context.commits.read(lambda store: fork_source(store, tenant_id, point))

    async def _opened(
        self,
        live_session: LiveSession,
        source: ForkSource | None,
        first: Callable[[Conversation], None] | None,
    ) -> Conversation:
        """Start the first agent of a session, and store that it is opened.

        `first` is called before: what it says is stored with the opening, or nothing is.
        """
        conversation = live_session.conversation
        restored = None
        if source is not None:
            restored = source.restored(conversation.history.all())
        try:
            await self._supervisor.open(live_session, restored=restored)
        except BaseException:
            conversation.expiry.cancel()
            raise
        if source is not None:
            conversation.log.append_shortened(AgentRestarted(FORKED, 0, live_session.memory))
        try:
            if first is not None:
                first(conversation)
        except BaseException:
            await asyncio.wait({self._supervisor.begin_ending(live_session, _DELETED)})
            raise
        if conversation.record is not None:
            await self._store_opened(live_session, conversation.record)
        return conversation

    def _next_number(self) -> int:
        """Return a session's place in lists, above every other one, also of an earlier process.

        It says nothing of other tenants' sessions. Where others store beside this process, it is
        none of theirs: its last digits are this one's own.
        """
        if self._keeping is None:
            self._latest_number = max(self._latest_number + 1, time.monotonic_ns() // 1000)
            return self._latest_number
        now = self._context.clock.wall_ms() * 1000
        self._latest_number = max(self._latest_number + 1, now)
        return self._latest_number * NUMBERED_NODES + self._keeping.node_number

    async def _store_opened(self, live_session: LiveSession, record: ConversationRecord) -> None:
        """Store a session that was opened; one that cannot be is ended again."""
        conversation = live_session.conversation
        record.open(
            conversation.options,
            api_key=conversation.api_key,
            created_at_ms=conversation.created_at,
            label=conversation.label,
            forked_from=conversation.forked_from,
        )
        try:
            await conversation.committed()
        except BaseException:
            self._supervisor.begin_ending(live_session, _DELETED)
            raise

    async def _refuse_stored(
        self, keeping: Keeping, context: SessionContext, *, minted: bool, stored: bool
    ) -> None:
        """Refuse an id that a stored conversation has which has not ended, and one too many."""
        if stored:
            await keeping.retention.refuse_too_many(context.tenant_id)
        if not minted and await keeping.is_taken(context.tenant_id, context.session_id):
            raise SessionAlreadyExists(context.session_id, holder=None)

    def loading(self, tenant_id: str, session_id: str) -> Awaitable[None] | None:
        """Return what reads a session that is stored and not here; None where nothing has to be.

        Whoever looks for a session by its id awaits it first.
        """
        if self._keeping is None:
            return None
        return self._keeping.loading(tenant_id, session_id)

    async def owner_of(self, tenant_id: str, session_id: str) -> str | None:
        """Return which node answers for a session that is stored; None where it is not."""
        if self._keeping is None:
            return None
        return await self._keeping.owner_of(tenant_id, session_id)

    def exported(self, conversation: Conversation) -> AsyncIterator[bytes]:
        """Give a stored conversation as JSON lines; see `TenantSessions.export`."""
        if conversation.record is None or self._context.commits is None:
            raise NotStored(conversation.session_id)
        return exported(self._context.commits, conversation)

    async def add_imported(
        self,
        imported: ImportedConversation,
        *,
        tenant_id: str,
        api_key: str | None,
        session_id: str | None = None,
    ) -> str:
        """Store what was read as a dormant session; see `TenantSessions.import_lines`."""
        if self._context.draining:
            raise Draining
        wanted = imported.wanted(session_id)
        if self._keeping is None:
            raise NotStored(wanted.session_id or "")
        imported.check(self._context, tenant_id=tenant_id)
        context, _ = await self._admitted(wanted, tenant_id, None)
        key = registry_key(tenant_id, context.session_id)
        await self._refuse_stored(self._keeping, context, minted=False, stored=True)
        self._refuse_taken(key, context.session_id)
        self._reservations.reserve(key, Place(tenant_id, api_key, blueprint=None))
        try:
            await self._keeping.commit_whole(
                imported.operations(
                    context,
                    number=self._next_number(),
                    fence=self._context.next_fence(),
                    api_key=api_key,
                    now_ms=self._context.clock.wall_ms(),
                )
            )
        finally:
            self._reservations.release(key)
        return context.session_id

    def check_prompt(
        self,
        text: str,
        attachments: Sequence[Attachment] = (),
        *,
        tenant_id: str,
        api_key: str | None,
    ) -> None:
        """Refuse a prompt that no session of the tenant would take now."""
        checked_prompt(
            text, attachments, service=self._context, tenant_id=tenant_id, api_key=api_key
        )

    @property
    def attachments(self) -> AttachmentRoom:
        """Return the room for the attachments of prompts that wait or run."""
        return self._context.attachments

    def live(self, key: str, session_id: str) -> Conversation:
        """Return a live session; see `TenantSessions.find`."""
        live_session = self._live.get(key)
        if live_session is not None and self._supervisor.refresh(live_session):
            return live_session.conversation
        if self._keeping is not None and (dormant := self._keeping.get(key)) is not None:
            return dormant.conversation
        ended = self._supervisor.recent.get(key)
        if ended is not None and ended.ended is not None:
            raise SessionDead(session_id, reason=ended.ended)
        # What is stored was looked for there: what is not is as if it had never been.
        reason = self._ended_reason(key) if self._keeping is None else None
        raise (
            SessionNotFound(session_id)
            if reason is None
            else SessionDead(session_id, reason=reason)
        )

    def lives(self, key: str) -> bool:
        """Say whether a session of this key is here, between two agents included."""
        return self._live.get(key) is not None

    def is_dormant(self, key: str) -> bool:
        """Say whether a stored session of this key is here, without an agent."""
        return self._keeping is not None and self._keeping.get(key) is not None

    def latest(self, key: str) -> Conversation | None:
        """Return the conversation of an id that is live, or ended last and is held."""
        live_session = self._live.get(key)
        if live_session is None and self._keeping is not None:
            live_session = self._keeping.get(key)
        if live_session is not None:
            return live_session.conversation
        return self.recently_ended(key)

    def recently_ended(self, key: str) -> Conversation | None:
        """Return the conversation that ended last under this id, while it is held."""
        return self._supervisor.recent.get(key)

    def live_of_tenant(self, tenant_id: str) -> list[Conversation]:
        """Return a tenant's live sessions, those between two agents included, oldest first.

        Costs what it returns.
        """
        live = [
            each.conversation
            for each in self._live.of_tenant(tenant_id)
            if each.runner is None or each.registry_key in self._store
        ]
        return sorted(live, key=lambda each: each.number)

    def all_live(self, tenant_id: str | None = None) -> list[Conversation]:
        """Return every tenant's live sessions, or one's, those between two agents included.

        Whether each agent lives still, nobody is asked: it costs what it returns, and little of it.
        """
        live = self._live if tenant_id is None else self._live.of_tenant(tenant_id)
        return [each.conversation for each in live]

    @property
    def dormant_count(self) -> int:
        """Return how many dormant sessions are held in memory."""
        return 0 if self._keeping is None else len(self._keeping)

    def all_held(self, tenant_id: str | None = None) -> list[Conversation]:
        """Return what `all_live` does, and the dormant sessions that are held in memory."""
        live = self.all_live(tenant_id)
        return live if self._keeping is None else [*live, *self._keeping.held(tenant_id)]

    async def resume(self, tenant_id: str, session_id: str) -> Conversation:
        """Start an agent for a session that has none; see `TenantSessions.resume`."""
        if self._context.draining:
            raise Draining
        key = registry_key(tenant_id, session_id)
        conversation = self.latest(key)
        if conversation is not None and not conversation.live:
            self._refuse_over_limit(tenant_id, conversation.rules)
            self._reservations.refuse_over_limit(tenant_id, conversation.api_key)
        return await self.stored.resume(tenant_id, session_id)

    # -- within ----------------------------------------------------------------------------------

    def _refuse_taken(self, key: str, session_id: str) -> None:
        live_session = self._live.get(key)
        held = live_session is not None and self._supervisor.refresh(live_session)
        if held or key in self._reservations:
            try:
                holder = self._store.get(key)
            except SessionNotFound:
                holder = None
            raise SessionAlreadyExists(session_id, holder=holder)

    def _refuse_over_limit(self, tenant_id: str, rules: Blueprint) -> None:
        limit = rules.max_sessions_per_tenant
        opening = self._reservations.of_blueprint(tenant_id, rules.name)
        if limit is None or self._live.count(tenant_id, rules.name) + opening < limit:
            return
        for live_session in self._live.of_tenant(tenant_id):
            self._supervisor.refresh(live_session)
        if self._live.count(tenant_id, rules.name) + opening >= limit:
            raise SessionLimitExceeded(scope="per_tenant", limit=limit)

    def _ended_reason(self, key: str) -> ExitReason | None:
        """Return how the last session of an id ended, here or on another node, if known."""
        if (node := self._context.node) is not None:
            with suppress(SessionNotFound):
                return node.ended(key).ended.reason
        with suppress(SessionNotFound):
            return self._store.ended(key).reason
        return None

    def _stop_entry(self, key: str, fence: Fence, reason: ExitReason) -> None:
        live_session = self._live.get(key)
        runner = None if live_session is None else live_session.runner
        if live_session is not None and runner is not None and runner.fence == fence:
            self._supervisor.begin_ending(live_session, reason, dormant=reason is _LOST)

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

    def _on_lost(self, number: int) -> None:
        """Stop what answers in a conversation that another process owns by now.

        Nothing of it is stored here any more. Its streams are cut: they go on over there.
        """
        for live_session in list(self._live):
            if live_session.conversation.number == number:
                live_session.conversation.log.cut()
                self._supervisor.begin_ending(live_session, _SUPERSEDED)
        if self._keeping is not None:
            self._keeping.forget(number)

    def _on_model_switched(self, conversation: Conversation, model: str) -> None:
        self._supervisor.update_model(conversation, model)

    def _on_expired(self, conversation: Conversation) -> None:
        live_session = self._live.of(conversation)
        if live_session is not None:
            stays = not conversation.expiry.aged
            self._supervisor.begin_ending(live_session, _EXPIRED, dormant=stays)
        elif self._keeping is not None:
            self._keeping.expire(conversation, _EXPIRED)

    def _refuse_resuming(self, conversation: Conversation) -> None:
        """Raise `SessionLimitExceeded` where one more agent would be too many."""
        self._refuse_over_limit(conversation.tenant_id, conversation.rules)
        self._reservations.refuse_over_limit(conversation.tenant_id, conversation.api_key)

    def _on_live(self, live_session: LiveSession) -> None:
        if self._keeping is not None:
            self._keeping.on_live(live_session)

    def _on_place_free(self) -> None:
        if self._keeping is not None:
            self._keeping.on_place_free()

    def _on_dormant(self, live_session: LiveSession) -> None:
        if self._keeping is not None:
            self._keeping.add(live_session)


@dataclass(frozen=True, slots=True)
class OneConversation:
    """Names one conversation; another one of the same id has another fence."""

    session_id: str
    fence: int


class TenantSessions:
    """Open, find and end a tenant's sessions, with one key. Made by `SessionService.tenant`.

    With `only`, every session but that one is `SessionNotFound`, as if it had never been.
    """

    __slots__ = ("_only", "_service", "api_key", "found", "tenant_id")

    tenant_id: str
    api_key: str | None
    found: Conversation | None
    """The conversation that was asked for last: what was done to it is stored once that says so."""

    def __init__(
        self,
        service: SessionService,
        *,
        tenant_id: str,
        api_key: str | None,
        only: OneConversation | None = None,
    ) -> None:
        self._service, self._only, self.found = service, only, None
        self.tenant_id, self.api_key = check_tenant(tenant_id), api_key

    async def create(
        self, request: CreateSession, *, first: Callable[[Conversation], None] | None = None
    ) -> Conversation:
        """Open a session. A refused or cancelled create leaves nothing behind.

        `first` is called with it once it is open: what that does is stored together with the
        opening, and where it raises there is no session.

        Raises `SessionAlreadyExists`, `SessionLimitExceeded`, `CreateFailed`, `Draining`,
        `InvalidArgument`.
        """
        if self._only is not None:
            raise SessionNotFound(request.session_id or "")
        self.found = await self._service.open(
            request, tenant_id=self.tenant_id, api_key=self.api_key, first=first
        )
        return self.found

    def loading(self, session_id: str) -> Awaitable[None] | None:
        """Return what has to be awaited before a session is looked for; None where nothing has."""
        return self._service.loading(self.tenant_id, check_session_id(session_id))

    async def require_types(self, blueprint: str | None, media_types: Sequence[str]) -> None:
        """Raise `AttachmentRefused` for a type that a blueprint's sessions do not take."""
        known = await self._service.blueprints.completed(blueprint)
        rules = known.get(blueprint or known.default or "")
        if rules is not None:  # one that there is not is refused as that
            require_types(media_types, rules=rules)

    async def create_and_prompt(
        self,
        request: CreateSession,
        text: str,
        *,
        attachments: Sequence[Attachment] = (),
        first: Callable[[Conversation, Accepted], None] | None = None,
    ) -> tuple[Conversation, Accepted]:
        """Open a session and prompt it; where the prompt is refused there is no session.

        `first` is called when it is accepted, as in `create`. Raises what `create` and
        `Conversation.prompt` do.
        """
        self._service.check_prompt(
            text, attachments, tenant_id=self.tenant_id, api_key=self.api_key
        )
        if attachments and request.fork is None:
            await self.require_types(request.blueprint, [each.media_type for each in attachments])
        accepted: list[Accepted] = []

        def prompt(conversation: Conversation) -> None:
            # Refused though it was not before: the rules were changed, or the agent has ended.
            taken = conversation.prompt(text, attachments=attachments, api_key=self.api_key)
            accepted.append(taken)
            if first is not None:
                first(conversation, taken)

        conversation = await self.create(request, first=prompt)
        return conversation, accepted[0]

    def export(self, session_id: str) -> AsyncIterator[bytes]:
        """Give a session as JSON lines, a part at a time: live, dormant or ended.

        All that has come to an end when it begins; an iteration that raises was cut off. Raises
        `SessionNotFound`, `SessionDead`, `NotStored`; `CreateFailed` where it cannot be decrypted.
        """
        return self._service.exported(self.recent(session_id))

    def importing(self) -> ImportedConversation:
        """Return what lines are read into, for `import_lines`."""
        return ImportedConversation(max_event_bytes=self._service.settings.max_event_bytes)

    async def import_lines(
        self, imported: ImportedConversation, *, session_id: str | None = None
    ) -> Conversation:
        """Store a session whose lines were all read, under its own id or another; all or nothing.

        It is dormant, or has ended as it had. No agent is started, and none of its events is told
        to anybody. Raises `ImportRefused` with every wrong line, `SessionAlreadyExists`,
        `CreateFailed`, `NotStored`, `Draining`.
        """
        imported.finish()
        if self._only is not None:
            raise SessionNotFound(session_id or "")
        added = await self._service.add_imported(
            imported, tenant_id=self.tenant_id, api_key=self.api_key, session_id=session_id
        )
        if (loading := self.loading(added)) is not None:
            await loading
        return self.recent(added)

    def find(self, session_id: str) -> Conversation:
        """Return a live session.

        Never returns one whose agent has ended, told of it or not. Raises `SessionNotFound`,
        `SessionDead` where it ended recently, `InvalidArgument` for an impossible id.
        """
        self.found = self._service.live(self._key_of(session_id), session_id)
        return self.found

    def recent(self, session_id: str) -> Conversation:
        """Return a live session, or the last that ended under this id: its stream replays.

        Raises `SessionNotFound`; `SessionDead` where it ended but is no longer held.
        """
        key = self._key_of(session_id)
        try:
            self.found = self._service.live(key, session_id)
        except SessionNotFound:
            self.found = self._service.recently_ended(key)
            if self.found is None:
                raise
        return self.found

    def sessions(
        self, *, limit: int = 100, after: str | None = None
    ) -> tuple[list[Conversation], str | None]:
        """Return up to `limit` live sessions, oldest first, and the cursor of the next page.

        Raises `InvalidArgument` for a limit that is not 1 to 1000, and for a wrong cursor.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidArgument("limit", expected=f"1 to {MAX_PAGE}", got=str(limit))
        first = number_after(after)
        live = self._service.live_of_tenant(self.tenant_id)
        live = [each for each in live if each.number > first and self._opens(each)]
        page = live[:limit]
        return page, str(page[-1].number) if len(live) > limit else None

    async def listed(self, asked: SessionQuery) -> SessionPage[Conversation | StoredConversation]:
        """Return a page of the sessions, live and dormant, in the order in which they were opened.

        Those that have ended too, where that is asked for. Costs what it returns.
        """
        if not 1 <= asked.limit <= MAX_PAGE:
            raise InvalidArgument("limit", expected=f"1 to {MAX_PAGE}", got=str(asked.limit))
        if self._only is not None:
            raise SessionNotFound(self._only.session_id)
        return await self._service.stored.page(self.tenant_id, asked)

    async def earlier(self, session_id: str, *, fence: int) -> Conversation:
        """Return the session of an id that has this fence, whatever became of it.

        One that is not the newest of its id can be read, and is not held. `SessionNotFound`.
        """
        found = self._service.latest(self._key_of(session_id))
        if found is None or found.fence != fence:
            if self._only is not None:
                raise SessionNotFound(session_id)
            found = await self._service.stored.earlier(self.tenant_id, session_id, fence=fence)
        self.found = found
        return found

    async def resume(self, session_id: str) -> Conversation:
        """Start an agent for a session that has none; one that has ended goes on. Twice is once.

        Raises `SessionNotFound`, `SessionDead` where nothing of it is stored, `NotResumable`,
        `SessionLimitExceeded`, `Draining`.
        """
        self._key_of(session_id)
        self.found = await self._service.resume(self.tenant_id, session_id)
        return self.found

    async def close(self, session_id: str) -> Conversation:
        """End a session's agent and leave the session dormant; what waits in it waits on.

        Raises `SessionNotFound`, `SessionDead`, `NotStored`.
        """
        self._key_of(session_id)
        self.found = await self._service.stored.close(self.tenant_id, session_id)
        return self.found

    async def delete(self, session_id: str) -> None:
        """End a session, and erase what is stored under its id; returns when that is done.

        Its entry is gone within the grace period and a second, whatever its agent does, and
        whoever else deletes it at the same time. A dormant one and one that has ended are erased
        as well. Raises `SessionNotFound`, `SessionDead`.
        """
        self._key_of(session_id)
        # A task of its own: a client that leaves does not keep its session from ending.
        erasing = asyncio.ensure_future(self._service.stored.erase(self.tenant_id, session_id))
        await asyncio.shield(erasing)

    def _key_of(self, session_id: str) -> str:
        """Return the registry's key of a session; `SessionNotFound` for what this does not open."""
        key = registry_key(self.tenant_id, session_id)
        if self._only is not None:
            conversation = self._service.latest(key)
            if conversation is None or not self._opens(conversation):
                raise SessionNotFound(session_id)
        return key

    def _opens(self, conversation: Conversation) -> bool:
        named = OneConversation(conversation.session_id, conversation.fence)
        return self._only is None or self._only == named
