"""The sessions of one process: what is here, and what follows from what the registry says of them.

Below `session_opening.py`, where sessions are opened, and `service.py`, which is all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from frontdesk.agents.blueprints import Blueprint, Blueprints
from frontdesk.clock import Clock, SystemClock
from frontdesk.errors import (
    SessionAlreadyExists,
    SessionLimitExceeded,
    SessionNotFound,
)
from frontdesk.monitors import Watcher
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.records import ExitReason, Fence
from frontdesk.sessions.attachment_room import AttachmentRoom
from frontdesk.sessions.context import ServiceContext, SessionSettings
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.errors import SessionDead
from frontdesk.sessions.hooks import (
    Budgets,
    Guardrails,
    Meter,
    NoMeter,
    SessionObserver,
    ToolCaller,
)
from frontdesk.sessions.keeping import Keeping
from frontdesk.sessions.keeping_settings import KeepingSettings, StorageLimits
from frontdesk.sessions.live import LiveSession, LiveSessions
from frontdesk.sessions.reservations import Reservations
from frontdesk.sessions.stored_sessions import StoredSessions
from frontdesk.sessions.supervision import Supervisor
from frontdesk.store import SessionStore, Watch

if TYPE_CHECKING:
    # Late: without a cluster, nothing of it is imported.
    from frontdesk.cluster.node import Node

_EXPIRED = ExitReason.of("expired")
_SUPERSEDED = ExitReason.of("superseded")
_LOST = ExitReason.of("lost")


class SessionHost:
    """What a session service has, and what can be found in it. See `SessionService`."""

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

    def on_superseded(self, key: str, fence: Fence) -> None:
        """Stop the agent of this entry: another node's has the id by now. No later one of it."""
        self._stop_entry(key, fence, _SUPERSEDED)

    def on_isolated(self, key: str, fence: Fence) -> None:
        """Stop the agent of this entry: cut off, this node may soon not be its owner any more."""
        self._stop_entry(key, fence, _LOST)

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

    async def stored_among(self, keys: Collection[str]) -> Collection[str]:
        """Return which of these keys are those of stored sessions that have not ended.

        All, while the storage cannot be asked: it is not known that any has ended.
        """
        return () if self._keeping is None else await self._keeping.stored_among(keys)

    @property
    def attachments(self) -> AttachmentRoom:
        """Return the room for the attachments of prompts that wait or run."""
        return self._context.attachments

    def live(self, key: str, session_id: str) -> Conversation:
        """Return a live session; see `TenantSessions.find`."""
        live_session = self._live.get(key)
        if live_session is not None and self._supervisor.refresh(live_session):
            conversation = live_session.conversation
            if conversation.public is None:  # it is being opened: nothing of it is stored
                raise SessionNotFound(session_id)
            return conversation
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
            if (
                each.runner is None
                or each.registry_key in self._store
                # One that is stored outlives its agent, whose end has just not been heard of.
                or each.conversation.record is not None
            )
            and each.conversation.public is not None
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
