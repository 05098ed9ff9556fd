"""The runner: the one task of a session, which runs its turns one after another.

For agents in the gateway's process this task *is* the agent, and is what the registry monitors; for
a process it stands for the process on this side. Each turn runs in a child task of its own, so that
an abort cancels the turn and nothing else, and a turn that is deaf to its cancellation can be left
behind.
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter

from frontdesk.agents.errors import AgentLost, TurnOver
from frontdesk.agents.protocol import RunningAgent, goes_on
from frontdesk.agents.turn import EndSession
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.running_turn import RunningTurn
from frontdesk.sessions.stop_reason import INTERRUPTED, StopReason

EXIT_S = 1.0
"""From the last word of an agent that cannot be reached any more to its exit."""

_log = logging.getLogger("frontdesk.sessions")


class Runner:
    """Run the turns of a conversation on one agent, until either ends.

    `task` returns when the agent ended its session (`EndSession`) and when it is lost; it raises
    what the agent raised where the blueprint says that errors end the session. An idle session
    costs this one task.
    """

    __slots__ = ("_conversation", "_retired", "agent", "died_s", "ended_session", "fence", "task")
    ended_session: bool

    def __init__(self, conversation: Conversation, agent: RunningAgent) -> None:
        self._conversation = conversation
        self.agent: RunningAgent = agent
        if (listen := getattr(agent, "listen", None)) is not None:
            listen(conversation)
        conversation.takes = getattr(agent, "takes", None)
        self.fence: int = 0
        """The fence of the registry's entry for this agent."""
        self.died_s: float | None = None
        """When its task, by `perf_counter`, had nothing more to do; None before."""
        self.ended_session = self._retired = False
        name = f"frontdesk session {conversation.session_id}"
        self.task: asyncio.Task[None] = asyncio.create_task(self._live(), name=name)

    async def stop_turn(self, stop: StopReason, *, grace_s: float) -> None:
        """Stop the turn under way and wait for its clean-up, for at most the grace period."""
        self._conversation.prompts.pause()
        turn = self._conversation.turn
        if turn is not None and self._conversation.suspended is None:
            turn.stop(stop)
            await asyncio.wait({turn.done}, timeout=grace_s)

    def retire(self) -> bool:
        """Take no further turn: the agent's process has exited, and another may take over.

        True where none is under way. One that is may still end by what the process had sent.
        """
        self._retired = True
        under_way = self._conversation.turn is not None and self._conversation.suspended is None
        if not under_way or self.task.done() or self.agent.registry_agent is None:
            # At once: a turn that has just ended would have it take the prompt that waits, and two
            # agents would speak in one conversation.
            self.task.cancel()
            return True
        return False

    async def cancel(self) -> None:
        """End the task; a turn that it still runs is abandoned. Never raises."""
        self.task.cancel()
        await asyncio.wait({self.task})

    async def _live(self) -> None:
        try:
            await self._run_turns()
        finally:
            self.died_s = perf_counter()

    async def _run_turns(self) -> None:
        conversation = self._conversation
        while not self._retired and await self._run(await self._next()):
            if conversation.record is not None:
                # The next turn begins once this one's end is stored.
                await conversation.record.committed(wait_s=None)
            if getattr(self.agent, "lost", False):
                # It ended with its turn. Whoever comes next takes the prompt that waits, once its
                # exit is known, at which this task is cancelled (`retire`).
                exited = asyncio.get_running_loop().create_future()
                await asyncio.wait({exited}, timeout=EXIT_S)

    async def _next(self) -> RunningTurn:
        """Begin the next turn: one that another agent began, once it has its answers, comes first.

        That one is ended where this agent cannot go on with it: it must not begin it once more.
        """
        conversation = self._conversation
        while (suspended := conversation.suspended) and (turn := conversation.turn):
            ends = {suspended.answered, turn.done}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if conversation.leaving:
                # This agent is being ended, and another one goes on with it.
                await asyncio.get_running_loop().create_future()
            memory = suspended.earlier.memory
            if turn.done.done():
                continue
            if memory is not None and goes_on(self.agent, memory):
                return conversation.go_on(turn, suspended, memory)
            conversation.finish(turn, StopReason(INTERRUPTED))
        return conversation.begin(await conversation.prompts.take())

    async def _run(self, turn: RunningTurn) -> bool:
        """Run one turn; say whether there may be another.

        The turn is over (`turn.over`) when its agent returns or raises, or when somebody stops it:
        a client, the deadline, a filter, the end of the session. Then:

        1. It was stopped, and nothing more may go out (deadline, filter): it ends at once.
        2. It was stopped: its agent is cancelled and may clean up, for `abort_grace_s`. One that
           takes longer is abandoned: what it still says is discarded, and it is counted.
        3. The agent is lost: the turn is left open, for the registry's reason to end it, unless
           the stop came first. The runner ends; the supervisor makes sure of the agent.
        4. The agent returned: the turn ends well, unless the stop came first.
        5. It raised `EndSession`: the turn ends well, and so do the runner and the session.
        6. It raised anything else: the turn ends with an error, and where the blueprint says that
           errors end the session, so does the runner.

        When this task itself is cancelled, the supervisor ends the turn.
        """
        conversation = self._conversation
        traced = None if turn.trace is None else turn.trace.context
        running = self._run_stored if conversation.record is not None else self.agent.run_turn
        turn.on_lost = lambda: getattr(self.agent, "lost", False) and conversation.suspend(turn)
        work = asyncio.create_task(running(turn), context=traced)
        work.add_done_callback(turn.wake)
        try:
            await turn.over
            if not work.done():
                if turn.stopped is not None and turn.stopped.silent:
                    conversation.finish(turn, turn.stopped)  # case 1
                work.cancel()
                await asyncio.wait({work}, timeout=conversation.service.settings.abort_grace_s)
        finally:
            error = _error_of(work)  # read in every case: nobody else asks
            if not work.done():
                conversation.service.abandon(work)  # case 2
        return await self._finish(turn, error)

    async def _run_stored(self, turn: RunningTurn) -> None:
        """Give the agent the turn once its beginning is stored."""
        await turn.committed()
        await self.agent.run_turn(turn)

    async def _finish(self, turn: RunningTurn, error: BaseException | None) -> bool:
        conversation = self._conversation
        if isinstance(error, AgentLost):  # case 3
            _log.warning("session %s: %s", conversation.session_id, error)
            if turn.stopped is not None:
                conversation.finish(turn, turn.stopped)
            await self.agent.end(0.0)
        if turn.is_aside or isinstance(error, AgentLost):
            return False
        if turn.stopped is not None:
            conversation.finish(turn, turn.stopped)
            return True
        if error is None or isinstance(error, EndSession):  # cases 4 and 5
            conversation.finish(turn)
            self.ended_session = error is not None
            return error is None
        # Case 6: clients see the type of the error, operators its text.
        if isinstance(error, TurnOver):
            # The agent met the deadline before the loop had a chance to ring it.
            conversation.finish(turn, StopReason("deadline", error="deadline"))
        else:
            conversation.finish(turn, StopReason("error", error=type(error).__name__))
        if conversation.rules.errors_end == "session":
            raise error
        _log.error(
            "session %s of tenant %s: turn %s failed",
            conversation.session_id,
            conversation.tenant_id,
            turn.request_id,
            exc_info=error,
            extra={
                "event": "turn_failed",
                "tenant": conversation.tenant_id,
                "session_id": conversation.session_id,
                "request_id": turn.request_id,
                "trace_id": None if turn.trace is None else turn.trace.trace_id,
            },
        )
        return True


def _error_of(work: asyncio.Task[None]) -> BaseException | None:
    if not work.done():
        return None
    return asyncio.CancelledError() if work.cancelled() else work.exception()
