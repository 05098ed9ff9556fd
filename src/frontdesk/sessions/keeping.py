"""Conversations that are stored and have no agent now: loaded when asked for, resumed when needed.

    a request asks for one that is not here     `load`: it is read, and is dormant (or has ended)
    a dormant one is asked to do something      `wake`: the supervisor starts an agent for it
    the process starts                          `recover`: what another left is brought to rest, and
                                                what waits there is resumed, a few at a time
    another node is gone                        what waits there is, too (`waiting_elsewhere.py`)

What is loaded and idle goes again where more is loaded than `max_loaded`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from itertools import islice
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from frontdesk.agents.blueprints import Blueprints
from frontdesk.agents.ids import registry_key
from frontdesk.agents.protocol import check, forget
from frontdesk.agents.records import Restored
from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.errors import ConversationUnreadable, StorageUnavailable
from frontdesk.persistence.operations import ConversationErased
from frontdesk.persistence.stored import StoredConversation
from frontdesk.records import ExitKind, ExitReason
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.errors import ConversationFull, NotResumable
from frontdesk.sessions.keeping_settings import KeepingSettings, StorageLimits
from frontdesk.sessions.live import LiveSession, LiveSessions
from frontdesk.sessions.remembered import memory_of
from frontdesk.sessions.reservations import Reservations
from frontdesk.sessions.resumable import problem_of, read_restored, rules_of
from frontdesk.sessions.resuming import Resumer, WaitingSession
from frontdesk.sessions.retention import Retention
from frontdesk.sessions.storage_access import StorageAccess
from frontdesk.sessions.storage_patience import StoragePatience
from frontdesk.sessions.supervision import Supervisor
from frontdesk.sessions.trimming import trim
from frontdesk.sessions.waiting_elsewhere import WaitingElsewhere

MOST_IN_USE = 32
"""So many of the oldest that are in use are passed over, where some have to go."""

_DELETED = ExitReason.of(ExitKind.DELETED)


class Keeping(StorageAccess):
    """Load, resume and recover stored conversations for a session service. On its event loop.

    What is not held any more, and is in somebody's hands still, is found again: of one conversation
    there is one object.
    """

    def __init__(
        self,
        commits: CommitQueue,
        *,
        context: ServiceContext,
        live_sessions: LiveSessions,
        reservations: Reservations,
        supervisor: Callable[[], Supervisor],
        blueprints: Callable[[], Blueprints],
        refuse_over_limit: Callable[[Conversation], None],
        settings: KeepingSettings,
    ) -> None:
        super().__init__(commits, context=context, blueprints=blueprints, owner=settings.owner)
        self._live, self._settings, self._supervisor = live_sessions, settings, supervisor
        self._refuse_over_limit = refuse_over_limit
        context.touch, context.wake = self.touch, self.wake
        context.require_resumable = self.require_resumable
        context.require_room, context.on_turn_stored = self.require_room, self.on_turn_stored
        context.on_grown = self.on_grown
        self._dormant: OrderedDict[str, LiveSession] = OrderedDict()
        self._unloaded: WeakValueDictionary[str, Conversation] = WeakValueDictionary()
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._resumer = self._make_resumer(reservations)
        self.limits: StorageLimits = settings.limits
        """What may be stored; replaced where that is set otherwise."""
        self.retention: Retention = self._make_retention()
        self._patience = StoragePatience(
            commits,
            live_sessions=live_sessions,
            clock=context.clock,
            patience_s=settings.patience_s,
        )
        self._beside: set[asyncio.Task[None]] = set()
        self._trimmed: set[int] = set()
        self._closed = False

    def _make_resumer(self, reservations: Reservations) -> Resumer:
        return Resumer(
            supervisor=self._supervisor,
            reservations=reservations,
            loaded=self._loaded,
            prepare=self._prepare,
            refuse_over_limit=self._refuse_over_limit,
            at_once=self._settings.resume_at_once,
        )

    def _make_retention(self) -> Retention:
        return Retention(
            self.commits,
            clock=self._context.clock,
            limits=lambda: self.limits,
            blueprints=self._blueprints,
            erase=self._erase_unused,
            load=self.loading,
        )

    # -- what is here ------------------------------------------------------------------------

    def get(self, key: str) -> LiveSession | None:
        """Return the dormant session of a key, if it is loaded."""
        found = self._dormant.get(key)
        if found is not None:
            self._dormant.move_to_end(key)
            return found
        conversation = self._unloaded.pop(key, None)
        if conversation is None or not conversation.dormant:
            return None
        conversation.load()
        found = LiveSession(conversation, key=key, minted=False)
        self.add(found)
        self._show_loaded(conversation)
        return found

    def loading(self, tenant_id: str, session_id: str) -> Awaitable[None] | None:
        """Return what loads a session that a request asks for; None where that is here."""
        key = registry_key(tenant_id, session_id)
        if self._live.get(key) is not None or self.get(key) is not None:
            return None
        if self._supervisor().recent.get(key) is not None:
            return None
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._load(key, tenant_id, session_id))
            self._loading[key] = task
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        return asyncio.shield(task)

    def __len__(self) -> int:
        """Return how many dormant sessions are loaded."""
        return len(self._dormant)

    def held(self, tenant_id: str | None = None) -> list[Conversation]:
        """Return the dormant sessions that are loaded: every tenant's, or one's."""
        return [
            each.conversation
            for each in self._dormant.values()
            if tenant_id is None or each.conversation.tenant_id == tenant_id
        ]

    def of_tenant(self, tenant_id: str) -> list[LiveSession]:
        """Return a tenant's dormant sessions that are loaded."""
        return [each for each in self._dormant.values() if each.conversation.tenant_id == tenant_id]

    # -- dormant sessions --------------------------------------------------------------------

    def add(self, live_session: LiveSession) -> None:
        """Hold a session whose agent has ended; let those go that were not used for longest."""
        self._dormant[live_session.registry_key] = live_session
        too_many = len(self._dormant) - self._settings.max_loaded
        if too_many <= 0:
            return
        for key, each in list(islice(self._dormant.items(), too_many + MOST_IN_USE)):
            if too_many and each.resuming is None and each.conversation.can_be_unloaded:
                self._unload(key)
                too_many -= 1

    def touch(self, conversation: Conversation) -> None:
        """Hold a dormant session that is used: it goes later than others, or ends if it is old."""
        self.get(registry_key(conversation.tenant_id, conversation.session_id))
        if conversation.expiry.aged:
            self._context.expire(conversation)

    def wake(self, conversation: Conversation) -> None:
        """Start an agent for a dormant session: it was asked something."""
        live_session = self.get(registry_key(conversation.tenant_id, conversation.session_id))
        if live_session is not None and live_session.conversation is conversation:
            self.resume(live_session)

    def resume(self, live_session: LiveSession) -> asyncio.Task[None]:
        """Begin to start an agent for a dormant session; twice is once."""
        return self._resumer.resume(live_session)

    def require_resumable(self, conversation: Conversation) -> None:
        """Raise `NotResumable` where a dormant session takes no prompt, `SessionLimitExceeded`."""
        problem = problem_of(self._blueprints(), conversation)
        if (
            problem is None
            and rules_of(self._blueprints(), conversation.blueprint).resume == "manual"
        ):
            problem = "its blueprint has it resumed only when that is asked for"
        if problem is None and conversation.wants_agent:
            problem = conversation.blocked
        if problem is not None:
            raise NotResumable(conversation.session_id, problem=problem)
        self._refuse_over_limit(conversation)

    def require_room(self, conversation: Conversation) -> None:
        """Raise `ConversationFull` where a session takes all that it may, without its events."""
        record, limit = conversation.record, self.limits.max_bytes
        if record is not None and record.least_bytes > limit:
            raise ConversationFull(conversation.session_id, max_bytes=limit)

    def on_turn_stored(self, conversation: Conversation) -> None:
        """Begin to drop the oldest events of a session that takes more than it may."""
        record, limit = conversation.record, self.limits.max_bytes
        too_large = record is not None and record.stored_bytes > limit
        if too_large and conversation.number not in self._trimmed and not self._closed:
            self._trimmed.add(conversation.number)
            self._run_beside(self._trim(conversation))

    def on_grown(self, key: str) -> None:
        """Look at a session in the midst of a turn, which may be too large by itself."""
        if (live_session := self._live.get(key)) is not None:
            self.on_turn_stored(live_session.conversation)

    async def _trim(self, conversation: Conversation) -> None:
        try:
            await trim(conversation, self.commits, max_bytes=self.limits.max_bytes)
        finally:
            self._trimmed.discard(conversation.number)

    def _run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def on_live(self, live_session: LiveSession) -> None:
        """Hold it no longer: it has an agent."""
        self._dormant.pop(live_session.registry_key, None)

    def on_place_free(self) -> None:
        """Try again to resume one session: what had a place has it no longer."""
        self._resumer.retry(first=1)

    def on_blueprints_changed(self) -> None:
        """See which sessions can be resumed by now, and resume those in which something waits."""
        for each in self._dormant.values():
            each.conversation.blocked = problem_of(self._blueprints(), each.conversation)
        self._resumer.retry()

    def forget(self, number: int) -> None:
        """Hold a conversation no longer that is another process's by now."""
        for key, each in list(self._dormant.items()):
            if each.conversation.number == number:
                each.conversation.log.cut()
                self._unload(key)
                self._unloaded.pop(key, None)

    def expire(self, conversation: Conversation, reason: ExitReason) -> None:
        """End a dormant session that is too old; one that gets an agent just now ends with that."""
        key = registry_key(conversation.tenant_id, conversation.session_id)
        live_session = self.get(key)
        if live_session is not None and live_session.resuming is None:
            self._end(live_session, reason)
            self._run_beside(self.forget_files(conversation))

    async def end(self, live_session: LiveSession, reason: ExitReason) -> None:
        """End a dormant session, once nobody starts an agent for it; not one that has one by then.

        Where it was deleted, it is erased.
        """
        if live_session.resuming is not None:
            await asyncio.wait({live_session.resuming})
        conversation = live_session.conversation
        if reason.kind is ExitKind.DELETED:
            await self.forget_files(conversation)
        if live_session.registry_key in self._dormant and live_session.resuming is None:
            self._end(live_session, reason)

    async def forget_files(self, of: Conversation | StoredConversation) -> None:
        """Remove what agents without a process left outside of the storage: it is erased next."""
        rules, key = self._blueprints().get(of.blueprint), registry_key(of.tenant_id, of.session_id)
        if rules is not None and hasattr(rules.factory, "forget"):
            with suppress(ConversationUnreadable):  # where its files are is lost with its key
                memories = await self.commits.read(
                    lambda store: store.memories(of.number), asker=of.tenant_id
                )
                await forget(rules.factory, [memory_of(each) for each in memories], of=key)

    def _end(self, live_session: LiveSession, reason: ExitReason) -> None:
        key, conversation = live_session.registry_key, live_session.conversation
        del self._dormant[key]
        conversation.end(reason)
        if reason.kind is not ExitKind.DELETED:
            self._supervisor().recent.add(key, conversation)

    async def _erase_unused(self, stored: StoredConversation) -> bool:
        """Erase a conversation that nobody used, unless somebody does by now."""
        if self._is_used(stored):
            return False
        try:
            owned = await self.owned(stored)
        except OwnerUnreachable:
            return False  # another has it by now
        if owned.waiting or owned.last_index != stored.last_index:
            return False
        await self.forget_files(stored)
        if self._is_used(stored):
            return False
        key, recent = registry_key(stored.tenant_id, stored.session_id), self._supervisor().recent
        held, ended = self.get(key), recent.get(key)
        if held is not None and held.conversation.number == stored.number:
            self._end(held, _DELETED)
            return True
        if ended is not None and ended.number == stored.number:
            recent.remove(key)
        self.commits.add(ConversationErased(number=stored.number))
        return True

    def _is_used(self, stored: StoredConversation) -> bool:
        """Say whether a conversation was used since it was read, or is about to be."""
        key = registry_key(stored.tenant_id, stored.session_id)
        for held in (self._live.get(key), self.get(key)):
            if held is not None and held.conversation.number == stored.number:
                since = held.conversation.last_activity_at > stored.last_activity_ms
                return since or held.conversation.in_use or not held.conversation.dormant
        return key in self._loading

    async def rest(self) -> None:
        """Let streams come to an end with what was said last, once that is stored."""
        waiting = [each.conversation for each in self._dormant.values()]
        with suppress(StorageUnavailable):
            await asyncio.gather(*(each.committed() for each in waiting))
        for each in waiting:
            each.log.cut()

    def _unload(self, key: str) -> None:
        conversation = self._dormant.pop(key).conversation
        conversation.unload()
        if self._context.observer is not None:
            self._context.observer.on_unloaded(conversation)
        self._unloaded[key] = conversation

    # -- agents ------------------------------------------------------------------------------

    async def _loaded(self, name: WaitingSession) -> LiveSession | None:
        """Return a dormant session in which something waits, and which may be resumed unasked."""
        if (loading := self.loading(name.tenant_id, name.session_id)) is not None:
            await loading
        live_session = self.get(registry_key(name.tenant_id, name.session_id))
        if live_session is None or not live_session.conversation.wants_agent:
            return None
        conversation = live_session.conversation
        if (problem := problem_of(self._blueprints(), conversation)) is not None:
            conversation.blocked = problem
            raise NotResumable(name.session_id, problem=problem)
        return (
            live_session
            if rules_of(self._blueprints(), conversation.blueprint).resume == "auto"
            else None
        )

    async def _prepare(self, conversation: Conversation) -> Restored:
        """Return what the next agent of a dormant conversation gets of its earlier ones.

        Its blueprint is the one of now.
        """
        if (problem := problem_of(self._blueprints(), conversation)) is not None:
            raise NotResumable(conversation.session_id, problem=problem)
        known = await self._blueprints().completed(conversation.blueprint)
        conversation.rules = known[conversation.blueprint]
        context = msgspec.structs.replace(conversation.context, model=conversation.model)
        await check(conversation.rules.factory, context)
        return await read_restored(self.commits, conversation)

    # -- loading -----------------------------------------------------------------------------

    async def _load(self, key: str, tenant_id: str, session_id: str) -> None:
        stored = await self.find(tenant_id, session_id)
        if stored is None:
            return
        if stored.state != "ended" and stored.owner != self.owner:
            stored = await self._takeover.one(stored)
        live_session = await self.read(stored)
        if self._live.get(key) is not None or self.get(key) is not None:
            return
        conversation = live_session.conversation
        if conversation.ended is not None:
            self._supervisor().recent.add(key, conversation)
            return
        conversation.blocked = problem_of(self._blueprints(), conversation)
        self.add(live_session)
        self._show_loaded(conversation)
        self.touch(conversation)
        if conversation.wants_agent:
            # What its last owner had accepted.
            self._resumer.want(WaitingSession(tenant_id, session_id))

    def _show_loaded(self, conversation: Conversation) -> None:
        if self._context.observer is not None:
            self._context.observer.on_loaded(conversation)

    async def reopened(self, tenant_id: str, session_id: str) -> LiveSession | None:
        """Return the newest conversation of an id as one that goes on, without holding it.

        None where it has not ended, or is here already.
        """
        stored = await self.commits.read(
            lambda store: store.find(tenant_id, session_id), asker=tenant_id
        )
        if stored is None or stored.state != "ended":
            return None
        live_session = await self.read(await self.owned(stored), reopened=True)
        key = live_session.registry_key
        return None if self._live.get(key) is not None or key in self._dormant else live_session

    # -- after a start -----------------------------------------------------------------------

    async def recover(self) -> None:
        """Bring to rest what another process left, and begin to resume what waits.

        Costs a read of what was under way, and one commit for all of it.
        """
        for each in await self._takeover.all():
            if each.waiting:
                self._resumer.want(WaitingSession(each.tenant_id, each.session_id))
        self._run_beside(self.retention.run())
        self._run_beside(self._patience.run())
        if (find := self._settings.waiting_elsewhere) is not None:
            self._run_beside(WaitingElsewhere(self._context, find, self._resumer).run())

    async def close(self) -> None:
        """Resume no more, and look for nothing more."""
        await self._resumer.close()
        self._closed, beside = True, {*self._beside, *self._loading.values()}
        for task in beside:
            task.cancel()
        if beside:
            await asyncio.wait(beside)
