"""Ending sessions: by request, by time, with the house, or because the registry says so.

Above the residents, below the desk. A session ends in one place (`on_agent_exit`), whoever learns of it
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

_log = logging.getLogger("frontdesk.agents")

_UNKNOWN = ExitReason.of(ExitKind.UNKNOWN)
_SHUTDOWN = ExitReason.of(ExitKind.SHUTDOWN)


class Ending:
    """End sessions, and start the agents of those that go on."""

    def __init__(
        self,
        store: SessionStore,
        *,
        service: ServiceContext,
        live_sessions: LiveSessions,
        starter: Starter,
    ) -> None:
        self._store, self._context = store, service
        self._live, self._starter = live_sessions, starter
        settings = service.settings
        self.recent = RecentlyEnded(most=settings.recent_ends, max_bytes=settings.recent_ends_bytes)
        self._tasks: set[asyncio.Task[None]] = set()

    # -- learning of it ----------------------------------------------------------------------

    def watch_runner(self, live_session: LiveSession) -> None:
        """See to it that an agent whose runner has ended does not live on alone."""
        runner = live_session.runner
        if runner is not None and runner.agent.registry_agent is not None:
            runner.task.add_done_callback(lambda _: self._runner_ended(live_session, runner))

    def refresh(self, live_session: LiveSession) -> bool:
        """Conclude a session whose agent is found dead; say whether the session lives on."""
        runner = live_session.runner
        if runner is None:
            return live_session.conversation.ended is None
        if self._lives(live_session, runner):
            return True
        self.on_agent_exit(live_session, runner.fence, self._reason_of(live_session, runner.fence))
        return live_session.conversation.ended is None

    def on_agent_exit(self, live_session: LiveSession, fence: int, reason: ExitReason) -> None:
        """Draw the consequences of an agent's end, once: another agent, or the session's end."""
        runner = live_session.runner
        if runner is None or runner.fence != fence:
            return
        live_session.runner = None
        self._spawn(self._clear_away(runner))
        if reason.kind is ExitKind.RESTARTED and live_session.supervised_agent is not None:
            own = live_session.supervised_agent.agent_reason or _UNKNOWN
            live_session.conversation.interrupt(own)
            self._spawn(self._restart(live_session, own))
        else:
            self._close(live_session, reason)

    # -- bringing it about -------------------------------------------------------------------

    def begin(
        self, live_session: LiveSession, reason: ExitReason, *, grace_s: float
    ) -> asyncio.Task[None]:
        """Begin to end a session; the first reason counts. Returns what ends it."""
        if live_session.ending is None:
            live_session.may_restart = False
            live_session.conversation.ending = reason
            live_session.ending = self._spawn(self._end(live_session, reason, grace_s))
        return live_session.ending

    async def join(self) -> None:
        """Wait for everything that was begun."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    # -- within ------------------------------------------------------------------------------

    async def _end(self, live_session: LiveSession, reason: ExitReason, grace_s: float) -> None:
        until_s = _now_s() + grace_s
        runner = live_session.runner
        if runner is None:
            self._close(live_session, reason)
            return
        if live_session.supervised_agent is not None:
            live_session.supervised_agent.set_reason(reason)
        is_task = runner.agent.registry_agent is None
        # A process needs some of the time for itself: it is asked before it is killed.
        await runner.stop_turn(
            StopReason(public_reason(reason)), grace_s=grace_s if is_task else grace_s / 2
        )
        if not is_task:
            await self._end_agent(runner, max(0.0, until_s - _now_s()))
        # The entry goes after its agent, or after the grace period, and before the runner's task:
        # the registry would call that `cancelled`.
        self._remove_entry(live_session, runner, reason)
        self.on_agent_exit(live_session, runner.fence, self._reason_of(live_session, runner.fence))
        await runner.cancel()

    async def _end_crashed(
        self, live_session: LiveSession, runner: Runner, error: BaseException
    ) -> None:
        """End a process whose agent raised, where that ends the session: it may be restarted."""
        if live_session.supervised_agent is not None:
            live_session.supervised_agent.set_reason(ExitReason.crashed(error))
        await self._end_agent(runner, self._context.settings.end_grace_s)
        if self.refresh(live_session) and live_session.runner is runner:
            await self.begin(live_session, ExitReason.crashed(error), grace_s=0.0)

    async def _end_agent(self, runner: Runner, grace_s: float) -> None:
        """End an agent and wait for that; not for longer than it may take."""
        ended = self._spawn(runner.agent.end(grace_s))
        await asyncio.wait({ended}, timeout=grace_s + 0.5)

    async def _clear_away(self, runner: Runner) -> None:
        await runner.cancel()
        if runner.agent.registry_agent is not None:
            await runner.agent.end(0.0)

    async def _restart(self, live_session: LiveSession, reason: ExitReason) -> None:
        conversation, service = live_session.conversation, self._context
        live_session.restart_state = live_session.restart_state.after_restart(
            service.clock.monotonic(), limit=conversation.rules.restart_limit
        )
        try:
            runner = await self._starter.start(live_session)
        except FrontdeskError as error:
            _log.warning("session %s is not restarted: %s", conversation.session_id, error)
            self._close(live_session, conversation.ending or reason)
            return
        self.watch_runner(live_session)
        if conversation.ended is not None:
            # Ended while its next agent was started: the entry that was just made goes again.
            live_session.runner = None
            self._remove_entry(live_session, runner, conversation.ended)
            await self._clear_away(runner)
            return
        conversation.resume(reason)

    def _runner_ended(self, live_session: LiveSession, runner: Runner) -> None:
        """End an agent whose session its runner has ended, if the registry does not know yet."""
        error = None if runner.task.cancelled() else runner.task.exception()
        if live_session.runner is not runner or not self.refresh(live_session):
            return
        if live_session.runner is not runner:
            return
        if error is not None:
            self._spawn(self._end_crashed(live_session, runner, error))
        elif runner.ended_session:
            self.begin(
                live_session, ExitReason.of("normal"), grace_s=self._context.settings.end_grace_s
            )
        else:
            self.begin(live_session, ExitReason.of("lost"), grace_s=0.0)

    def _close(self, live_session: LiveSession, reason: ExitReason) -> None:
        """End the conversation; from here on the session is one that has ended recently."""
        live_session.conversation.end(reason)
        if self._live.remove(live_session):
            self.recent.add(live_session.registry_key, live_session.conversation)
        live_session.supervised_agent = None

    def _lives(self, live_session: LiveSession, runner: Runner) -> bool:
        try:
            return self._store.get(live_session.registry_key).fence == runner.fence
        except (SessionNotFound, StoreClosed):
            return False

    def _remove_entry(self, live_session: LiveSession, runner: Runner, reason: ExitReason) -> None:
        with contextlib.suppress(StoreClosed):
            self._store.delete(live_session.registry_key, fence=runner.fence, reason=reason)

    def _reason_of(self, live_session: LiveSession, fence: int) -> ExitReason:
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
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("ending a session failed", exc_info=error)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
