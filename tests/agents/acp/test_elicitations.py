"""What an agent asks its user is a question to the client; the answer is as the agent takes it."""

import json

import pytest

from support.acp import open_acp_session, session_command
from support.sessions import Stream, data_of, text

pytestmark = pytest.mark.anyio

COMMAND = session_command("Curious")
NAME = {"type": "string", "description": "Your name"}
COLOUR = {"type": "string", "enum": ["red", "blue"]}
COUNT = {"type": "integer", "title": "How many"}


def form(message="Who?", required=(), **properties):
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"mode": "form", "message": message, "requestedSchema": schema}


async def answered(asked, response):
    """Have the agent ask; return the question, and what the agent was answered."""
    async with open_acp_session(COMMAND) as conversation:
        stream = Stream(conversation)
        conversation.prompt(json.dumps(asked))
        question = data_of((await stream.until("ask_user"))[-1])
        conversation.respond(question["ref"], response)
        events = await stream.until("agent_end")
        stream.close()
        return question["question"], json.loads(text(events))


@pytest.mark.parametrize(
    ("asked", "response", "content"),
    [
        (form(name=NAME), "Ada", {"name": "Ada"}),
        (form(name=NAME), {"name": "Ada", "other": 1}, {"name": "Ada"}),
        (form(count=COUNT), "3", {"count": 3}),
        (form(count=COUNT, name=NAME), {"count": 3}, {"count": 3}),
        (form(colour=COLOUR), "red", {"colour": "red"}),
        (form(sure={"type": "boolean"}), "true", {"sure": True}),
        (form(many={"type": "array", "items": {"enum": ["a", "b"]}}), ["a"], {"many": ["a"]}),
    ],
)
async def test_an_answer_is_the_content_of_the_form(asked, response, content):
    assert (await answered(asked, response))[1] == {"action": "accept", "content": content}


@pytest.mark.parametrize(
    ("asked", "response"),
    [
        (form(name=NAME), None),
        (form(count=COUNT), "many"),
        (form(colour=COLOUR), "green"),
        (form(name=NAME, count=COUNT), "Ada"),
        (form(required=["count"], name=NAME, count=COUNT), {"name": "Ada"}),
        (form(many={"type": "array", "items": {"enum": ["a", "b"]}}), ["c"]),
    ],
)
async def test_what_is_no_answer_to_the_form_is_a_no(asked, response):
    assert (await answered(asked, response))[1] == {"action": "decline"}


async def test_the_question_has_the_fields_of_the_form():
    question, _ = await answered(form("Who?", name=NAME, count=COUNT, colour=COLOUR), None)
    assert question == (
        "Who?\n- name (string): Your name\n- count (integer): How many\n- colour (one of red, blue)"
    )


async def test_an_address_is_shown_and_any_answer_is_a_yes():
    asked = {"mode": "url", "message": "Log in", "url": "https://a.example/", "elicitationId": "e"}
    question, answer = await answered(asked, "done")
    assert question == "Log in\nhttps://a.example/"
    assert answer == {"action": "accept"}


async def test_a_question_that_nobody_answers_is_cancelled():
    options = {"service": {"question_timeout_s": 0.05}}
    async with open_acp_session(COMMAND, **options) as conversation:
        stream = Stream(conversation)
        conversation.prompt(json.dumps(form(name=NAME)))
        events = await stream.until("agent_end")
        stream.close()
        assert json.loads(text(events)) == {"action": "cancel"}
