"""Agents that say, do and suffer all that no log, trace or number may show."""

import os
import signal

from frontdesk.agents import Turn, blueprint
from frontdesk.agents.errors import ToolFailed
from frontdesk.agents.events import (
    Error,
    ThinkingDelta,
    ToolExecutionEnd,
    ToolExecutionStart,
)

SAID = "text-of-the-agent"
THOUGHT = "text-of-a-thought"
ARGUMENT = "text-in-an-argument"
RESULT = "text-in-a-result"
HINT = "text-in-a-hint"
QUESTION = "text-in-a-question"
ERROR = "text-of-a-reported-error"
TEXTS = (SAID, THOUGHT, ARGUMENT, RESULT, HINT, QUESTION, ERROR)


@blueprint("talker")
async def talker(turn: Turn):
    """Say something in every way there is."""
    turn.emit(ThinkingDelta(THOUGHT))
    turn.usage(prompt=10, completion=3, cost=0.01)
    turn.emit(ToolExecutionStart("c1", "search", {"query": ARGUMENT}))
    turn.emit(ToolExecutionEnd("c1", "search", "ok", {"found": RESULT}))
    turn.emit(Error(ERROR))
    answer = await turn.approval("refund", {"order": ARGUMENT}, hint=HINT)
    yield f"{SAID} {answer.status}"
    said = await turn.ask(QUESTION)
    try:
        await turn.call_tool("lookup", {"text": ARGUMENT})
    except ToolFailed as error:
        yield f"{error} {said}"


@blueprint("doomed")
async def doomed(turn: Turn):
    """End as the prompt says."""
    yield SAID
    if "raise" in turn.text:
        raise RuntimeError("it cannot go on")
    if "killed" in turn.text:
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        await turn.approval("more", {"text": ARGUMENT})
