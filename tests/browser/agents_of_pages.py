"""What the tests of the pages of sessions have for agents: each has one trait."""

import asyncio

from frontdesk.agents import Turn, blueprint
from frontdesk.agents.blueprints import Blueprints
from frontdesk.agents.demo import demo
from frontdesk.agents.events import (
    MessageStart,
    ThinkingDelta,
    ToolExecutionEnd,
    ToolExecutionStart,
)
from gateway.agents import BLUEPRINTS

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "\u202egnp.exe\u202c",
    "\0 and \x1b[31mred\x1b[0m\x07",
    "javascript:alert(1)",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "null",
)
LINE = "x" * 1_000_000


@blueprint("hostile", models=("*",))
async def hostile(turn: Turn):
    """Say what no page may take for more than text, in every place that a text has."""
    for text in HOSTILE:
        turn.emit(MessageStart())
        yield text
        turn.emit(ThinkingDelta(text))
    turn.emit(MessageStart())
    for at in range(0, len(LINE), 100_000):
        yield LINE[at : at + 100_000]
    turn.emit(ToolExecutionStart("call", HOSTILE[0], {HOSTILE[1]: HOSTILE[2], "nothing": None}))
    turn.emit(ToolExecutionEnd("call", HOSTILE[0], "error", {HOSTILE[0]: [HOSTILE[3]]}, 12))
    await turn.approval(HOSTILE[0], {"what": HOSTILE[1]}, hint=HOSTILE[2])
    await turn.ask(HOSTILE[0])
    yield "done"


@blueprint("busy", models=("*",))
async def busy(turn: Turn):
    """Use as many tools as the prompt says."""
    for number in range(int(turn.text)):
        turn.emit(ToolExecutionStart(f"c{number}", f"tool_{number}", {"at": number}))
        turn.emit(ToolExecutionEnd(f"c{number}", f"tool_{number}", "ok", "done", 1))
        if number % 100 == 99:
            await asyncio.sleep(0)
    yield "all done"


@blueprint("slow", models=("*",))
async def slow(turn: Turn):
    """Count, slowly enough to be watched."""
    for number in range(int(turn.text)):
        yield f"{number} "
        await asyncio.sleep(0.005)


AGENTS = Blueprints([*BLUEPRINTS.values(), demo, hostile, busy, slow], default="parrot")
