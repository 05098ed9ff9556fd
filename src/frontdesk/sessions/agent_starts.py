"""An agent of a session is started and registered: the first one, or the next.

Below the supervisor, which decides when that is, and what follows from an agent's end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

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
from frontdesk.errors import SessionAlreadyExists, SessionNotFound
from frontdesk.keeper.errors import SHORTAGES, KeeperLost
from frontdesk.monitors import Watcher
from frontdesk.persistence.errors import (
    ConversationUnreadable,
    StorageBroken,
    StorageUnavailable,
)
from frontdesk.records import ExitReason
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.errors import Draining
from frontdesk.sessions.live import LiveSession, LiveSessions
from frontdesk.sessions.reservations import Reservations
from frontdesk.sessions.runner import Runner
from frontdesk.sessions.supervised_agent import SupervisedAgent
from frontdesk.store import SessionStore

STAYS_FOR = (StorageUnavailable, StorageBroken, ConversationUnreadable, Draining)
"""Errors for which a session that is stored gets no next agent now, and is dormant."""

_log = logging.getLogger("frontdesk.sessions")


class AgentStarts:
    """Start agents, and make their entries in the registry. Above it is the `Supervisor`."""

    def __init__(
        self,
        store: SessionStore[Any],
        *,
        service: ServiceContext,
        live_sessions: LiveSessions,
        reservations: Reservations,
        watcher: Watcher,
    ) -> None:
        self._store, self._service, self._watcher = store, service, watcher
        self._live, self._reservations = live_sessions, reservations
        self._tasks: set[asyncio.Task[None]] = set()

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
            stays = restored is not None and (former is None or isinstance(error, STAYS_FOR))
            await asyncio.shield(self.spawn(end_agent(agent, 0.0, last=not stays)))
            if stays:
                leave(agent)
            raise

    def _register(self, live_session: LiveSession, agent: RunningAgent) -> Runner:
        """Run the agent's turns from now on, and enter it in the registry."""
        self.refuse_if_draining()
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

    def refuse_if_draining(self) -> None:
        """Raise `Draining` where no agent may be started any more."""
        if self._service.draining:
            raise Draining

    def _restarts(self, live_session: LiveSession, runner: Runner, reason: ExitReason) -> bool:
        """Say whether another agent takes over. Asked once an agent, maybe in another thread."""
        ending = live_session.conversation.ending_reason is not None
        if self._service.draining or runner.ended_session or ending:
            return False
        return self.policy_restarts(live_session, reason)

    def policy_restarts(self, live_session: LiveSession, reason: ExitReason) -> bool:
        """Say whether its blueprint has another agent take over from one that ended for this."""
        rules = live_session.conversation.rules
        return restarts(
            rules.restart,
            reason,
            state=live_session.restart_state,
            now=self._service.clock.monotonic(),
            limit=rules.restart_limit,
        )

    def update_model(self, conversation: Conversation, model: str) -> None:
        """Write a conversation's new model into its entry."""
        live_session = self._live.of(conversation)
        if live_session is not None and live_session.runner is not None:
            # An agent that has just died is heard of in its own time.
            with contextlib.suppress(SessionNotFound):
                self._store.update(live_session.registry_key, model=model)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin a task that is waited for at the end; an error in it is logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("ending a session failed", exc_info=error)


async def end_agent(agent: RunningAgent, grace_s: float, *, last: bool) -> None:
    """End an agent, with what it left for the next one where it was the last of its session."""
    await agent.end(grace_s)
    if last:
        await discard(agent)
