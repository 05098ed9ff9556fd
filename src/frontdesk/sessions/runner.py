"""The runner: the one task of a session, which runs its turns one after another.

Above the conversation and the agent, below the service. For agents in the gateway's process this
task *is* the agent, and is what the registry monitors; for a process it stands for the process
on this side. Each turn runs in a child task of its own, so that an abort cancels the turn and
nothing else, and a turn that is deaf to its cancellation can be left behind.
"""

from __future__ import annotations

import asyncio
import logging

from frontdesk.agents.errors import AgentLost, TurnOver
from frontdesk.agents.protocol import RunningAgent
from frontdesk.agents.turn import EndSession
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.queue import Prompt
from frontdesk.sessions.running_turn import RunningTurn, StopReason

_log = logging.getLogger("frontdesk.sessions")


class Runner:
    """Run the turns of a conversation on one agent, until either ends.

    `task` returns when the agent ended its session (`EndSession`) and when it is lost; it raises
    what the agent raised where the blueprint says that errors end the session. An idle session
    costs this one task.
    """

    __slots__ = ("_conversation", "agent", "ended_session", "fence", "task")

    def __init__(self, conversation: Conversation, agent: RunningAgent) -> None:
        self._conversation = conversation
        self.agent = agent
        self.fence = 0
        """The fence of the registry's entry for this agent."""
        self.ended_session = False
        name = f"frontdesk session {conversation.session_id}"
        self.task: asyncio.Task[None] = asyncio.create_task(self._live(), name=name)

    async def stop_turn(self, stop: StopReason, *, grace_s: float) -> None:
        """Stop the turn under way and wait for its clean-up, for at most the grace period."""
        self._conversation.prompts.hold()
        turn = self._conversation.turn
        if turn is not None:
            turn.stop(stop)
            await asyncio.wait({turn.done}, timeout=grace_s)

    async def cancel(self) -> None:
        """End the task; a turn that it still runs is given up. Never raises."""
        self.task.cancel()
        await asyncio.wait({self.task})

    async def _live(self) -> None:
        while await self._run(await self._conversation.prompts.take()):
            pass

    async def _run(self, prompt: Prompt) -> bool:
        """Run one turn; say whether there may be another."""
        conversation = self._conversation
        turn = conversation.begin(prompt)
        work = asyncio.create_task(self.agent.run_turn(turn))
        work.add_done_callback(turn.wake)
        try:
            await turn.over
            if not work.done():
                self._finish_silent(turn)
                work.cancel()
                await asyncio.wait({work}, timeout=conversation.house.settings.abort_grace_s)
        finally:
            # Here, too, when this task is cancelled; the supervision ends the turn.
            if not work.done():
                conversation.house.give_up(work)
        return await self._conclude(turn, work)

    def _finish_silent(self, turn: RunningTurn) -> None:
        """End a turn that may say nothing more before its agent has cleaned up: at its deadline."""
        if turn.stopped is not None and turn.stopped.silent:
            self._conversation.finish(turn, turn.stopped)

    async def _conclude(self, turn: RunningTurn, work: asyncio.Task[None]) -> bool:
        error = _error_of(work)
        if isinstance(error, AgentLost):
            return await self._lost(turn, error)
        if turn.stopped is not None:
            self._conversation.finish(turn, turn.stopped)
            return True
        if error is None or isinstance(error, EndSession):
            self._conversation.finish(turn)
            self.ended_session = error is not None
            return error is None
        return self._failed(turn, error)

    async def _lost(self, turn: RunningTurn, error: AgentLost) -> bool:
        """Make sure that the agent is gone; the registry's reason then ends the turn."""
        _log.warning("session %s: %s", self._conversation.session_id, error)
        if turn.stopped is not None:
            self._conversation.finish(turn, turn.stopped)
        await self.agent.end(0.0)
        return False

    def _failed(self, turn: RunningTurn, error: BaseException) -> bool:
        """End a turn whose agent raised: clients see the type, operators the text."""
        conversation = self._conversation
        conversation.finish(turn, _stop_for(error))
        if conversation.rules.errors_end == "session":
            raise error
        _log.error(
            "session %s of tenant %s: turn %s failed",
            conversation.session_id,
            conversation.tenant_id,
            turn.request_id,
            exc_info=error,
        )
        return True


def _error_of(work: asyncio.Task[None]) -> BaseException | None:
    if not work.done():
        return None
    return asyncio.CancelledError() if work.cancelled() else work.exception()


def _stop_for(error: BaseException) -> StopReason:
    if isinstance(error, TurnOver):
        # The agent met the deadline before the loop had a chance to ring it.
        return StopReason("deadline", error="deadline")
    return StopReason("error", error=type(error).__name__)
