"""Conversations that are stored and have no agent now: loaded when asked for, resumed when needed.

    a request asks for one that is not here     `load`: it is read, and is dormant (or has ended)
    a dormant one is asked to do something      `wake`: the supervisor starts an agent for it
    the process starts                          `recover`: what another left is brought to rest, and
                                                what waits there is resumed, a few at a time

What is loaded and idle goes again where more is loaded than `max_loaded`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from zlib import crc32

import msgspec

from frontdesk.agents.blueprints import Blueprint, Blueprints
from frontdesk.agents.errors import CreateFailed
from frontdesk.agents.ids import registry_key
from frontdesk.agents.protocol import RunningAgent
from frontdesk.agents.records import Message, Restored, SessionContext
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.conversations import Conversations
from frontdesk.persistence.operations import AnyOperation, ConversationErased
from frontdesk.persistence.stored import StoredConversation, StoredTurn
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.conversation_record import StoredOptions
from frontdesk.sessions.earlier_life import EarlierLife, EarlierRequest, EarlierTurn
from frontdesk.sessions.live import LiveSession, LiveSessions
from frontdesk.sessions.recovery import counters_in, messages_of
from frontdesk.sessions.remembered import restored
from frontdesk.sessions.supervision import Supervisor
from frontdesk.sessions.takeover import Takeover

_log = logging.getLogger("frontdesk.sessions")

_COMMIT_WHOLE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepingSettings:
    """How many conversations are resumed at once after a start, and held in memory.

    `owner` is as what this process owns them, where several share a storage.
    """

    owner: str = ""
    resume_at_once: int = 4
    max_loaded: int = 1000


class Keeping:
    """Load, resume and recover stored conversations for a session service. On its event loop."""

    def __init__(
        self,
        commits: CommitQueue,
        *,
        context: ServiceContext,
        live_sessions: LiveSessions,
        supervisor: Callable[[], Supervisor],
        blueprints: Callable[[], Blueprints],
        settings: KeepingSettings,
    ) -> None:
        self.commits: CommitQueue = commits
        self._context, self._live, self._settings = context, live_sessions, settings
        self._supervisor, self._blueprints = supervisor, blueprints
        self._dormant: OrderedDict[str, LiveSession] = OrderedDict()
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._resuming: asyncio.Task[None] | None = None
        self._takeover = Takeover(commits, context=context, owner=settings.owner)

    @property
    def node_number(self) -> int:
        """Return a number below 1024 that other owners of the same storage hardly have."""
        return crc32(self.owner.encode()) % 1024 if self.owner else 0

    # -- what is here ------------------------------------------------------------------------

    def get(self, key: str) -> LiveSession | None:
        """Return the dormant session of a key, if it is loaded."""
        found = self._dormant.get(key)
        if found is not None:
            self._dormant.move_to_end(key)
        return found

    def loading(self, tenant_id: str, session_id: str) -> Awaitable[None] | None:
        """Return what loads a session that a request asks for; None where that is here.

        One whose agent is just being ended, and which stays, is waited for.
        """
        key = registry_key(tenant_id, session_id)
        live_session = self._live.get(key)
        if live_session is not None:
            ends = live_session.goes_dormant and live_session.ending is not None
            return _ended(live_session.ending) if ends and live_session.ending else None
        if key in self._dormant or self._supervisor().recent.get(key) is not None:
            return None
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._load(key, tenant_id, session_id))
            self._loading[key] = task
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        return asyncio.shield(task)

    @property
    def owner(self) -> str:
        """As what this process owns conversations."""
        return self._takeover.owner

    async def owner_of(self, tenant_id: str, session_id: str) -> str | None:
        """Return who answers for a stored conversation, dead or alive; None where there is none.

        For one that has ended, whoever is asked.
        """
        found = await self.commits.read(lambda store: store.find(tenant_id, session_id))
        if found is None:
            return None
        return self.owner if found.state == "ended" else found.owner

    async def is_taken(self, tenant_id: str, session_id: str) -> bool:
        """Say whether a stored conversation that has not ended has this id."""
        found = await self.commits.read(lambda store: store.find(tenant_id, session_id))
        return found is not None and found.state != "ended"

    async def commit_whole(self, operations: list[AnyOperation]) -> None:
        """Store a conversation with all that it has in one commit; nothing where that fails.

        Two writes where the storage takes too long: the operations are written as soon as it can
        be done, and their erasure right after them. A crash between leaves a conversation that
        nobody was told of, whole.
        """
        number = operations[0].number
        self.commits.add(*operations)
        try:
            await self.commits.committed(number, wait_s=_COMMIT_WHOLE_S)
        except BaseException:
            self.commits.add(ConversationErased(number=number))
            raise

    def of_tenant(self, tenant_id: str) -> list[LiveSession]:
        """Return a tenant's dormant sessions that are loaded."""
        return [each for each in self._dormant.values() if each.conversation.tenant_id == tenant_id]

    # -- dormant sessions --------------------------------------------------------------------

    def add(self, live_session: LiveSession) -> None:
        """Hold a session whose agent has ended; let those go that were not used for longest.

        One with a turn that was set aside is read anew.
        """
        self._dormant[live_session.registry_key] = live_session
        if live_session.conversation.is_aside:
            live_session.conversation.log.cut()
            self._unload(live_session.registry_key)
        for key, each in list(self._dormant.items()):
            if len(self._dormant) <= self._settings.max_loaded:
                break
            if not each.conversation.in_use:
                self._unload(key)

    def wake(self, conversation: Conversation) -> None:
        """Start an agent for a dormant session: it was asked something."""
        key = registry_key(conversation.tenant_id, conversation.session_id)
        live_session = self._dormant.get(key)
        if live_session is not None and live_session.conversation is conversation:
            self.resume(live_session)

    def resume(self, live_session: LiveSession) -> asyncio.Task[None]:
        """Begin to start an agent for a dormant session; twice is once."""
        return self._supervisor().resume(live_session)

    def on_live(self, live_session: LiveSession) -> None:
        """Hold it no longer: it has an agent."""
        self._dormant.pop(live_session.registry_key, None)

    def forget(self, number: int) -> None:
        """Hold a conversation no longer that is another process's by now."""
        for key, each in list(self._dormant.items()):
            if each.conversation.number == number:
                each.conversation.log.cut()
                self._unload(key)

    async def erase(self, live_session: LiveSession, end: Callable[[], None]) -> None:
        """End a dormant session, and erase it."""
        if live_session.resuming is not None:
            await asyncio.wait({live_session.resuming})
        if self._dormant.pop(live_session.registry_key, None) is not None:
            end()

    def _unload(self, key: str) -> None:
        live_session = self._dormant.pop(key)
        if (record := live_session.conversation.record) is not None:
            record.close()

    # -- loading -----------------------------------------------------------------------------

    async def _load(self, key: str, tenant_id: str, session_id: str) -> None:
        def find(store: Conversations) -> StoredConversation | None:
            return store.find(tenant_id, session_id)

        stored = await self.commits.read(find)
        if stored is None:
            return
        if stored.state != "ended" and stored.owner != self.owner:
            stored = await self._takeover.one(stored)
        live_session = await self.read(stored)
        if self._live.get(key) is not None or key in self._dormant:
            return
        if live_session.conversation.ended is not None:
            self._supervisor().recent.add(key, live_session.conversation)
            return
        self.add(live_session)
        if live_session.conversation.wants_agent:
            # What its last owner had accepted.
            self.resume(live_session)

    async def reopened(self, tenant_id: str, session_id: str) -> LiveSession | None:
        """Return the newest conversation of an id as one that goes on, without holding it.

        None where it has not ended, or is here already.
        """
        stored = await self.commits.read(lambda store: store.find(tenant_id, session_id))
        if stored is None or stored.state != "ended":
            return None
        live_session = await self.read(stored, reopened=True)
        key = live_session.registry_key
        return None if self._live.get(key) is not None or key in self._dormant else live_session

    async def read(self, stored: StoredConversation, *, reopened: bool = False) -> LiveSession:
        """Return a stored conversation, dormant or ended, without holding it."""
        limits = self._context.settings
        life = await self.commits.read(
            lambda store: _life(
                store, stored, messages=limits.max_messages, max_bytes=limits.max_history_bytes
            )
        )
        life = replace(life, reopened=reopened)
        context = life.options.context
        rules = self._blueprints().get(stored.blueprint) or _gone(stored.blueprint)
        conversation = Conversation(
            context,
            service=self._context,
            blueprint=rules,
            api_key=stored.api_key,
            number=stored.number,
            stored=True,
            life=life,
        )
        key = registry_key(stored.tenant_id, stored.session_id)
        return LiveSession(conversation, key=key, minted=False)

    async def restored(self, conversation: Conversation) -> Restored:
        """Return what the next agent of a dormant conversation gets of its earlier ones."""
        await conversation.committed()
        history, options = conversation.history, conversation.options
        messages, newest = history.all(), history.last_position
        if conversation.suspended is not None:
            # Its prompt is not of the turns before.
            messages, newest = messages[:-1], newest - 1
        return await self.commits.read(
            lambda store: restored(
                store, conversation.number, history=messages, newest=newest, options=options
            )
        )

    # -- after a start -----------------------------------------------------------------------

    async def recover(self) -> None:
        """Bring to rest what another process left, and begin to resume what waits.

        Costs a read of what was under way, and one commit for all of it.
        """
        found = await self._takeover.all()
        waiting = [each for each in found if each.waiting]
        self._resuming = asyncio.create_task(self._resume_waiting(waiting))

    async def close(self) -> None:
        """Resume no more."""
        if self._resuming is not None:
            self._resuming.cancel()
            await asyncio.wait({self._resuming})

    async def _resume_waiting(self, waiting: list[StoredConversation]) -> None:
        """Resume the conversations with prompts that wait, a few at a time."""
        places = asyncio.Semaphore(self._settings.resume_at_once)

        async def resume(stored: StoredConversation) -> None:
            async with places:
                if (loading := self.loading(stored.tenant_id, stored.session_id)) is not None:
                    await loading
                live_session = self._dormant.get(registry_key(stored.tenant_id, stored.session_id))
                if live_session is not None and live_session.conversation.wants_agent:
                    await asyncio.wait({self.resume(live_session)})

        async with asyncio.TaskGroup() as group:
            for stored in waiting:
                group.create_task(resume(stored))


async def _ended(ending: asyncio.Task[None]) -> None:
    await asyncio.wait({ending})


def _life(
    store: Conversations, stored: StoredConversation, *, messages: int, max_bytes: int
) -> EarlierLife:
    """Read what a conversation goes on from. Blocks."""
    number = stored.number
    newest = store.last_messages(number, limit=messages, max_bytes=max_bytes)
    suspended = store.turns(number, states=("suspended",))
    return EarlierLife(
        stored=stored,
        options=_options_of(stored),
        messages=tuple(msgspec.json.decode(each.message, type=Message) for each in newest),
        totals=counters_in(stored.totals),
        waiting=tuple(store.turns(number, states=("queued",))),
        suspended=_earlier_turn(store, suspended[0]) if suspended else None,
        latest=store.latest_turn(number),
    )


def _earlier_turn(store: Conversations, turn: StoredTurn) -> EarlierTurn:
    messages, text = messages_of(store, turn)
    own = [each for each in store.requests(turn.number) if each.request_id == turn.request_id]
    return EarlierTurn(
        stored=turn, messages=tuple(messages), text=text, requests=EarlierRequest.all_of(own)
    )


def _options_of(stored: StoredConversation) -> StoredOptions:
    if stored.unreadable is None:
        return msgspec.json.decode(stored.options, type=StoredOptions)
    return StoredOptions(
        context=SessionContext(
            session_id=stored.session_id,
            tenant_id=stored.tenant_id,
            blueprint=stored.blueprint,
            model=stored.model,
        )
    )


class _NoFactory:
    """In place of what a blueprint made that there is no more."""

    def __init__(self, blueprint: str) -> None:
        self._problem = f"there is no blueprint {blueprint!r} any more"

    def check(self, context: SessionContext) -> None:  # noqa: ARG002
        raise CreateFailed(self._problem)

    async def start(self, context: SessionContext) -> RunningAgent:  # noqa: ARG002
        raise CreateFailed(self._problem)


def _gone(name: str) -> Blueprint:
    """Return a blueprint that makes no agents."""
    return Blueprint(name=name, kind="gone", factory=_NoFactory(name))
