"""What the agent's own terminals print is in the result of the call that shows them."""

import json

import pytest

from support.acp import open_acp_session, turn_of
from support.sessions import data_of

pytestmark = pytest.mark.anyio

SHOWN = [{"type": "terminal", "terminalId": "c1"}]
DONE = ["answer", {"stopReason": "end_turn"}]


def report(kind="tool_call_update", **fields):
    return ["update", {"sessionUpdate": kind, "toolCallId": "c1", **fields}]


def prints(data, name="terminal_output_delta"):
    return report(_meta={name: {"terminal_id": "c1", "data": data}})


async def result_of(*steps, content=SHOWN):
    begun = report("tool_call", title="ls", status="in_progress", content=content)
    script = [begun, *steps, report(status="completed"), DONE]
    async with open_acp_session("Scripted") as conversation:
        events = await turn_of(conversation, json.dumps(script))
        (ended,) = [data_of(each) for each in events if each.name == "tool_execution_end"]
        return ended["result"]


async def test_pieces_that_are_told_one_by_one_are_the_result():
    assert await result_of(prints("a.txt\n"), prints("b.txt\n")) == "a.txt\nb.txt\n"


async def test_a_whole_that_is_told_again_is_the_result_once():
    whole = "terminal_output"
    assert await result_of(prints("a", whole), prints("ab", whole), prints("c", whole)) == "abc"


async def test_what_is_printed_is_the_result_of_a_call_that_shows_nothing_else():
    assert await result_of(prints("a.txt"), content=[]) == "a.txt"


async def test_what_is_printed_in_a_long_message_is_not_lost():
    assert await result_of(prints("x" * 100_000)) == "x" * 100_000


async def test_a_terminal_of_which_nothing_is_told_is_named():
    assert await result_of() == [{"type": "terminal", "terminalId": "c1", "output": None}]
