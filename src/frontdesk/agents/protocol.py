"""The seam between a conversation and whatever answers in it, and the agent that is a task.

An `AgentFactory` makes a `RunningAgent` for each session: a task here, a process in `process/` and
`acp/`, and no conversation can tell them apart. `drive` runs a program's function over one turn, in
the gateway or in an agent's process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from time import perf_counter
from typing import Any, Protocol

from frontdesk.agents.events import Event, MessageDelta
from frontdesk.agents.records import SessionContext
from frontdesk.agents.turn import Turn, TurnPort
from frontdesk.errors import InvalidType

AgentFunction = Callable[[Turn], AsyncGenerator[str | Event, None] | Awaitable[str | None]]
"""What answers a turn: an async generator function of text and events, or a coroutine function."""


class Program(Protocol):
    """What a blueprint runs: checked and opened once a session, in the gateway or in a child."""

    def check(self, context: SessionContext) -> None:
        """Raise `CreateFailed` for what cannot work: unknown model, missing key, wrong option.

        Called before the session is made and before each switch of its model (then with
        `context.model` the new one). Quick, and without a network.
        """
        ...

    def open(self, context: SessionContext) -> AgentFunction:
        """Return what answers the turns of this session. It may keep state between turns."""
        ...


class RunningAgent(Protocol):
    """An agent that answers under one session."""

    @property
    def registry_agent(self) -> Any:
        """Return what the registry is to monitor: a process, a `ProcessRef`, a future...

        None where the task that runs the turns is itself the agent.
        """
        ...

    async def run_turn(self, port: TurnPort) -> None:
        """Run one turn; return when it is done.

        What it raises ends the turn: `EndSession` the session as well, `AgentLost` says that the
        agent is gone or cannot be reached. A cancellation is an abort: stop the turn, clean up,
        be ready for the next. Whoever calls waits for that `abort_grace_s` at most, then goes on
        and discards what the turn still emits (`TurnOver`). Never called twice at a time, but for
        a turn that was so given up.
        """
        ...

    async def end(self, grace_s: float) -> None:
        """End the agent: ask, wait up to the grace period, kill what can be killed. Idempotent.

        Returns once nothing of the agent runs any more, or nothing more can be done.
        """
        ...


class AgentFactory(Protocol):
    """How a blueprint makes agents. One whose `check` may be slow is `Preparing` as well."""

    def check(self, context: SessionContext) -> None:
        """Raise `CreateFailed` for what cannot work. Quick; nothing is started."""
        ...

    async def start(self, context: SessionContext) -> RunningAgent:
        """Start an agent. Raises `CreateFailed`; leaves nothing behind when it fails."""
        ...


class Preparing(Protocol):
    """A program or recipe whose `check` may block at first, by an import for instance."""

    def ready(self, context: SessionContext) -> bool:
        """Say whether `check` is quick now. Where it is not, it is called in a thread."""
        ...


async def check(factory: AgentFactory, context: SessionContext) -> None:
    """Check what is about to be made, without blocking the event loop. Raises `CreateFailed`."""
    if _is_ready(factory, context):
        factory.check(context)
    else:
        await asyncio.to_thread(factory.check, context)


def _is_ready(asked: object, context: SessionContext) -> bool:
    # Not by `isinstance`: a protocol is looked through member by member, at every create.
    ready = getattr(asked, "ready", None)
    return ready is None or bool(ready(context))


PIECE_CHARACTERS = 65_536
"""Longer texts go out in pieces of this length."""

_YIELD_AFTER_PIECES = 64
_YIELD_AFTER_S = 0.005


class AgentQuit(Exception):
    """An agent called `sys.exit()`: that ends its turn, and not the process that it lives in."""


async def drive(function: AgentFunction, port: TurnPort) -> None:
    """Run a program's function over one turn, and emit what it yields or returns.

    Yields to the event loop every few pieces, so that an agent that yields without ever waiting
    can be stopped. Raises what the function raises; a generator is closed in every case.
    """
    answer = function(Turn(port))
    try:
        if isinstance(answer, AsyncGenerator):
            await _drive_generator(answer, port)
        else:
            _emit(port, await answer)
    except SystemExit as error:
        raise AgentQuit(f"the agent called sys.exit({error.code!r})") from error


async def _drive_generator(pieces: AsyncGenerator[str | Event, None], port: TurnPort) -> None:
    loop_yield = _LoopYield()
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            _emit(port, piece)
            if loop_yield.due():
                await loop_yield.take()


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

    __slots__ = ("_function",)

    registry_agent = None

    def __init__(self, function: AgentFunction) -> None:
        self._function = function

    async def run_turn(self, port: TurnPort) -> None:
        """Run the function over one turn."""
        await drive(self._function, port)

    async def end(self, grace_s: float) -> None:
        """Do nothing: the runner's task ends, and nothing else is there."""


class TaskAgentFactory:
    """Make agents of a program that live in the gateway's process."""

    __slots__ = ("program",)

    def __init__(self, program: Program) -> None:
        self.program = program

    def check(self, context: SessionContext) -> None:
        """Ask the program."""
        self.program.check(context)

    def ready(self, context: SessionContext) -> bool:
        """Ask the program, if it says."""
        return _is_ready(self.program, context)

    async def start(self, context: SessionContext) -> TaskAgent:
        """Open the program for a session."""
        return TaskAgent(self.program.open(context))


class FunctionProgram:
    """A program that is one function, the same for every session."""

    __slots__ = ("function",)

    def __init__(self, function: AgentFunction) -> None:
        self.function = function

    def check(self, context: SessionContext) -> None:
        """Refuse nothing: the function says itself what it cannot do."""

    def open(self, context: SessionContext) -> AgentFunction:  # noqa: ARG002
        """Return the function."""
        return self.function
