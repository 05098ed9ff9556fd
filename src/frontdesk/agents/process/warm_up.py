"""A turn that nobody asked for, run once in a fork server: no session pays for first times.

Programs put much off until their first turn (imports, schemas, prices); done before the fork, it is
done once, and its memory is shared. What the agent answers is thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib

from frontdesk.agents.json_memory import JsonMemory
from frontdesk.agents.protocol import Program
from frontdesk.agents.records import SessionContext
from frontdesk.agents.task import drive
from frontdesk.agents.testing import RecordingTurnPort

DEADLINE_S = 10.0


def warm_up(program: Program, *, model: str) -> None:
    """Run one turn of a program with a model that needs no network.

    A warm-up that fails is no reason not to open: the first session has the error.
    """
    context = SessionContext(session_id="warm-up", tenant_id="none", blueprint="none", model=model)
    with contextlib.suppress(Exception):
        asyncio.run(_run_turn(program, context))


async def _run_turn(program: Program, context: SessionContext) -> None:
    program.check(context)
    async with asyncio.timeout(DEADLINE_S):
        port = RecordingTurnPort(context, "warm-up")
        await drive(program.open(context), port, JsonMemory())
