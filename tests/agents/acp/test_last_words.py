"""What an agent says just before it exits is heard, answers included, before its exit is told."""

import json

import pytest

from support.acp import open_acp_session, turn_of
from support.sessions import Stream, data_of, names, text

pytestmark = pytest.mark.anyio

ANSWER = ["answer", {"stopReason": "end_turn"}]


def words(*texts):
    return [
        ["update", {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": t}}]
        for t in texts
    ]


async def last_turn(*steps, **options):
    async with open_acp_session("Scripted", **options) as conversation:
        stream = Stream(conversation)
        conversation.prompt(json.dumps(steps))
        events = await stream.rest()
        stream.close()
        return events


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("size", [1, 1000, 60_000, 2_000_000])
async def test_an_agent_that_answers_and_exits_has_answered(code, size):
    events = await last_turn(*words("a", "b" * size, "c"), ANSWER, ["exit", code])
    assert text(events) == f"a{'b' * size}c"
    assert names(events)[-2:] == ["agent_end", "session_end"]
    assert data_of(events[-1])["reason"] == ("normal" if code == 0 else f"exited: {code}")


async def test_an_agent_that_exits_in_the_middle_is_heard_to_its_last_word():
    events = await last_turn(*words(*map(str, range(500))), ["exit", 4])
    assert text(events) == "".join(map(str, range(500)))
    assert names(events)[-3:] == ["error", "agent_abort", "session_end"]
    assert data_of(events[-1])["reason"] == "exited: 4"


async def test_a_prompt_that_waits_goes_to_the_next_agent_and_not_to_the_one_that_exits():
    async with open_acp_session("Scripted", restart="always") as conversation:
        stream = Stream(conversation)
        conversation.prompt(json.dumps([*words("one"), ANSWER, ["exit", 0]]))
        conversation.prompt(json.dumps([*words("two"), ANSWER]))
        events = await stream.until("agent_end", "agent_abort", count=2)
        stream.close()
        assert [each for each in names(events) if each.startswith("agent_")] == [
            "agent_start",
            "agent_end",
            "agent_restarted",
            "agent_start",
            "agent_end",
        ]
        assert text(events) == "onetwo"


async def test_nothing_new_is_taken_by_an_agent_that_has_exited():
    async with open_acp_session("Scripted") as conversation:
        events = await turn_of(conversation, json.dumps([*words("bye"), ANSWER, ["exit", 0]]))
        assert text(events) == "bye"
        stream = Stream(conversation, since="0")
        assert names(await stream.rest())[-1] == "session_end"
        stream.close()
