"""One session of a Pydantic AI agent: what it keeps between turns, and how it runs one.

The same for the agent that comes built in and for one that a team has: they differ in their
`SessionAgent`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings
from pydantic_ai.toolsets import AbstractToolset
from pydantic_ai.usage import UsageLimits

from frontdesk.agents.pydantic_ai.memory import SessionMemory, TurnMemory
from frontdesk.agents.pydantic_ai.prompts import prompt_of
from frontdesk.agents.pydantic_ai.run import RunTranslator
from frontdesk.agents.pydantic_ai.suspension import Resumed, TurnSuspension
from frontdesk.agents.pydantic_ai.turn_capability import Selected, Selector, TurnCapability
from frontdesk.agents.turn import Turn
from frontdesk.background import OwnThreads

THREADS_PER_SESSION = 8
"""Tools of one session's that are plain functions and run at a time; further calls wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAgent:
    """An agent as one session runs it: what the operator and the client say beside it.

    `deps` is entered for each turn and gives what tools find in `RunContext.deps`. Of the agent's
    tools, `chosen` are on; empty means all. `find_model` and `own_model` are as `TurnCapability`
    has them.
    """

    agent: AbstractAgent[Any, Any]
    deps: Callable[[Turn], AbstractAsyncContextManager[Any]]
    find_model: Callable[[str], Model | None]
    own_model: Selected | Selector | None = None
    instructions: str | None = None
    settings: ModelSettings | None = None
    limits: UsageLimits | None = None
    toolsets: Sequence[AbstractToolset[Any]] = ()
    chosen: frozenset[str] = frozenset()
    capabilities: Sequence[AbstractCapability[Any]] = ()


class PydanticAISession:
    """What one session keeps between turns."""

    __slots__ = ("_memory", "_of", "_threads")

    def __init__(self, of: SessionAgent, memory: SessionMemory | None = None) -> None:
        self._of = of
        self._memory = memory or SessionMemory()
        # The library's are forty for the whole loop: slow tools of one session would be all of it.
        self._threads = OwnThreads(THREADS_PER_SESSION, name="tools")

    async def answer(self, turn: Turn) -> str | None:
        """Run one turn, or go on with one that was suspended; return what is still to be said.

        What cuts it short leaves what it has said and done to be remembered.
        """
        memory, suspended = self._memory, turn.suspended
        if suspended is None:
            prompt = prompt_of(turn.text, turn.attachments)
            remembered = memory.begin(prompt, turn.history)
            start: dict[str, Any] = {"user_prompt": prompt, "message_history": memory.messages}
        else:
            resumed = Resumed.of(turn, suspended, stored=memory.stored)
            remembered = memory.resume(resumed.messages)
            start = {
                "message_history": resumed.messages,
                "deferred_tool_results": resumed.results,
            }
        try:
            return await self._run(turn, remembered, start)
        finally:
            for each in memory.end(remembered):
                turn.remember(each)

    async def _run(self, turn: Turn, remembered: TurnMemory, start: dict[str, Any]) -> str | None:
        of = self._of
        suspension = TurnSuspension(turn, remembered=remembered, stored=self._memory.stored)
        of_turn = TurnCapability(
            turn,
            suspension,
            find_model=of.find_model,
            own_model=of.own_model,
            chosen=of.chosen,
            returned=remembered.returned,
        )
        with Agent.using_thread_executor(self._threads):
            async with (
                of.deps(turn) as deps,
                of.agent.iter(
                    **start,
                    deps=deps,
                    instructions=of.instructions,
                    model_settings=of.settings,
                    usage_limits=of.limits,
                    toolsets=of.toolsets,
                    capabilities=[*of.capabilities, of_turn],
                ) as run,
            ):
                resumed = turn.suspended is not None
                remembered.run = RunTranslator(run, turn, resumed=resumed)
                remembered.run.on_result = suspension.on_result
                unsaid = await remembered.run.go()
                remembered.finished = True
                return unsaid
