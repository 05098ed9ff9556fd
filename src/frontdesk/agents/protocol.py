"""The seam between a conversation and whatever answers in it.

An `AgentFactory` makes a `RunningAgent` for each session: a task (`task.py`), or a process
(`process/`, `acp/`), and they are all alike to a conversation.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec

from frontdesk.agents.events import Event, OutOfTurn
from frontdesk.agents.records import Memory, MemoryOutcome, Restored, SessionContext
from frontdesk.agents.turn import Turn, TurnPort
from frontdesk.background import in_own_thread

MAX_RESTORED_BYTES = 24 * 1024 * 1024
"""Bytes of memories that an agent is given."""

_log = logging.getLogger("frontdesk.agents")

AgentFunction = Callable[[Turn], AsyncIterator[str | Event] | Awaitable[str | None]]
"""What answers a turn: an async generator function of text and events, or a coroutine function."""


class Program(Protocol):
    """What a blueprint runs: checked and opened once a session, in the gateway or in a child.

    One whose `check` may block at first, by an import for instance, also has `ready(context)`,
    which says whether `check` is quick now; where it is not, `check` is called in a thread. One
    that knows which options and tools its sessions may have has `rules`, an `AuthorRules`. One
    whose sessions remember more than the history has `reopen(context, restored)`, which opens a
    session that is not new and also returns how much of it is known (`MemoryOutcome`); one whose
    turns can be suspended has `suspends`, the kind of `Memory` that they go on from.
    """

    def check(self, context: SessionContext) -> None:
        """Raise `CreateFailed` for what cannot work: unknown model, missing key, wrong option.

        Called before the session is made and before each switch of its model (then with
        `context.model` the new one). Quick, and without a network.
        """
        ...

    def open(self, context: SessionContext) -> AgentFunction:
        """Return what answers the turns of this session. It may keep state between turns."""
        ...


class AgentListener(Protocol):
    """Who is notified of what an agent does by itself, whether a turn is under way or not."""

    def on_model_changed(self, model: str) -> None:
        """Another model answers from here on, and nobody has asked for it."""
        ...

    def on_option_changed(self, option_id: str, value: str | bool) -> None:
        """The agent has set one of its options otherwise, and nobody has asked for it."""
        ...

    def on_out_of_turn(self, event: OutOfTurn) -> None:
        """The agent said or did something while no turn was under way."""
        ...


class RunningAgent(Protocol):
    """An agent that answers under one session.

    One that can do something by itself also has `listen(listener)`, which is called before its
    first turn; one that can be cut off has `lost`, which says whether it is; one that leaves
    something for the next agent of its session has `discard()`, see `discard`, and `leave()`; one
    that takes
    fewer attachments than its blueprint may say so by `takes(media_type)`; one that goes on with
    turns which a former agent began has `suspends`, see `goes_on`.
    """

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
    """How a blueprint makes agents. It may have a `ready` as a `Program` may.

    One whose agents go on with what a former one left also has `restart`, see `start_after`; one
    whose agents can take over a session of which only records are left, `restore`, see
    `start_restored`.
    """

    def check(self, context: SessionContext) -> None:
        """Raise `CreateFailed` for what cannot work. Quick; nothing is started."""
        ...

    async def start(self, context: SessionContext) -> RunningAgent:
        """Start an agent. Raises `CreateFailed`; leaves nothing behind when it fails."""
        ...


async def start_after(
    factory: AgentFactory, context: SessionContext, former: RunningAgent, restored: Restored | None
) -> tuple[RunningAgent, MemoryOutcome | None]:
    """Start the next agent of a session, which goes on with what the former left if it can.

    A factory with `restart(context, former, restored)` decides. The agents of any other get what is
    `restored`, as with `start_restored`; where that is None, nothing is stored, and how much they
    know is not said. `CreateFailed`, as `start`; what the former left is still the former's then.
    """
    agent: RunningAgent
    outcome: MemoryOutcome | None
    if (restart := getattr(factory, "restart", None)) is not None:
        agent, outcome = await restart(context, former, restored)
        return agent, outcome
    if restored is not None:
        return await start_restored(factory, context, restored)
    return await factory.start(context), None


async def start_restored(
    factory: AgentFactory, context: SessionContext, restored: Restored
) -> tuple[RunningAgent, MemoryOutcome]:
    """Start an agent for a session that has no agent any more, and say how much of it that knows.

    A factory with `restore(context, restored)` decides. The agents of any other know nothing of
    former turns, unless there was nothing. Memories of more than 24 MiB together are left out.
    `CreateFailed`, as `start`.
    """
    size = sum(len(memory.content) for memory in restored.memories)
    if size > MAX_RESTORED_BYTES:
        _log.warning("session %s: its memory has %d bytes", context.session_id, size)
        left = len(restored.history)
        restored = msgspec.structs.replace(restored, memories=(), unremembered=left)
    restore = getattr(factory, "restore", None)
    if restore is None:
        return await factory.start(context), "kept" if restored.is_empty else "none"
    agent: RunningAgent
    outcome: MemoryOutcome
    agent, outcome = await restore(context, restored)
    return agent, outcome


def goes_on(agent: RunningAgent, memory: Memory) -> bool:
    """Say whether an agent can go on with a turn that was suspended with this memory.

    Where it cannot, the turn must not reach it: it would begin it once more.
    """
    return bool(getattr(agent, "suspends", None) == memory.kind)


async def discard(agent: RunningAgent) -> None:
    """Remove what an agent that was ended left for the next one of its session: there is none."""
    if (discarding := getattr(agent, "discard", None)) is not None:
        await discarding()


def leave(agent: RunningAgent) -> None:
    """Have an agent that was ended let go of what is there for the next one of its session."""
    if (leaving := getattr(agent, "leave", None)) is not None:
        leaving()


async def forget(factory: AgentFactory, memories: Sequence[Memory], *, of: str) -> None:
    """Remove what the agents of a session left outside of the storage: it is erased.

    `of` is the session's key: what its memories took over from another is not its own.
    """
    if (forgetting := getattr(factory, "forget", None)) is not None:
        await forgetting(memories, of=of)


async def check(factory: AgentFactory, context: SessionContext) -> None:
    """Check what is about to be made, without blocking the event loop. Raises `CreateFailed`."""
    if is_ready(factory, context):
        factory.check(context)
    else:
        await in_own_thread(partial(factory.check, context), name="check")


def is_ready(asked: object, context: SessionContext) -> bool:
    """Say whether the `check` of a program or factory is quick now."""
    # Not by `isinstance`: a protocol is looked through member by member, at every create.
    ready = getattr(asked, "ready", None)
    return ready is None or bool(ready(context))
