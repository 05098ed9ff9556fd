"""Supervision: agents are started and ended, and every write to the registry is made, here.

The registry's monitor decides that an agent has ended, and how; whoever else notices only makes
sure that it is so, or asks the registry again:

    heard by                                    does
    ------------------------------------------  ------------------------------------------------
    the watch on the registry                   `on_agent_exit`
    a lookup that finds the entry gone          `refresh`: `on_agent_exit`
    the runner's task, which returned           `refresh`; if the agent lives on, its end is begun
    a client's delete, a time-out, a drain      `begin_ending`: the agent is ended, its entry
                                                deleted, then `on_agent_exit`
    an agent process's channel, the keeper      the runner's turn ends with `AgentLost`: the agent
                                                is killed, the monitor hears of that

An agent's end, once for each entry, whoever hears of it first:

    1. The entry is another agent's by now (its fence differs), or none is here: nothing.
    2. The registry calls the end `restarted` (`SupervisedAgent` was asked as it happened), and the
       session is live: its turn is aborted (one that waits for answers, and can go on in another
       agent, waits on) and the next agent is started. If that succeeds, the conversation goes on
       with `agent_restarted`. If it fails, the session ends for the reason for which its last agent
       did. Where it is stored and that cannot be read now, it is dormant: the first turn of an
       agent that remembers nothing would write over what is stored.
    3. The same, but the session is being ended: it ends, for the reason that it was ended for.
    4. Everything else ends the session for the registry's reason: or, where it is stored and only
       its agent was to go, leaves it dormant.

In cases 2 to 4 what is left of the agent is cleared away beside that. Where a turn is under way in
a process, what that had sent before its exit comes first: the turn ends by it, or a second later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from frontdesk.agents.errors import AgentUnavailable, CreateFailed
from frontdesk.agents.protocol import (
    RunningAgent,
    discard,
    leave,
    start_after,
    start_restored,
)
from frontdesk.agents.records import Restored
from frontdesk.agents.restart import restarts
from frontdesk.errors import FrontdeskError, SessionAlreadyExists, SessionNotFound, StoreClosed
from frontdesk.keeper.errors import SHORTAGES, KeeperLost
from frontdesk.monitors import Watcher
from frontdesk.persistence.errors import (
    ConversationUnreadable,
    StorageBroken,
    StorageUnavailable,
)
from frontdesk.records import ExitKind, ExitReason
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.errors import Draining
from frontdesk.sessions.live import LiveSession, LiveSessions, RecentlyEnded
from frontdesk.sessions.phases import SessionPhase
from frontdesk.sessions.reservations import Place, Reservations
from frontdesk.sessions.resumable import read_restored
from frontdesk.sessions.runner import Runner
from frontdesk.sessions.stop_reason import StopReason
from frontdesk.sessions.supervised_agent import SupervisedAgent
from frontdesk.store import SessionStore

if TYPE_CHECKING:
    # Late: without a cluster, nothing of it is imported.
    from frontdesk.sessions.cluster_entries import ClusterEntries

LAST_WORDS_S = 1.0
"""How long what an agent's process sent before it exited is waited for."""

_log = logging.getLogger("frontdesk.sessions")

_STAYS_FOR = (StorageUnavailable, StorageBroken, ConversationUnreadable, Draining)
"""Errors for which a session that is stored gets no next agent now, and is dormant."""

_DELETED = ExitReason.of(ExitKind.DELETED)
_SUPERSEDED = ExitReason.of(ExitKind.SUPERSEDED)
_UNKNOWN = ExitReason.of(ExitKind.UNKNOWN)
_SHUTDOWN = ExitReason.of(ExitKind.SHUTDOWN)


class Supervisor:
    """Start the agents of sessions, end them, and go by what the registry says of them."""

    def __init__(
        self,
        store: SessionStore[Any],
        *,
        service: ServiceContext,
        live_sessions: LiveSessions,
        reservations: Reservations,
        watcher: Watcher,
        on_live: Callable[[LiveSession], None],
        on_dormant: Callable[[LiveSession], None],
        on_place_free: Callable[[], None],
    ) -> None:
        self._store, self._service, self._watcher = store, service, watcher
        self._on_live, self._on_dormant = on_live, on_dormant
        self._on_place_free = on_place_free
        self._entries: ClusterEntries | None = None
        if service.node is not None:
            from frontdesk.sessions.cluster_entries import ClusterEntries

            self._entries = ClusterEntries(service.node, store)
        self._live, self._reservations = live_sessions, reservations
        settings = service.settings
        self.recent: RecentlyEnded = RecentlyEnded(
            limit=settings.recent_ends, max_bytes=settings.recent_ends_bytes
        )
        self._tasks: set[asyncio.Task[None]] = set()

    # -- starting ----------------------------------------------------------------------------

    async def open(self, live_session: LiveSession, *, restored: Restored | None = None) -> None:
        """Start the first agent of a session; from here on the session is one that lives.

        With what is `restored`, it is the first here of a conversation that was dormant.

        With other nodes, the id and a place under the limits are theirs as well:

        1. They are reserved in the index, before anything is started.
        2. The agent is started and registered here, which makes this node its authority.
        3. The entry goes into the index, and only then is the session one of the live ones.
        4. Whatever is refused or cancelled at any step: the entry here goes, the agent is ended,
           the reservation is released; an entry in the index goes with the entry here.

        An agent that ended during step 3 is heard of after it. Raises what `start` does, and what
        the index refuses.
        """
        if self._entries is None:
            await self.start(live_session, restored=restored)
            self._add(live_session)
            return
        token = await self._reserve(live_session, self._entries)
        try:
            await self.start(live_session, restored=restored)
            await self._entries.enter(live_session, token=token)
            self._refuse_if_draining()
        except BaseException:
            await asyncio.shield(self._spawn(self._undo(live_session, self._entries, token)))
            raise
        self._add(live_session)
        if not self.refresh(live_session):
            raise CreateFailed("the agent ended as soon as it was started")

    async def _reserve(self, live_session: LiveSession, entries: ClusterEntries) -> str:
        """Reserve an id; where the caller is cancelled meanwhile, it is released afterwards."""
        reserving = asyncio.create_task(entries.reserve(live_session))
        try:
            return await asyncio.shield(reserving)
        except asyncio.CancelledError:
            self._spawn(_release_after(reserving, live_session, entries))
            raise

    def _add(self, live_session: LiveSession) -> None:
        self._live.add(live_session)
        self._on_live(live_session)
        if self._service.observer is not None:
            self._service.observer.on_started(live_session.conversation)
        self.watch_runner(live_session)

    async def _undo(self, live_session: LiveSession, entries: ClusterEntries, token: str) -> None:
        """Leave nothing of a session that could not be opened."""
        if (runner := live_session.runner) is not None:
            live_session.runner = None
            self._delete_entry(live_session, runner, _DELETED)
            await self._clear_away(runner, last=True)
        await entries.release(live_session, token=token)

    async def start(
        self,
        live_session: LiveSession,
        *,
        former: RunningAgent | None = None,
        restored: Restored | None = None,
    ) -> Runner:
        """Start an agent for the conversation, after a former one where that ended; register it.

        The registry of this process is all that it asks. Raises `CreateFailed`, `Draining`,
        `SessionAlreadyExists`, `SessionLimitExceeded`; after any of them, and after a cancellation,
        nothing of the agent is left.
        """
        conversation = live_session.conversation
        context = msgspec.structs.replace(conversation.context, model=conversation.model)
        try:
            factory = conversation.rules.factory
            if former is not None:
                agent, live_session.memory = await start_after(factory, context, former, restored)
            elif restored is not None:
                agent, live_session.memory = await start_restored(factory, context, restored)
            else:
                agent = await factory.start(context)
        except (AgentUnavailable, CreateFailed, KeeperLost):
            raise
        except Exception as error:
            _log.exception("an agent of blueprint %s could not be started", conversation.blueprint)
            name = type(error).__name__
            if isinstance(error, MemoryError) or getattr(error, "errno", None) in SHORTAGES:
                raise AgentUnavailable(f"the machine is out of something ({name})") from error
            raise CreateFailed(f"the agent could not be started: {name}") from error
        try:
            return self._register(live_session, agent)
        except BaseException as error:
            # Nobody will have this agent; a caller that is cancelled does not stop its end.
            stays = restored is not None and (former is None or isinstance(error, _STAYS_FOR))
            await asyncio.shield(self._spawn(_end(agent, 0.0, last=not stays)))
            if stays:
                leave(agent)
            raise

    def _register(self, live_session: LiveSession, agent: RunningAgent) -> Runner:
        """Run the agent's turns from now on, and enter it in the registry."""
        self._refuse_if_draining()
        conversation = live_session.conversation
        runner = Runner(conversation, agent)
        registered: Any = runner.task if agent.registry_agent is None else agent.registry_agent
        supervised = None
        if agent.registry_agent is not None or conversation.rules.restart != "never":
            supervised = registered = SupervisedAgent(
                registered,
                restarts=lambda reason: self._restarts(live_session, runner, reason),
                watcher=self._watcher,
            )
        key = live_session.registry_key
        try:
            entry = self._store.create(
                key,
                registered,
                api_key=conversation.api_key,
                tenant_id=conversation.tenant_id,
                blueprint=conversation.rules.name,
                model=conversation.model,
            )
        except BaseException as error:
            runner.task.cancel()
            if isinstance(error, SessionAlreadyExists):
                # The registry knows the id with its tenant; the client is told its own.
                raise SessionAlreadyExists(conversation.session_id, holder=error.holder) from None
            raise
        if key not in self._store:
            runner.task.cancel()
            raise CreateFailed("the agent ended as soon as it was started")
        self._reservations.release(key)
        runner.fence = entry.fence
        conversation.bind_entry(entry)
        live_session.runner, live_session.supervised_agent = runner, supervised
        return runner

    def _refuse_if_draining(self) -> None:
        if self._service.draining:
            raise Draining

    def _restarts(self, live_session: LiveSession, runner: Runner, reason: ExitReason) -> bool:
        """Say whether another agent takes over. Asked once an agent, maybe in another thread."""
        conversation = live_session.conversation
        if self._service.draining or runner.ended_session or conversation.ending_reason is not None:
            return False
        return restarts(
            conversation.rules.restart,
            reason,
            state=live_session.restart_state,
            now=self._service.clock.monotonic(),
            limit=conversation.rules.restart_limit,
        )

    def update_model(self, conversation: Conversation, model: str) -> None:
        """Write a conversation's new model into its entry."""
        live_session = self._live.of(conversation)
        if live_session is not None and live_session.runner is not None:
            # An agent that has just died is heard of in its own time.
            with contextlib.suppress(SessionNotFound):
                self._store.update(live_session.registry_key, model=model)

    # -- hearing of an end -------------------------------------------------------------------

    def watch_runner(self, live_session: LiveSession) -> None:
        """See to it that an agent whose runner has ended does not live on alone."""
        runner = live_session.runner
        if runner is not None and runner.agent.registry_agent is not None:
            runner.task.add_done_callback(lambda _: self._on_runner_exit(live_session, runner))

    def refresh(self, live_session: LiveSession) -> bool:
        """Ask the registry about a session's agent; say whether the session lives on."""
        runner = live_session.runner
        if runner is not None:
            try:
                fence = self._store.get(live_session.registry_key).fence
            except (SessionNotFound, StoreClosed):
                fence = None
            if fence != runner.fence:
                reason = self._exit_reason(live_session, runner.fence)
                self.on_agent_exit(live_session, runner.fence, reason)
        return live_session.conversation.ended is None

    def on_agent_exit(self, live_session: LiveSession, fence: int, reason: ExitReason) -> None:
        """Draw the consequences of an agent's end, once (cases 1 to 4 above)."""
        runner, conversation = live_session.runner, live_session.conversation
        if runner is None or runner.fence != fence:
            return
        live_session.runner = None
        supervised = live_session.supervised_agent
        died_s = runner.died_s if supervised is None else supervised.died_s
        conversation.cleanup_s = None
        if died_s is not None and conversation.ending_reason is None:
            conversation.cleanup_s = perf_counter() - died_s
        own: ExitReason | None = None
        if reason.kind is ExitKind.RESTARTED and supervised is not None:
            if conversation.ending_reason is None:
                own = supervised.agent_reason or _UNKNOWN
                place = Place(conversation.tenant_id, conversation.api_key, blueprint=None)
                self._reservations.reserve(live_session.registry_key, place)
            else:
                reason = conversation.ending_reason
        if runner.retire():
            self._draw_consequences(live_session, runner, reason, restart=own)
        else:
            if own is None and conversation.ending_reason is None:
                conversation.begin_ending(reason)
            self._spawn(self._await_last_words(live_session, runner, reason, restart=own))

    async def _await_last_words(
        self,
        live_session: LiveSession,
        runner: Runner,
        reason: ExitReason,
        *,
        restart: ExitReason | None,
    ) -> None:
        """Let the turn end by what the agent's process had sent before it exited."""
        turn = live_session.conversation.turn
        ends = {runner.task} if turn is None else {runner.task, turn.done}
        await asyncio.wait(ends, timeout=LAST_WORDS_S, return_when=asyncio.FIRST_COMPLETED)
        self._draw_consequences(live_session, runner, reason, restart=restart)

    def _draw_consequences(
        self,
        live_session: LiveSession,
        runner: Runner,
        reason: ExitReason,
        *,
        restart: ExitReason | None,
    ) -> None:
        """Clear the agent away, and go on with the next one or end the session for the reason."""
        runner.task.cancel()
        conversation = live_session.conversation
        last = restart is None or conversation.ending_reason is not None
        self._spawn(self._clear_away(runner, last=last, dormant=live_session.goes_dormant))
        if restart is None or last:
            self._close(live_session, conversation.ending_reason or reason)
        else:
            conversation.interrupt(restart)
            restarting = self._restart(live_session, restart, runner.agent)
            live_session.restarting = self._spawn(restarting)

    async def _restart(
        self, live_session: LiveSession, reason: ExitReason, former: RunningAgent
    ) -> None:
        """Start the next agent of a session whose last one ended for this reason (case 2).

        Where the session is stored, it gets what a resumed one gets. Cancelled by `_close`.
        """
        conversation, commits = live_session.conversation, self._service.commits
        live_session.restart_state = live_session.restart_state.after_restart(
            self._service.clock.monotonic(), limit=conversation.rules.restart_limit
        )
        restored = None
        try:
            if commits is not None and conversation.record is not None:
                restored = await read_restored(commits, conversation)
            runner = await self.start(live_session, former=former, restored=restored)
        except FrontdeskError as error:
            _log.warning("session %s is not restarted: %s", conversation.session_id, error)
            if conversation.record is not None and conversation.ending_reason is None:
                live_session.goes_dormant = isinstance(error, _STAYS_FOR)
            self._close(live_session, conversation.ending_reason or reason)
            if conversation.dormant and conversation.wants_agent:
                self._service.wake(conversation)
            await _leave_or_discard(former, of=conversation)
            return
        except asyncio.CancelledError:
            await _leave_or_discard(former, of=conversation)
            raise
        if not conversation.live:
            # `_close` was here first, and the start was deaf to that: the agent goes again.
            live_session.runner = None
            self._delete_entry(live_session, runner, conversation.ended or reason)
            await self._clear_away(runner, last=True, dormant=conversation.dormant)
            return
        self.watch_runner(live_session)
        if self._entries is not None:
            self._spawn(self._enter_next(live_session, runner, self._entries))
        if conversation.phase is SessionPhase.RESTARTING:
            # Otherwise it is being ended, and whoever does that finds the agent.
            conversation.resume(reason.public_text, memory=live_session.memory)

    async def _enter_next(
        self, live_session: LiveSession, runner: Runner, entries: ClusterEntries
    ) -> None:
        """Tell the index of the next agent; it is stopped where another node has the id."""
        with contextlib.suppress(SessionNotFound, StoreClosed):
            entry = self._store.get(live_session.registry_key)
            if entry.fence == runner.fence and not await entries.enter_next(live_session, entry):
                key = live_session.registry_key
                _log.warning("session %s is another node's: it is stopped here", key)
                self.begin_ending(live_session, _SUPERSEDED)

    def _on_runner_exit(self, live_session: LiveSession, runner: Runner) -> None:
        """End an agent whose runner has ended, if the registry does not know yet."""
        error = None if runner.task.cancelled() else runner.task.exception()
        if live_session.runner is not runner or not self.refresh(live_session):
            return
        if live_session.runner is not runner:
            return
        if error is not None:
            self._spawn(self._end_crashed(live_session, runner, error))
        elif runner.ended_session:
            self.begin_ending(live_session, ExitReason.of(ExitKind.NORMAL))
        else:
            self.begin_ending(live_session, ExitReason.of(ExitKind.LOST), grace_s=0.0)

    # -- bringing an end about ---------------------------------------------------------------

    def begin_ending(
        self,
        live_session: LiveSession,
        reason: ExitReason,
        *,
        grace_s: float | None = None,
        dormant: bool = False,
    ) -> asyncio.Task[None]:
        """Begin to end a session; the first reason counts. Returns what ends it.

        With `dormant`, one that is stored stays, and only its agent ends.
        """
        if live_session.ending is None:
            live_session.goes_dormant = dormant and live_session.conversation.record is not None
            if live_session.conversation.ended is None:
                leaving = live_session.goes_dormant
                live_session.conversation.begin_ending(reason, leaving=leaving)
            if grace_s is None:
                grace_s = self._service.settings.end_grace_s
            live_session.ending = self._spawn(self._end(live_session, reason, grace_s))
        return live_session.ending

    async def join(self) -> None:
        """Wait for everything that was begun."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _end(self, live_session: LiveSession, reason: ExitReason, grace_s: float) -> None:
        until_s = _now_s() + grace_s
        runner = live_session.runner
        if runner is None:
            self._close(live_session, reason)
            return
        if live_session.supervised_agent is not None:
            live_session.supervised_agent.set_reason(reason)
        if live_session.goes_dormant:
            live_session.conversation.set_aside()
        is_task = runner.agent.registry_agent is None
        # A process needs some of the time for itself: it is asked before it is killed.
        await runner.stop_turn(
            StopReason(reason.public_text), grace_s=grace_s if is_task else grace_s / 2
        )
        if not is_task:
            last = not live_session.goes_dormant
            await self._end_agent(runner, max(0.0, until_s - _now_s()), last=last)
        # The entry goes after its agent, or after the grace period, and before the runner's task:
        # the registry would call that `cancelled`.
        self._delete_entry(live_session, runner, reason)
        self.on_agent_exit(
            live_session, runner.fence, self._exit_reason(live_session, runner.fence)
        )
        await runner.cancel()

    async def _end_crashed(
        self, live_session: LiveSession, runner: Runner, error: BaseException
    ) -> None:
        """End a process whose agent raised, where that ends the session: it may be restarted."""
        if live_session.supervised_agent is not None:
            live_session.supervised_agent.set_reason(ExitReason.crashed(error))
        await self._end_agent(runner, self._service.settings.end_grace_s, last=False)
        if self.refresh(live_session) and live_session.runner is runner:
            await self.begin_ending(live_session, ExitReason.crashed(error), grace_s=0.0)

    async def _end_agent(self, runner: Runner, grace_s: float, *, last: bool) -> None:
        """End an agent and wait for that; not for longer than it may take."""
        ended = self._spawn(_end(runner.agent, grace_s, last=last))
        await asyncio.wait({ended}, timeout=grace_s + 0.5)

    async def _clear_away(self, runner: Runner, *, last: bool, dormant: bool = False) -> None:
        await runner.cancel()
        if runner.agent.registry_agent is not None:
            await _end(runner.agent, 0.0, last=last and not dormant)
        if dormant:
            leave(runner.agent)

    def _close(self, live_session: LiveSession, reason: ExitReason) -> None:
        """End the conversation; from here on the session is one that has ended recently.

        Or, where only its agent was to go, leave it dormant.
        """
        conversation = live_session.conversation
        if live_session.goes_dormant:
            conversation.leave(reason)
        else:
            conversation.end(reason)
        self._reservations.release(live_session.registry_key)
        if self._entries is not None and (token := self._entries.next_token(live_session)):
            # What was held for a next agent, which will not come.
            self._spawn(self._entries.release(live_session, token=token))
        live_session.supervised_agent = None
        restarting = live_session.restarting
        if restarting is not None and restarting is not asyncio.current_task():
            # It was between two agents, and there is no next one.
            restarting.cancel()
        if not self._live.remove(live_session):
            return
        self._on_place_free()
        if live_session.goes_dormant:
            live_session.goes_dormant, live_session.ending = False, None
            self._on_dormant(live_session)
            conversation.wake_again()
        elif conversation.record is None or reason.kind is not ExitKind.DELETED:
            self.recent.add(live_session.registry_key, conversation)

    # -- the registry ------------------------------------------------------------------------

    def _delete_entry(self, live_session: LiveSession, runner: Runner, reason: ExitReason) -> None:
        with contextlib.suppress(StoreClosed):
            self._store.delete(live_session.registry_key, fence=runner.fence, reason=reason)

    def _exit_reason(self, live_session: LiveSession, fence: int) -> ExitReason:
        """Return how the entry of this fence ended, from the registry's memory of ends."""
        try:
            ended = self._store.ended(live_session.registry_key)
        except SessionNotFound:
            return _UNKNOWN
        except StoreClosed:
            return _SHUTDOWN
        return ended.reason if ended.session.fence == fence else _UNKNOWN

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("ending a session failed", exc_info=error)


async def _end(agent: RunningAgent, grace_s: float, *, last: bool) -> None:
    """End an agent, with what it left for the next one where it was the last of its session."""
    await agent.end(grace_s)
    if last:
        await discard(agent)


async def _leave_or_discard(former: RunningAgent, *, of: Conversation) -> None:
    """Leave what there is for the next agent, where the session has not ended; else remove it."""
    if of.ended is None:
        leave(former)
    else:
        await discard(former)


async def _release_after(
    reserving: asyncio.Task[str], live_session: LiveSession, entries: ClusterEntries
) -> None:
    with contextlib.suppress(FrontdeskError):
        await entries.release(live_session, token=await reserving)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
