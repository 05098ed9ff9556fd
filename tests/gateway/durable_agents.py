"""An agent that writes down each turn that it gets, in a file that outlives it."""

import os

from frontdesk.agents import Turn, blueprint
from frontdesk.agents.events import ToolExecutionEnd, ToolExecutionStart


@blueprint("witness")
async def witness(turn: Turn):
    """Write down the turn's id and what is known, run a tool, ask an approval, answer.

    What it remembers are the ids of its turns; those that did not end are none of them.
    """
    remembered = turn.memory or []
    with open(os.environ["WITNESSED"], "a", encoding="utf-8") as file:
        file.write(f"{turn.request_id} {len(turn.history)} {','.join(remembered)}\n")
        file.flush()
        os.fsync(file.fileno())
    turn.memory = [*remembered, turn.request_id]
    yield f"about {turn.text}: "
    turn.emit(ToolExecutionStart("call-1", "lookup", {"text": turn.text}))
    turn.emit(ToolExecutionEnd("call-1", "lookup", "ok", "found"))
    if turn.text.startswith("ask"):
        answer = await turn.approval("refund", {"order": 17})
        yield f"{answer.status} "
    yield "done"
