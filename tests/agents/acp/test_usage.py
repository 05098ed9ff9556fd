"""What an agent used reaches the meters once, whatever its numbers count."""

import json

import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists, tuples

from frontdesk.agents.acp.token_counts import SessionUsage
from frontdesk.agents.records import TokenUsage
from support.acp import open_acp_session, turn_of
from support.sessions import data_of, stats_of

pytestmark = pytest.mark.anyio

CALL = (100, 20)
"""What one call of the model uses: 480 tokens are four of them."""

CALLS_PER_TURN = (1, 2, 1)


def usage(prompt, completion):
    return {
        "inputTokens": prompt,
        "outputTokens": completion,
        "totalTokens": prompt + completion,
    }


def times(calls):
    return usage(calls * CALL[0], calls * CALL[1])


def answered(**more):
    return ["answer", {"stopReason": "end_turn", **more}]


def chunk(**more):
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "a"}}
    return ["update", {**update, **more}]


def tokens(events):
    return data_of(events[-1])["tokenUsage"]


async def used_in(turns, **options):
    """Run turns by their scripts; return what each was said to use, and the session's numbers."""
    async with open_acp_session("Scripted", **options) as conversation:
        said = [tokens(await turn_of(conversation, json.dumps(turn))) for turn in turns]
        return said, stats_of(conversation)["tokenUsage"]


def the_ways():
    """Yield every way in which agents say what the turns used: option, scripts, is all of it."""
    so_far = [sum(CALLS_PER_TURN[: at + 1]) for at in range(len(CALLS_PER_TURN))]
    yield "turn", [[answered(usage=times(calls))] for calls in CALLS_PER_TURN]
    yield None, [[answered(usage=times(calls))] for calls in CALLS_PER_TURN]
    yield "session", [[answered(usage=times(calls))] for calls in so_far]
    meta = [{"quota": {"token_count": {"input_tokens": 100 * n, "output_tokens": 20 * n}}}
            for n in CALLS_PER_TURN]  # fmt: skip
    yield None, [[answered(_meta=each)] for each in meta]
    yield "session", [[answered(_meta={"usage": times(calls)})] for calls in so_far]
    per_call = chunk(_meta={"usage": {"promptTokens": 100, "completionTokens": 20}})
    yield None, [[per_call] * calls + [answered()] for calls in CALLS_PER_TURN]
    both = [[per_call] * calls + [answered(usage=times(calls))] for calls in CALLS_PER_TURN]
    yield None, both


@pytest.mark.parametrize("way", range(len(list(the_ways()))))
async def test_480_tokens_are_480_tokens_however_an_agent_says_it(way):
    count, turns = list(the_ways())[way]
    said, session = await used_in(turns, usage=count)
    assert [each["totalTokens"] for each in said] == [120 * calls for calls in CALLS_PER_TURN]
    assert session == {
        "promptTokens": 400,
        "completionTokens": 80,
        "totalTokens": 480,
        "cachedTokens": 0,
        "unknownTurns": 0,
    }


@pytest.mark.parametrize(
    "answer",
    [answered(), answered(usage=None), answered(usage={"inputTokens": -1}), answered(_meta={})],
)
async def test_what_an_agent_does_not_say_is_unknown_and_not_nothing(answer):
    said, session = await used_in([[answer], [answered(usage=times(1))], [answer]])
    assert said[0] is None
    assert said[1]["totalTokens"] == 120
    assert said[2] is None
    assert (session["totalTokens"], session["unknownTurns"]) == (120, 2)


async def test_what_only_the_last_call_used_is_counted_and_said_to_be_a_part():
    said, session = await used_in([[answered(usage=times(1))]] * 3, usage="last-call")
    assert [each["totalTokens"] for each in said] == [120] * 3
    assert (session["totalTokens"], session["unknownTurns"]) == (360, 3)


async def test_a_sum_of_the_session_that_begins_again_is_counted_from_there():
    turns = [[answered(usage=times(calls))] for calls in (2, 3, 1, 2)]
    said, session = await used_in(turns, usage="session")
    assert [each["totalTokens"] for each in said] == [240, 120, 120, 120]
    assert session["totalTokens"] == 600


async def test_a_turn_without_numbers_between_two_sums_is_in_the_next_one():
    turns = [[answered(usage=times(1))], [answered()], [answered(usage=times(4))]]
    said, session = await used_in(turns, usage="session")
    assert [each and each["totalTokens"] for each in said] == [120, None, 360]
    assert (session["totalTokens"], session["unknownTurns"]) == (480, 1)


async def test_the_size_of_the_context_is_no_number_of_tokens_used():
    context = ["update", {"sessionUpdate": "usage_update", "used": 5000, "size": 100000}]
    said, session = await used_in([[context, answered()]])
    assert said == [None]
    assert session["totalTokens"] == 0


async def test_a_turn_that_fails_is_unknown_too():
    async with open_acp_session("Failing") as conversation:
        await turn_of(conversation, "go")
        assert stats_of(conversation)["tokenUsage"]["unknownTurns"] == 1


@given(lists(tuples(integers(0, 10**9), integers(0, 10**9)), max_size=20))
def test_the_increases_of_a_growing_sum_are_the_sum(steps):
    usage, total, counted = SessionUsage("session"), TokenUsage(), TokenUsage()
    for prompt, completion in steps:
        total += TokenUsage(prompt, completion)
        counted += usage.of_answer(total)
    assert counted == total


def test_agents_that_are_known_need_no_setting():
    for name, count in (("@mistralai/mistral-vibe", "session"), ("some agent", "turn")):
        usage = SessionUsage(None)
        usage.on_agent_name(name)
        usage.of_answer(TokenUsage(100, 20))
        assert usage.of_answer(TokenUsage(200, 40)) == (
            TokenUsage(100, 20) if count == "session" else TokenUsage(200, 40)
        )
