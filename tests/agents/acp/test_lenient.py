"""What an agent answers and reports is read leniently: at most a turn ends of it, no session."""

import json

import pytest
from hypothesis import given
from hypothesis.strategies import dictionaries, lists, none, recursive, sampled_from

from frontdesk.agents.acp.agent_answers import (
    OpenedSession,
    PermissionAsked,
    PromptAnswer,
    options_in,
)
from frontdesk.agents.acp.model_choice import ModelChoice
from frontdesk.agents.acp.token_counts import tokens_in_meta
from support import sessions
from support.acp import open_acp_session, turn_of
from support.sessions import data_of, names

pytestmark = pytest.mark.anyio


def script(*steps):
    return json.dumps(steps)


def error_of(events):
    return [data_of(each)["reason"] for each in events if each.name == "error"]


@pytest.mark.parametrize(
    ("answer", "errors", "end"),
    [
        ({"stopReason": "whatever"}, ["whatever"], "agent_end"),
        ({"stopReason": "x" * 5000}, ["x" * 100], "agent_end"),
        ({"stopReason": 7}, ["unknown"], "agent_end"),
        ({"stopReason": None}, [], "agent_end"),
        ({}, [], "agent_end"),
        (None, [], "agent_end"),
        ({"stopReason": "end_turn", "usage": "much"}, [], "agent_end"),
        ({"stopReason": "end_turn", "_meta": [1]}, [], "agent_end"),
        ([], ["AgentFailed"], "agent_abort"),
        ("done", ["AgentFailed"], "agent_abort"),
    ],
)
async def test_whatever_ends_a_prompt_the_session_goes_on(answer, errors, end):
    async with open_acp_session("Scripted") as conversation:
        events = await turn_of(conversation, script(["answer", answer]))
        assert (error_of(events), names(events)[-1]) == (errors, end)
        said = ["update", {"sessionUpdate": "agent_message_chunk", "content": CONTENT}]
        events = await turn_of(conversation, script(said, ["answer", {"stopReason": "end_turn"}]))
        assert sessions.text(events) == "still here"


CONTENT = {"type": "text", "text": "still here"}


@pytest.mark.parametrize("answer", [{}, None, {"configOptions": None}, {"configOptions": "x"}])
async def test_an_answer_to_a_setting_that_says_nothing_is_a_yes(answer):
    assert options_in((answer or {}).get("configOptions")) is None


words = sampled_from(["", "model", "inputTokens", "optionId", "kind", "half \N{PILE OF POO}"])
values = recursive(
    none() | words | sampled_from([0, -1, 2**70, 0.5, True]),
    lambda each: lists(each, max_size=3) | dictionaries(words, each, max_size=3),
)
FIELDS = sampled_from(
    ["stopReason", "usage", "_meta", "models", "configOptions", "modes", "options", "quota"]
)


@given(dictionaries(FIELDS, values))
def test_no_answer_upsets_what_reads_it(answer):
    prompt = PromptAnswer.model_validate(answer)
    assert prompt.reason is None or isinstance(prompt.reason, str)
    tokens_in_meta(prompt.field_meta)
    session = OpenedSession.model_validate(
        {**answer, "sessionId": "s", "configOptions": [], "modes": None}
    )
    str(ModelChoice.of(session))
    options_in(answer.get("configOptions"))
    asked = {**answer, "sessionId": "s", "toolCall": {"toolCallId": "c"}}
    assert len(PermissionAsked.model_validate(asked).offered) <= 20
