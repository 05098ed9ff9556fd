"""The agent that is a task in the gateway's process, and how a program's function is run.

`drive` runs a function over one turn, here and in an agent's process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from time import perf_counter
from typing import cast

from frontdesk.agents.events import Event, MessageDelta
from frontdesk.agents.json_memory import JsonMemory
from frontdesk.agents.protocol import AgentFunction, Program, is_ready
from frontdesk.agents.records import MemoryOutcome, Restored, SessionContext
from frontdesk.agents.turn import Turn, TurnPort
from frontdesk.errors import InvalidArgument, InvalidType

PIECE_CHARACTERS = 65_536
"""Longer texts go out in pieces of this length."""

_YIELD_AFTER_PIECES = 64
_YIELD_AFTER_S = 0.005


class AgentQuit(Exception):
    """An agent called `sys.exit()`: that ends its turn, and not the process that it lives in."""


async def drive(function: AgentFunction, port: TurnPort, memory: JsonMemory) -> None:
    """Run a program's function over one turn, and emit what it yields or returns.

    Yields to the event loop every few pieces, so that an agent that yields without ever waiting
    can be stopped. Raises what the function raises; a generator is closed in every case. However it
    ends, what it has in `memory` is left to the next turn.
    """
    of_turn = memory.begin(port)
    try:
        await _drive(function(Turn(port, of_turn)), port)
    except BaseException:
        # Why the turn failed is more than that its memory cannot be kept either.
        with contextlib.suppress(InvalidArgument):
            of_turn.end()
        raise
    of_turn.end()


async def _drive(
    answer: AsyncIterator[str | Event] | Awaitable[str | None], port: TurnPort
) -> None:
    try:
        if isinstance(answer, AsyncGenerator):
            loop_yield = _LoopYield()
            async with contextlib.aclosing(answer):
                async for piece in answer:
                    _emit(port, piece)
                    if loop_yield.due():
                        await loop_yield.take()
        else:
            _emit(port, await cast("Awaitable[str | None]", answer))
    except SystemExit as error:
        raise AgentQuit(f"the agent called sys.exit({error.code!r})") from error


class _LoopYield:
    """Knows when a producer has had the loop for long enough."""

    __slots__ = ("_pieces", "_since")

    def __init__(self) -> None:
        self._begin()

    def due(self) -> bool:
        self._pieces += 1
        return self._pieces >= _YIELD_AFTER_PIECES or perf_counter() - self._since >= _YIELD_AFTER_S

    async def take(self) -> None:
        await asyncio.sleep(0)
        # Counted from here: what others did meanwhile, hundreds of streams for instance, is not
        # the producer's. It would come back for one piece at a time.
        self._begin()

    def _begin(self) -> None:
        # Not the loop's time, which on uvloop stands still until the loop's next turn.
        self._pieces, self._since = 0, perf_counter()


def _emit(port: TurnPort, piece: str | Event | None) -> None:
    if isinstance(piece, str):
        for start in range(0, len(piece), PIECE_CHARACTERS):
            port.emit(MessageDelta(piece[start : start + PIECE_CHARACTERS]))
    elif isinstance(piece, Event):
        port.emit(piece)
    elif piece is not None:
        raise InvalidType(
            "what an agent yields", expected="text or an event", got=type(piece).__name__
        )


class TaskAgent:
    """An agent in the gateway's own process: the task that runs its turns is the agent."""

    __slots__ = ("_function", "_memory", "suspends")

    registry_agent = None

    def __init__(
        self,
        function: AgentFunction,
        *,
        memory: JsonMemory | None = None,
        suspends: str | None = None,
    ) -> None:
        self._function, self._memory = function, memory or JsonMemory()
        self.suspends: str | None = suspends
        """The kind of memory that its turns can go on from."""

    async def run_turn(self, port: TurnPort) -> None:
        """Run the function over one turn."""
        await drive(self._function, port, self._memory)

    async def end(self, grace_s: float) -> None:
        """Do nothing: the runner's task ends, and nothing else is there."""


class TaskAgentFactory:
    """Make agents of a program that live in the gateway's process."""

    __slots__ = ("program",)

    def __init__(self, program: Program) -> None:
        self.program: Program = program

    def check(self, context: SessionContext) -> None:
        """Ask the program."""
        self.program.check(context)

    def ready(self, context: SessionContext) -> bool:
        """Ask the program, if it says."""
        return is_ready(self.program, context)

    async def start(self, context: SessionContext) -> TaskAgent:
        """Open the program for a session."""
        return self._agent(self.program.open(context), memory=None)

    async def restore(
        self, context: SessionContext, restored: Restored
    ) -> tuple[TaskAgent, MemoryOutcome]:
        """Open the program for a session that is not new; say how much of it that knows."""
        reopened = Reopened(self.program, context, restored)
        return self._agent(reopened.function, memory=reopened.memory), reopened.outcome

    def _agent(self, function: AgentFunction, *, memory: JsonMemory | None) -> TaskAgent:
        suspends = getattr(self.program, "suspends", None)
        return TaskAgent(function, memory=memory, suspends=suspends)


class Reopened:
    """A program that was opened for a session that is not new, and how much of that it knows.

    One without `reopen` finds what was said in each turn's history, which is `rebuilt`; what it
    had in `turn.memory` is `kept`.
    """

    __slots__ = ("function", "memory", "outcome")

    def __init__(self, program: Program, context: SessionContext, restored: Restored) -> None:
        self.function: AgentFunction
        self.memory: JsonMemory | None = JsonMemory.restored(restored)
        self.outcome: MemoryOutcome
        reopen = getattr(program, "reopen", None)
        if reopen is not None:
            self.function, self.outcome = reopen(context, restored)
        else:
            self.function = program.open(context)
            whole = self.memory is not None or restored.is_empty
            self.outcome = "kept" if whole else "rebuilt"


class FunctionProgram:
    """A program that is one function, the same for every session."""

    __slots__ = ("function",)

    def __init__(self, function: AgentFunction) -> None:
        self.function: AgentFunction = function

    def check(self, context: SessionContext) -> None:
        """Refuse nothing: the function says itself what it cannot do."""

    def open(self, context: SessionContext) -> AgentFunction:  # noqa: ARG002
        """Return the function."""
        return self.function
