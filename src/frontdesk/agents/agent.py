"""The seam between a conversation and whatever answers in it, and the agent that is a task.

Above the turn, below the runner. A `Recipe` makes a `RunningAgent` for each session; the task
kind is here, the process kinds are in `process_agent.py` and `acp.py`. What stands above cannot
tell them apart. `drive` runs a program's function over one turn, in the gateway or in a child.
It knows nothing of queues, restarts or the registry.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from frontdesk.agents.events import Event
from frontdesk.agents.records import SessionFacts
from frontdesk.agents.turn import Turn, TurnPort

AgentFunction = Callable[[Turn], AsyncIterator[str | Event] | Awaitable[str | None]]
"""What answers a turn: an async generator function of text and events, or a coroutine function."""


class Program(Protocol):
    """What a blueprint runs: checked and opened once a session, in the gateway or in a child."""

    def check(self, facts: SessionFacts) -> None:
        """Raise `CreateFailed` for what cannot work: unknown model, missing key, wrong option.

        Called before the session is made and before each switch of its model (then with
        `facts.model` the new one). Quick, and without a network.
        """
        ...

    def open(self, facts: SessionFacts) -> AgentFunction:
        """Return what answers the turns of this session. It may keep state between turns."""
        ...


class RunningAgent(Protocol):
    """An agent that answers under one session."""

    @property
    def registered(self) -> Any:
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


class Recipe(Protocol):
    """How a blueprint makes agents."""

    def check(self, facts: SessionFacts) -> None:
        """Raise `CreateFailed` for what cannot work. Quick; nothing is started."""
        ...

    async def start(self, facts: SessionFacts) -> RunningAgent:
        """Start an agent. Raises `CreateFailed`; leaves nothing behind when it fails."""
        ...
