"""How sessions are opened: new ones, forks, and those that are imported; and given agents again.

Above the sessions that are here (`session_host.py`), below the service.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence

from frontdesk.agents.attachments import Attachment
from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.events import AgentRestarted
from frontdesk.agents.ids import registry_key
from frontdesk.agents.protocol import check
from frontdesk.agents.records import CreateSession, SessionContext
from frontdesk.errors import (
    SessionAlreadyExists,
)
from frontdesk.records import ExitReason
from frontdesk.sessions.admission import admit, admit_fork
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.conversation_record import ConversationRecord
from frontdesk.sessions.errors import Draining, NotStored
from frontdesk.sessions.exporting import exported
from frontdesk.sessions.forking import ForkSource, fork_source
from frontdesk.sessions.importing import ImportedConversation
from frontdesk.sessions.input_checks import checked_prompt
from frontdesk.sessions.keeping import Keeping
from frontdesk.sessions.live import LiveSession
from frontdesk.sessions.reservations import Place
from frontdesk.sessions.session_host import SessionHost

NUMBERED_NODES = 1024
"""So many processes give conversations numbers at a time; 63 bits last until the year 2255."""
FORKED = "forked"
"""Why the first agent of a fork is one that takes over: the reason of its first event."""
_DELETED = ExitReason.of("deleted")


class SessionOpening(SessionHost):
    """A session service that opens sessions. See `SessionService`, which is all of it."""

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
        return await self._context.commits.read(
            lambda store: fork_source(store, tenant_id, point), asker=tenant_id
        )

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
