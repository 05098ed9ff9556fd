"""One turn of a blueprint without a service: whether it works, before any client asks.

No registry, no meter, no stream; what an agent would ask a client is answered for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from frontdesk.agents.blueprints import Blueprint, Blueprints
from frontdesk.agents.errors import AgentFailed
from frontdesk.agents.protocol import check, discard
from frontdesk.agents.records import CreateSession, SessionContext
from frontdesk.agents.testing import RecordingTurnPort
from frontdesk.agents.turn import EndSession
from frontdesk.sessions.admission import admit

TENANT = "check"
END_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class DryRunResult:
    """How a turn went that ended: what was said, the errors among it, and how long it took."""

    text: str
    errors: tuple[str, ...]
    took_s: float


def context_for(blueprint: Blueprint, *, model: str) -> SessionContext:
    """Return a session's context as a client's request would give it; raises what it would."""
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
    port = RecordingTurnPort(context, prompt)
    turn = asyncio.create_task(agent.run_turn(port))
    try:
        await asyncio.wait({turn}, timeout=turn_timeout_s)
    finally:
        late = not turn.done()
        turn.cancel()
        await asyncio.shield(agent.end(0.0 if late else END_GRACE_S))
        await asyncio.shield(discard(agent))
        await asyncio.wait({turn}, timeout=END_GRACE_S)
    if late:
        if turn.done() and not turn.cancelled():
            turn.exception()  # seen: a deaf agent that was ended is the time-out's doing
        raise TimeoutError
    if turn.cancelled():
        raise AgentFailed("the agent cancelled its own turn")
    if not isinstance(error := turn.exception(), EndSession | None):
        raise error
    return DryRunResult(port.text, tuple(port.errors), _now_s() - began_s)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
