"""The blueprints that the tests of the gateway run: each has one trait."""

import asyncio
import sys
import time

from frontdesk.agents import EndSession, Turn, blueprint
from frontdesk.agents.blueprints import Blueprints
from frontdesk.agents.events import MessageDelta


@blueprint("parrot")
async def parrot(turn: Turn):
    """Say the prompt again, word by word."""
    for word in turn.text.split():
        yield word + " "
    turn.usage(prompt=len(turn.text.split()), completion=len(turn.text.split()), cost=0.001)


@blueprint("patient")
async def patient(turn: Turn):
    """Work until it is aborted, or until some steering says `go`."""
    yield "working "
    while "go" not in turn.steering():
        await asyncio.sleep(0.01)
    yield "done "


@blueprint("recalling")
async def recalling(turn: Turn):
    """Say what was said before; where the prompt is `wait`, only once some steering says `go`."""
    if turn.text == "wait":
        yield "working "
        while "go" not in turn.steering():
            await asyncio.sleep(0.01)
    yield "; ".join(f"{each.role}: {each.content}" for each in turn.history)


@blueprint("leaver")
async def leaver(turn: Turn):
    """End the session."""
    yield "good bye"
    raise EndSession


@blueprint("careful")
async def careful(turn: Turn):
    """Ask before it uses a tool."""
    answer = await turn.approval("refund", {"order": turn.text}, hint="costs money")
    yield f"refund {answer.status}: {answer.reason} "


@blueprint("curious")
async def curious(turn: Turn):
    """Ask the user something."""
    answer = await turn.ask("Which one?")
    yield f"so it is {answer} "


@blueprint("handy")
async def handy(turn: Turn):
    """Use the session's callback tool `lookup` with the prompt."""
    result = await turn.call_tool("lookup", {"text": turn.text})
    yield f"it says {result} "


@blueprint("clumsy")
async def clumsy(turn: Turn):
    """Fail in the middle, with a text that no client may see."""
    yield "I will "
    raise RuntimeError("the password is swordfish in /etc/secret")


@blueprint("chatty")
async def chatty(turn: Turn):
    """Say as many words at once as the prompt says."""
    for number in range(int(turn.text)):
        turn.emit(MessageDelta(f"{number} "))
    yield ""


@blueprint("blocking")
async def blocking(turn: Turn):
    """Block the loop for as many seconds as the prompt says, as no agent should."""
    yield "blocking "
    await asyncio.sleep(0.2)
    sys.stderr.write("the loop is blocked now\n")
    sys.stderr.flush()
    time.sleep(float(turn.text))


@blueprint("flooding")
async def flooding(turn: Turn):
    """Emit large events without end, with a breath in between."""
    while True:
        turn.emit(MessageDelta("x" * 10_000))
        await asyncio.sleep(0)


@blueprint("deaf")
async def deaf(turn: Turn):
    """Ignore every cancellation, for a while."""
    yield "deaf "
    loop = asyncio.get_running_loop()
    until = loop.time() + 8
    while loop.time() < until:
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            continue


def lookup_order(order: str) -> str:
    """Say where an order is; a tool for blueprints of `kind = "pydantic-ai"`."""
    return f"{order} is on its way"


BLUEPRINTS = Blueprints(
    [parrot, patient, careful, curious, handy, clumsy, chatty, flooding, deaf], default="parrot"
)
