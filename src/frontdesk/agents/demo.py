"""A blueprint to try everything with, without a key and without a network: `demo`.

It is open in development runs. A first prompt that asks for nothing shows what agents do: it
thinks, uses a tool and speaks in sentences, and it says which words make it do more. After that it
does what it is told.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from frontdesk.agents.blueprints import blueprint
from frontdesk.agents.errors import QuestionExpired
from frontdesk.agents.events import (
    MessageDelta,
    ThinkingDelta,
    ToolCalls,
    ToolExecutionEnd,
    ToolExecutionStart,
)
from frontdesk.agents.turn import EndSession, Turn

WORD_S = 0.035
"""The pace of somebody who speaks."""
TOOL_S = 0.6
SILENT_S = 60.0
REPEATED_CHARS = 2_000
USD_PER_TOKEN = 0.000002

THOUGHT = "Somebody has come in. I say hello, look at the clock, and offer my help. "
GREETING = (
    "Good day, and welcome to the front desk. I am a demonstration: no model stands behind me, "
    "and nothing of what you say leaves this machine. "
)
OFFERS = (
    "Say one of these words, and I do it: think, tool, approve, ask, long, wait, crash, bye. "
    "Or tour, for the first four. Anything else I say back to you. "
)
STORY = (
    "A front desk knows who is in the building. When somebody leaves, by the door or through the "
    "window, it notices at once, and takes the name off the board. It never waits for the guest to "
    "send word, because those who leave through the window do not. So whoever asks for a guest who "
    "has gone is told that, and why; and whoever asks for one who is there, is put through. "
)


@blueprint("demo", models=("demo", "*"), errors_end="session")
async def demo(turn: Turn) -> None:
    """Do what the words of a prompt tell; greet, where it is the first and they tell nothing."""
    told = set(re.findall(r"[a-z]+", turn.text.lower()))
    if "tour" in told:
        told |= TOUR
    elif not told & ABILITIES.keys() and not turn.history:
        told |= FIRST
    asked = [do for word, do in ABILITIES.items() if word in told]
    try:
        for do in asked:
            await do(turn)
        if not asked:
            await emit_words(turn, f"You said: {shortened(turn.text)} ")
        for text in turn.steering():
            await emit_words(turn, f"And you added: {shortened(text)} ")
    finally:
        prompt, completion = len(turn.text) // 4 + 12, 40
        cost = (prompt + completion) * USD_PER_TOKEN
        turn.usage(prompt=prompt, completion=completion, cost=cost)


async def emit_words(turn: Turn, text: str) -> None:
    """Emit a text word by word, at the pace of somebody who speaks."""
    for word in re.findall(r"\S+\s*|\s+", text):
        await asyncio.sleep(WORD_S)
        turn.emit(MessageDelta(word))


def shortened(text: str) -> str:
    """Return as much of a text as is worth hearing again."""
    return text if len(text) <= REPEATED_CHARS else text[:REPEATED_CHARS] + " ..."


async def think(turn: Turn) -> None:
    for word in THOUGHT.split():
        await asyncio.sleep(WORD_S)
        turn.emit(ThinkingDelta(word + " "))


async def use_tool(turn: Turn) -> None:
    """Use a tool, and say what came of it."""
    call_id = f"{turn.request_id}-clock"
    turn.emit(ToolCalls(1))
    turn.emit(ToolExecutionStart(call_id, "read_the_clock", {"zone": "here"}))
    began = time.monotonic()
    await asyncio.sleep(TOOL_S)
    now = time.strftime("%H:%M:%S")
    took_ms = round((time.monotonic() - began) * 1000)
    turn.emit(ToolExecutionEnd(call_id, "read_the_clock", "ok", {"time": now}, took_ms))
    await emit_words(turn, f"It is {now} by the clock in the hall. ")


async def ask_approval(turn: Turn) -> None:
    """Ask whether a tool may run, and go by the answer."""
    hint = "it would wake everybody in the building"
    answer = await turn.approval("ring_the_bell", {"times": 3}, hint=hint)
    if answer:
        await emit_words(turn, "Ding, ding, ding. Everybody is awake now. ")
    elif answer.status == "rejected":
        await emit_words(turn, "Then I leave the bell alone. ")
    else:
        await emit_words(turn, "Nobody answered, so I leave the bell alone. ")


async def ask_name(turn: Turn) -> None:
    """Ask a question, and use the answer."""
    try:
        name = str(await turn.ask("Whom may I announce?"))[:200]
    except QuestionExpired:
        name = "nobody in particular"
    await emit_words(turn, f"I shall announce {name}. ")


async def greet(turn: Turn) -> None:
    await emit_words(turn, GREETING)
    await use_tool(turn)
    await emit_words(turn, OFFERS)


async def recite(turn: Turn) -> None:
    for _ in range(6):
        await emit_words(turn, STORY)


async def stay_silent(turn: Turn) -> None:
    await emit_words(turn, "I am silent for a minute, unless you abort me. ")
    await asyncio.sleep(SILENT_S)


async def crash(turn: Turn) -> None:
    await emit_words(turn, "As you wish. I raise an error now, and you will see it. ")
    raise RuntimeError("told to crash")


async def leave(turn: Turn) -> None:
    await emit_words(turn, "Good bye. My session ends with me. ")
    raise EndSession


FIRST = frozenset({"think", "greet"})
TOUR = frozenset({"think", "tool", "approve", "ask"})
ABILITIES: Mapping[str, Callable[[Turn], Awaitable[None]]] = MappingProxyType(
    {
        "think": think,
        "greet": greet,
        "tool": use_tool,
        "long": recite,
        "wait": stay_silent,
        "approve": ask_approval,
        "ask": ask_name,
        "crash": crash,
        "bye": leave,
    }
)
"""What it does at which word of a prompt, in this order."""
