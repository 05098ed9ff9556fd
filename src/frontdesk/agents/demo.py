"""A blueprint to try everything with, without a key and without a network: `demo`.

It opens in development runs. The first prompt shows what an agent can do: it thinks, uses a tool,
speaks in sentences, asks an approval and a question. After that it does what it is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from frontdesk.agents.blueprints import blueprint
from frontdesk.agents.errors import QuestionExpired
from frontdesk.agents.events import ThinkingDelta, ToolCalls, ToolExecutionEnd, ToolExecutionStart
from frontdesk.agents.turn import EndSession, Turn

WORD_S = 0.035
"""The pace of somebody who speaks."""
TOOL_S = 0.6

GREETING = (
    "Good day, and welcome to the front desk. I am a demonstration: no model stands behind me, "
    "and nothing of what you say leaves this machine. "
)
OFFERS = (
    "Tell me what to do: think, tool, approve, ask, long, wait, crash, or bye. "
    "Anything else I say back to you. "
)
STORY = (
    "A front desk knows who is in the building. When somebody leaves, by the door or through the "
    "window, it notices at once, and takes the name off the board. It never waits for the guest to "
    "send word, because those who leave through the window do not. So whoever asks for a guest who "
    "has gone is told that, and why; and whoever asks for one who is there, is put through. "
)


@blueprint("demo", models=("demo",), errors_end="session")
async def demo(turn: Turn) -> AsyncIterator[str]:
    """Show what an agent can do, then do what it is told."""
    told = turn.text.lower()
    turn.usage(prompt=len(turn.text) // 4 + 12)
    if "crash" in told:
        async for word in spoken("As you wish. I raise an error now, and you will see it. "):
            yield word
        raise RuntimeError("told to crash")
    if "bye" in told:
        async for word in spoken("Good bye. My session ends with me. "):
            yield word
        raise EndSession
    first = not turn.history
    if first or "think" in told:
        await think(turn)
    if first or "tool" in told:
        async for word in use_tool(turn):
            yield word
    if first:
        async for word in spoken(GREETING):
            yield word
    if "long" in told or "wait" in told:
        for _ in range(6):
            async for word in spoken(STORY):
                yield word
    if first or "approve" in told:
        async for word in ask_approval(turn):
            yield word
    if first or "ask" in told:
        async for word in ask_name(turn):
            yield word
    if not any(each in told for each in ("think", "tool", "approve", "ask", "long", "wait")):
        async for word in spoken(OFFERS if first else f"You said: {turn.text} "):
            yield word
    for text in turn.steering():
        async for word in spoken(f"And you added: {text} "):
            yield word


async def spoken(text: str) -> AsyncIterator[str]:
    """Give a text word by word, at the pace of somebody who speaks."""
    for word in text.split(" "):
        if word:
            await asyncio.sleep(WORD_S)
            yield word + " "


async def think(turn: Turn) -> None:
    """Think aloud."""
    async for word in spoken("Somebody has come in. First I look who is here, then I say hello."):
        turn.emit(ThinkingDelta(word))


async def use_tool(turn: Turn) -> AsyncIterator[str]:
    """Use a tool, and say what came of it."""
    call_id = f"{turn.request_id}-clock"
    turn.emit(ToolCalls(1))
    turn.emit(ToolExecutionStart(call_id, "read_the_clock", {"zone": "here"}))
    began = time.monotonic()
    await asyncio.sleep(TOOL_S)
    now = time.strftime("%H:%M:%S")
    took_ms = round((time.monotonic() - began) * 1000)
    turn.emit(ToolExecutionEnd(call_id, "read_the_clock", "ok", {"time": now}, took_ms))
    async for word in spoken(f"It is {now} by the clock in the hall. "):
        yield word


async def ask_approval(turn: Turn) -> AsyncIterator[str]:
    """Ask whether a tool may run, and go by the answer."""
    answer = await turn.approval(
        "ring_the_bell", {"times": 3}, hint="it would wake everybody in the building"
    )
    if answer:
        said = "Ding, ding, ding. Everybody is awake now. "
    elif answer.status == "rejected":
        said = "Then I leave the bell alone. "
    else:
        said = "Nobody answered, so I leave the bell alone. "
    async for word in spoken(said):
        yield word


async def ask_name(turn: Turn) -> AsyncIterator[str]:
    """Ask a question, and use the answer."""
    try:
        name = str(await turn.ask("Whom may I announce?"))[:200]
    except QuestionExpired:
        name = "nobody in particular"
    async for word in spoken(f"I shall announce {name}. "):
        yield word
    turn.usage(completion=40)
