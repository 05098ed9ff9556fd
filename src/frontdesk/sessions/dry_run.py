"""One turn of a blueprint outside the house: whether it works, before any client asks.

Beside the runner, above the recipes. What an agent would ask a client is answered by itself here:
approvals with no, questions with a sentence. No registry, no meter, no stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from frontdesk.agents.blueprints import Blueprint, Blueprints
from frontdesk.agents.errors import AgentFailed, ToolFailed
from frontdesk.agents.events import Error, Event, MessageDelta
from frontdesk.agents.protocol import check
from frontdesk.agents.records import (
    Approval,
    CreateSession,
    SessionContext,
    ToolSpec,
    TurnContext,
)
from frontdesk.agents.turn import EndSession, TurnListener
from frontdesk.sessions.admission import admit

TENANT = "check"
ANSWER = "This is only a check: please go on without an answer."

MOST_KEPT = 2000
"""Characters that are kept of what an agent says."""

END_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class DryRunResult:
    """How a turn went that ended: what was said, the errors among it, and how long it took."""

    text: str
    errors: tuple[str, ...]
    took_s: float


def context_for(blueprint: Blueprint, *, model: str) -> SessionContext:
    """Return a session's facts as a client's order would give them; raises what it would."""
    request = CreateSession(model=model, blueprint=blueprint.name)
    context, _ = admit(
        request, tenant_id=TENANT, blueprints=Blueprints([blueprint]), tenants_root=None
    )
    return context


async def allow(blueprint: Blueprint, *, model: str) -> None:
    """Check that a session with this model may be opened; raises `CreateFailed`. Starts nothing."""
    await check(blueprint.factory, context_for(blueprint, model=model))


async def dry_run(
    blueprint: Blueprint, *, model: str, prompt: str, turn_timeout_s: float
) -> DryRunResult:
    """Start an agent, run one turn, end the agent. Raises whatever goes wrong on the way.

    `TimeoutError` where the turn takes longer than it may, even where the agent is deaf to that.
    """
    began_s = _now_s()
    context = context_for(blueprint, model=model)
    await check(blueprint.factory, context)
    agent = await blueprint.factory.start(context)
    port = DryRunPort(context, prompt)
    turn = asyncio.create_task(agent.run_turn(port))
    try:
        await asyncio.wait({turn}, timeout=turn_timeout_s)
    finally:
        late = not turn.done()
        turn.cancel()
        await asyncio.shield(agent.end(0.0 if late else END_GRACE_S))
        await asyncio.wait({turn}, timeout=END_GRACE_S)
    if late:
        if turn.done() and not turn.cancelled():
            turn.exception()  # seen: a deaf agent that was ended is the time-out's doing
        raise TimeoutError
    if turn.cancelled():
        raise AgentFailed("the agent cancelled its own turn")
    if not isinstance(error := turn.exception(), EndSession | None):
        raise error
    return DryRunResult("".join(port.said)[:MOST_KEPT], tuple(port.errors), _now_s() - began_s)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


class DryRunPort:
    """A turn's port that keeps what is said, and answers for the client (`TurnPort`)."""

    def __init__(self, session: SessionContext, prompt: str) -> None:
        self.context = TurnContext(
            text=prompt, request_id="req_check", session=session, model=session.model
        )
        self.said: list[str] = []
        self.errors: list[str] = []
        self._kept = 0

    @property
    def model(self) -> str:
        """Return the model that the trial is about."""
        return self.context.model

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """Return none."""
        return ()

    def emit(self, event: Event) -> None:
        """Keep the beginning of the text, and the errors."""
        if isinstance(event, MessageDelta) and self._kept < MOST_KEPT:
            self.said.append(event.delta)
            self._kept += len(event.delta)
        elif isinstance(event, Error) and len(self.errors) < MOST_KEPT:
            self.errors.append(event.reason)

    def usage(
        self, *, prompt: int = 0, completion: int = 0, cached: int = 0, cost_usd: float = 0.0
    ) -> None:
        """Count nothing."""

    def steering(self, most: int | None = None) -> list[str]:  # noqa: ARG002
        """Return none."""
        return []

    def waiting_steering(self) -> list[str]:
        """Return none."""
        return []

    def listen(self, listener: TurnListener | None) -> None:
        """Nothing changes."""

    async def approval(self, tool: str, args: Any = None, *, hint: str | None = None) -> Approval:  # noqa: ARG002
        """Approve of nothing."""
        return Approval("rejected", ANSWER)

    async def ask(self, question: str) -> Any:  # noqa: ARG002
        """Answer with a sentence."""
        return ANSWER

    async def call_tool(self, name: str, args: Any = None, *, call_id: str | None = None) -> Any:  # noqa: ARG002
        """Fail: nobody has attached any."""
        raise ToolFailed(name, problem="there are no callback tools in a check")
