"""Ending sessions: by request, by time, with the house, or because the registry says so.

Above the residents, below the desk. A session ends in one place (`conclude`), whoever learns of it
first: the watch on the registry, a lookup that finds the agent dead, or the request that ended it.
Where another agent is to take over, it is started here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

from frontdesk.errors import FrontdeskError, SessionNotFound, StoreClosed
from frontdesk.records import ExitKind, ExitReason
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.live import LiveSession, LiveSessions
from frontdesk.sessions.reasons import public_reason
from frontdesk.sessions.recently_ended import RecentlyEnded
from frontdesk.sessions.runner import Runner
from frontdesk.sessions.running_turn import StopReason
from frontdesk.sessions.starting import Starter
from frontdesk.store import SessionStore

_log = logging.getLogger("frontdesk.sessions")

_UNKNOWN = ExitReason.of(ExitKind.UNKNOWN)
_SHUTDOWN = ExitReason.of(ExitKind.SHUTDOWN)


class Ending:
    """End sessions, and start the agents of those that go on."""

    def __init__(
        self,
        store: SessionStore,
        *,
        house: ServiceContext,
        residents: LiveSessions,
        starter: Starter,
    ) -> None:
        self._store, self._house = store, house
        self._residents, self._starter = residents, starter
        settings = house.settings
        self.recent = RecentlyEnded(most=settings.recent_ends, max_bytes=settings.recent_ends_bytes)
        self._tasks: set[asyncio.Task[None]] = set()

    # -- learning of it ----------------------------------------------------------------------

    def attend(self, resident: LiveSession) -> None:
        """See to it that an agent whose runner has ended does not live on alone."""
        runner = resident.runner
        if runner is not None and runner.agent.registered is not None:
            runner.task.add_done_callback(lambda _: self._runner_ended(resident, runner))

    def catch_up(self, resident: LiveSession) -> bool:
        """Conclude a session whose agent is found dead; say whether the session lives on."""
        runner = resident.runner
        if runner is None:
            return resident.conversation.ended is None
        if self._lives(resident, runner):
            return True
        self.conclude(resident, runner.fence, self._reason_of(resident, runner.fence))
        return resident.conversation.ended is None

    def conclude(self, resident: LiveSession, fence: int, reason: ExitReason) -> None:
        """Draw the consequences of an agent's end, once: another agent, or the session's end."""
        runner = resident.runner
        if runner is None or runner.fence != fence:
            return
        resident.runner = None
        self._spawn(self._clear_away(runner))
        if reason.kind is ExitKind.RESTARTED and resident.registrant is not None:
            own = resident.registrant.agent_reason or _UNKNOWN
            resident.conversation.interrupt(own)
            self._spawn(self._restart(resident, own))
        else:
            self._close(resident, reason)

    # -- bringing it about -------------------------------------------------------------------

    def begin(
        self, resident: LiveSession, reason: ExitReason, *, grace_s: float
    ) -> asyncio.Task[None]:
        """Begin to end a session; the first reason counts. Returns what ends it."""
        if resident.ending is None:
            resident.may_restart = False
            resident.conversation.ending = reason
            resident.ending = self._spawn(self._end(resident, reason, grace_s))
        return resident.ending

    async def settle(self) -> None:
        """Wait for everything that was begun."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    # -- within ------------------------------------------------------------------------------

    async def _end(self, resident: LiveSession, reason: ExitReason, grace_s: float) -> None:
        until_s = _now_s() + grace_s
        runner = resident.runner
        if runner is None:
            self._close(resident, reason)
            return
        if resident.registrant is not None:
            resident.registrant.explain(reason)
        is_task = runner.agent.registered is None
        # A process needs some of the time for itself: it is asked before it is killed.
        await runner.stop_turn(
            StopReason(public_reason(reason)), grace_s=grace_s if is_task else grace_s / 2
        )
        if not is_task:
            await self._end_agent(runner, max(0.0, until_s - _now_s()))
        # The entry goes after its agent, or after the grace period, and before the runner's task:
        # the registry would call that `cancelled`.
        self._remove_entry(resident, runner, reason)
        self.conclude(resident, runner.fence, self._reason_of(resident, runner.fence))
        await runner.cancel()

    async def _end_crashed(
        self, resident: LiveSession, runner: Runner, error: BaseException
    ) -> None:
        """End a process whose agent raised, where that ends the session: it may be restarted."""
        if resident.registrant is not None:
            resident.registrant.explain(ExitReason.crashed(error))
        await self._end_agent(runner, self._house.settings.end_grace_s)
        if self.catch_up(resident) and resident.runner is runner:
            await self.begin(resident, ExitReason.crashed(error), grace_s=0.0)

    async def _end_agent(self, runner: Runner, grace_s: float) -> None:
        """End an agent and wait for that; not for longer than it may take."""
        ended = self._spawn(runner.agent.end(grace_s))
        await asyncio.wait({ended}, timeout=grace_s + 0.5)

    async def _clear_away(self, runner: Runner) -> None:
        await runner.cancel()
        if runner.agent.registered is not None:
            await runner.agent.end(0.0)

    async def _restart(self, resident: LiveSession, reason: ExitReason) -> None:
        conversation, house = resident.conversation, self._house
        resident.restart_state = resident.restart_state.after_restart(
            house.clock.monotonic(), limit=conversation.rules.restart_limit
        )
        try:
            runner = await self._starter.start(resident)
        except FrontdeskError as error:
            _log.warning("session %s is not restarted: %s", conversation.session_id, error)
            self._close(resident, conversation.ending or reason)
            return
        self.attend(resident)
        if conversation.ended is not None:
            # Ended while its next agent was started: the entry that was just made goes again.
            resident.runner = None
            self._remove_entry(resident, runner, conversation.ended)
            await self._clear_away(runner)
            return
        conversation.resume(reason)

    def _runner_ended(self, resident: LiveSession, runner: Runner) -> None:
        """End an agent whose session its runner has ended, if the registry does not know yet."""
        error = None if runner.task.cancelled() else runner.task.exception()
        if resident.runner is not runner or not self.catch_up(resident):
            return
        if resident.runner is not runner:
            return
        if error is not None:
            self._spawn(self._end_crashed(resident, runner, error))
        elif runner.ended_session:
            self.begin(resident, ExitReason.of("normal"), grace_s=self._house.settings.end_grace_s)
        else:
            self.begin(resident, ExitReason.of("lost"), grace_s=0.0)

    def _close(self, resident: LiveSession, reason: ExitReason) -> None:
        """End the conversation; from here on the session is one that has ended recently."""
        resident.conversation.end(reason)
        if self._residents.remove(resident):
            self.recent.add(resident.registered_id, resident.conversation)
        resident.registrant = None

    def _lives(self, resident: LiveSession, runner: Runner) -> bool:
        try:
            return self._store.get(resident.registered_id).fence == runner.fence
        except (SessionNotFound, StoreClosed):
            return False

    def _remove_entry(self, resident: LiveSession, runner: Runner, reason: ExitReason) -> None:
        with contextlib.suppress(StoreClosed):
            self._store.delete(resident.registered_id, fence=runner.fence, reason=reason)

    def _reason_of(self, resident: LiveSession, fence: int) -> ExitReason:
        """Return how the entry of this fence ended, from the registry's memory of ends."""
        try:
            ended = self._store.ended(resident.registered_id)
        except SessionNotFound:
            return _UNKNOWN
        except StoreClosed:
            return _SHUTDOWN
        return ended.reason if ended.session.fence == fence else _UNKNOWN

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("ending a session failed", exc_info=error)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
