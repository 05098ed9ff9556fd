"""A turn that nobody asked for, run once in a fork server: no session pays for first times.

Programs put much off until their first turn (imports, schemas, prices); done
before the fork, it is done once, and its memory is shared. What the turn says is thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from frontdesk.agents.errors import TurnOver
from frontdesk.agents.events import Event
from frontdesk.agents.protocol import Program, drive
from frontdesk.agents.records import Approval, SessionContext, ToolSpec, TurnContext
from frontdesk.agents.turn import TurnListener

DEADLINE_S = 10.0


def rehearse(program: Program, *, model: str) -> None:
    """Run one turn of a program with a model that needs no network.

    A rehearsal that fails is no reason not to open: the first session will tell.
    """
    context = SessionContext(
        session_id="rehearsal", tenant_id="none", blueprint="none", model=model
    )
    with contextlib.suppress(Exception):
        asyncio.run(_rehearse(program, context))


async def _rehearse(program: Program, context: SessionContext) -> None:
    program.check(context)
    turn = TurnContext(
        text="rehearsal", request_id="rehearsal", session=context, model=context.model
    )
    async with asyncio.timeout(DEADLINE_S):
        await drive(program.open(context), _DeafPort(turn))


class _DeafPort:
    """A turn's port that hears nothing and has nobody to ask."""

    def __init__(self, context: TurnContext) -> None:
        self.context = context

    @property
    def model(self) -> str:
        return self.context.model

    @property
    def tools(self) -> Sequence[ToolSpec]:
        return ()

    def emit(self, event: Event) -> None:
        """Forget it."""

    def usage(
        self, *, prompt: int = 0, completion: int = 0, cached: int = 0, cost_usd: float = 0.0
    ) -> None:
        """Forget it."""

    def steering(self, most: int | None = None) -> list[str]:  # noqa: ARG002
        return []

    def waiting_steering(self) -> list[str]:
        return []

    def listen(self, listener: TurnListener | None) -> None:
        """Nothing changes."""

    async def approval(self, tool: str, args: Any = None, *, hint: str | None = None) -> Approval:  # noqa: ARG002
        return Approval("expired")

    async def ask(self, question: str) -> Any:  # noqa: ARG002
        raise TurnOver(self.context.request_id)

    async def call_tool(self, name: str, args: Any = None, *, call_id: str | None = None) -> Any:  # noqa: ARG002
        raise TurnOver(self.context.request_id)
