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
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from frontdesk.agents.errors import CreateFailed
from frontdesk.agents.protocol import (
    RunningAgent,
    discard,
    leave,
)
from frontdesk.agents.records import Restored
from frontdesk.errors import FrontdeskError, SessionNotFound, StoreClosed
from frontdesk.monitors import Watcher
from frontdesk.records import ExitKind, ExitReason
from frontdesk.sessions.agent_starts import STAYS_FOR, AgentStarts, end_agent
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.live import LiveSession, LiveSessions, RecentlyEnded
from frontdesk.sessions.phases import SessionPhase
from frontdesk.sessions.reservations import Place, Reservations
from frontdesk.sessions.resumable import read_restored
from frontdesk.sessions.runner import Runner
from frontdesk.sessions.stop_reason import StopReason
from frontdesk.store import SessionStore

if TYPE_CHECKING:
    # Late: without a cluster, nothing of it is imported.
    from frontdesk.sessions.cluster_entries import ClusterEntries

LAST_WORDS_S = 1.0
"""How long what an agent's process sent before it exited is waited for."""

_log = logging.getLogger("frontdesk.sessions")

_DELETED = ExitReason.of(ExitKind.DELETED)
_SUPERSEDED = ExitReason.of(ExitKind.SUPERSEDED)
_UNKNOWN = ExitReason.of(ExitKind.UNKNOWN)
_SHUTDOWN = ExitReason.of(ExitKind.SHUTDOWN)


class Supervisor(AgentStarts):
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
        super().__init__(
            store,
            service=service,
            live_sessions=live_sessions,
            reservations=reservations,
            watcher=watcher,
        )
        self._on_live, self._on_dormant = on_live, on_dormant
        self._on_place_free = on_place_free
        self._entries: ClusterEntries | None = None
        if service.node is not None:
            from frontdesk.sessions.cluster_entries import ClusterEntries

            self._entries = ClusterEntries(service.node, store)
        settings = service.settings
        self.recent: RecentlyEnded = RecentlyEnded(
            limit=settings.recent_ends, max_bytes=settings.recent_ends_bytes
        )

    # -- opening -----------------------------------------------------------------------------

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
            self.refuse_if_draining()
        except BaseException:
            await asyncio.shield(self.spawn(self._undo(live_session, self._entries, token)))
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
            self.spawn(_release_after(reserving, live_session, entries))
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
        ends = own is None and conversation.ending_reason is None
        if ends and self._service.draining and conversation.record is not None:
            # Another would take over if anything was started here now: the next gateway does.
            live_session.goes_dormant = self.policy_restarts(live_session, reason)
        if runner.retire():
            self._draw_consequences(live_session, runner, reason, restart=own)
            return
        waiting = self.spawn(self._await_last_words(live_session, runner, reason, restart=own))
        if ends:
            conversation.begin_ending(reason, leaving=live_session.goes_dormant)
            live_session.ending = waiting

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
        """Clear the agent away, and go on with the next one or end the session for the reason.

        Nothing follows where the session was closed since its agent ended.
        """
        runner.task.cancel()
        conversation = live_session.conversation
        is_over = live_session.runner is not None or self._live.of(conversation) is not live_session
        last = restart is None or conversation.ending_reason is not None
        dormant = live_session.goes_dormant or (is_over and conversation.ended is None)
        self.spawn(self._clear_away(runner, last=last or is_over, dormant=dormant))
        if is_over:
            return
        if restart is None or last:
            self._close(live_session, conversation.ending_reason or reason)
        else:
            conversation.interrupt(restart)
            restarting = self._restart(live_session, restart, runner.agent)
            live_session.restarting = self.spawn(restarting)

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
                live_session.goes_dormant = isinstance(error, STAYS_FOR)
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
            self.spawn(self._enter_next(live_session, runner, self._entries))
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
            self.spawn(self._end_crashed(live_session, runner, error))
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

        With `dormant`, one that is stored stays, and only its agent ends. Nothing happens to one
        that is over.
        """
        if self._live.of(live_session.conversation) is not live_session:
            return live_session.ending or self.spawn(asyncio.sleep(0))
        if live_session.ending is None:
            live_session.goes_dormant = dormant and live_session.conversation.record is not None
            if live_session.conversation.ended is None:
                leaving = live_session.goes_dormant
                live_session.conversation.begin_ending(reason, leaving=leaving)
            if grace_s is None:
                grace_s = self._service.settings.end_grace_s
            live_session.ending = self.spawn(self._end(live_session, reason, grace_s))
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
        ended = self.spawn(end_agent(runner.agent, grace_s, last=last))
        await asyncio.wait({ended}, timeout=grace_s + 0.5)

    async def _clear_away(self, runner: Runner, *, last: bool, dormant: bool = False) -> None:
        await runner.cancel()
        if runner.agent.registry_agent is not None:
            await end_agent(runner.agent, 0.0, last=last and not dormant)
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
            self.spawn(self._entries.release(live_session, token=token))
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
