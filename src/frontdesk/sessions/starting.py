"""Starting an agent for a conversation and entering it in the registry, or leaving nothing.

Above the runner and the registrant, below the desk, which uses it for new sessions and for
restarts.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from frontdesk.agents.errors import CreateFailed
from frontdesk.agents.protocol import RunningAgent
from frontdesk.agents.restart import restarts
from frontdesk.errors import SessionAlreadyExists
from frontdesk.keeper.errors import KeeperLost
from frontdesk.monitors import Watcher
from frontdesk.records import ExitReason, Session
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.errors import Draining
from frontdesk.sessions.live import LiveSession
from frontdesk.sessions.runner import Runner
from frontdesk.sessions.supervised_agent import SupervisedAgent
from frontdesk.store import SessionStore

_log = logging.getLogger("frontdesk.sessions")


class Starter:
    """Start agents, and register them."""

    __slots__ = ("_ending", "_house", "_store", "_watcher")

    def __init__(self, store: SessionStore, *, house: ServiceContext, watcher: Watcher) -> None:
        self._store, self._house, self._watcher = store, house, watcher
        self._ending: set[asyncio.Task[None]] = set()

    async def start(self, resident: LiveSession) -> Runner:
        """Start an agent for the conversation, and register it.

        Raises `CreateFailed`, `Draining`, `SessionAlreadyExists`, `SessionLimitExceeded`; after
        any of them, and after a cancellation, nothing of the agent is left.
        """
        agent = await self._agent_of(resident)
        try:
            return self._enter(resident, agent)
        except BaseException:
            await self._end(agent)
            raise

    async def _end(self, agent: RunningAgent) -> None:
        """End an agent that nobody will have; a caller that is cancelled does not stop that."""
        ending = asyncio.create_task(agent.end(0.0))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        await asyncio.shield(ending)

    async def _agent_of(self, resident: LiveSession) -> RunningAgent:
        conversation = resident.conversation
        facts = msgspec.structs.replace(conversation.options, model=conversation.model)
        try:
            return await conversation.rules.recipe.start(facts)
        except (CreateFailed, KeeperLost):
            raise
        except Exception as error:
            _log.exception("an agent of blueprint %s could not be started", conversation.blueprint)
            name = type(error).__name__
            raise CreateFailed(f"the agent could not be started: {name}") from error

    def _enter(self, resident: LiveSession, agent: RunningAgent) -> Runner:
        if self._house.draining:
            raise Draining
        runner = Runner(resident.conversation, agent)
        registered: Any = runner.task if agent.registered is None else agent.registered
        registrant = None
        if agent.registered is not None or resident.conversation.rules.restart != "never":
            registrant = self._registrant(resident, runner, registered)
        try:
            session = self._register(resident, registrant or registered)
        except BaseException:
            runner.task.cancel()
            raise
        runner.fence = session.fence
        resident.conversation.entered(session)
        resident.runner, resident.registrant = runner, registrant
        return runner

    def _register(self, resident: LiveSession, agent: Any) -> Session:
        conversation = resident.conversation
        try:
            session = self._store.create(
                resident.registered_id,
                agent,
                api_key=conversation.api_key,
                tenant_id=conversation.tenant_id,
                blueprint=conversation.blueprint,
                model=conversation.model,
            )
        except SessionAlreadyExists as error:
            # The registry knows the id with its tenant; the client is told the one that it chose.
            raise SessionAlreadyExists(conversation.session_id, holder=error.holder) from None
        if resident.registered_id not in self._store:
            raise CreateFailed("the agent ended as soon as it was started")
        return session

    def _registrant(self, resident: LiveSession, runner: Runner, agent: Any) -> SupervisedAgent:
        rules, clock = resident.conversation.rules, self._house.clock

        def decide(reason: ExitReason) -> bool:
            may = resident.may_restart and not runner.ended_session
            return may and restarts(
                rules.restart,
                reason,
                state=resident.restart_state,
                now=clock.monotonic(),
                limit=rules.restart_limit,
            )

        return SupervisedAgent(agent, restarts=decide, watcher=self._watcher)
