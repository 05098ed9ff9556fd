"""Pydantic AI agents get what comes with a prompt, and remember it as far as there is room."""

import asyncio
import base64
import os

import pytest

from frontdesk.agents import Attachment
from support.sessions import Stream, data_of, open_service, open_session, text

pytest.importorskip("pydantic_ai")

from pydantic_ai.messages import BinaryContent, ModelRequest, UserPromptPart

from frontdesk.agents.builtin import process_blueprint
from frontdesk.agents.pydantic_ai import PydanticAIProgram
from frontdesk.agents.pydantic_ai.memory import rebuilt
from frontdesk.agents.pydantic_ai.prompts import FORGOTTEN, FileBudget, prompt_of
from frontdesk.agents.records import Message
from support.isolated_sessions import open_isolated
from support.openai_server import OpenAIServer
from support.pydantic_models import assistant, prompts

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_keys")]

PICTURE = Attachment(name="a.png", media_type="image/png", content=os.urandom(1000))
NOTES = Attachment(name="n.txt", media_type="text/plain", content="Gr\u00fc\u00dfe".encode())
GONE = "[a.png (image/png, 1000 bytes) came with this; it is gone]"


def seen(messages):
    """Return what a model read of each prompt: texts, and the bytes of files."""
    return [
        [each.data if isinstance(each, BinaryContent) else each for each in content]
        if not isinstance(content, str)
        else content
        for content in prompts(messages)
    ]


async def turn(conversation, prompt, *attachments, end="agent_end"):
    stream = Stream(conversation, since=None, from_now=True)
    conversation.prompt(prompt, attachments=attachments)
    events = await stream.until(end)
    stream.close()
    return events


async def test_a_model_gets_files_as_bytes_behind_their_names_and_files_of_text_as_text():
    requests = []

    async def model(messages, info):
        requests.append(seen(messages))
        yield "seen"

    async with open_service(assistant(fn=model)) as service:
        conversation = await open_session(service, model="fn")
        await turn(conversation, "look", PICTURE, NOTES)
        await turn(conversation, "again")
    first = ["look", "a.png:", PICTURE.content, "n.txt:\nGr\u00fc\u00dfe"]
    assert requests == [[first], [first, "again"]]


@pytest.mark.parametrize("cut", ["abort", "error", "before the model"])
async def test_a_prompt_of_a_turn_that_was_cut_is_in_the_next_request_with_its_files(cut, caplog):
    requests, begun = [], asyncio.Event()

    async def model(messages, info):
        requests.append(seen(messages))
        if len(requests) == 1 and cut != "before the model":
            if cut == "error":
                raise RuntimeError("no")
            yield "half"
            begun.set()
            await asyncio.Event().wait()
        yield "seen"

    async with open_service(assistant(fn=model), abort_grace_s=20.0) as service:
        conversation = await open_session(service, model="fn")
        stream = Stream(conversation)
        conversation.prompt("look", attachments=[PICTURE])
        if cut == "abort":
            await begun.wait()
        if cut != "error":
            conversation.abort()
        await stream.until("agent_abort")
        await turn(conversation, "again")
        stream.close()
    first = ["look", "a.png:", PICTURE.content]
    if cut == "before the model":
        first = f"look\n\n{GONE}"
    assert requests[-1] == [first, "again"]


async def test_the_agent_that_comes_built_in_takes_them_in_a_process_too():
    made = [lambda keeper: process_blueprint(keeper=keeper)]
    async with open_isolated(blueprints=made) as service:
        conversation = await open_session(service, model="test", blueprint="process")
        events = await turn(conversation, "look", PICTURE, NOTES)
        assert "success" in text(events)
        assert data_of(events[0])["attachments"][0]["size"] == 1000


async def test_a_real_provider_is_sent_the_bytes(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")

    async def seen_by_server(body):
        yield "seen"

    program = PydanticAIProgram(base_urls=("http://127.0.0.1:*/v1",))
    async with OpenAIServer(seen_by_server) as server, open_service(assistant(program)) as service:
        options = {"baseUrl": server.base_url}
        conversation = await open_session(service, model="openai:small", provider_opts=options)
        await turn(conversation, "look", PICTURE)
        (request,) = server.requests
    sent = request["body"]["messages"][-1]["content"]
    url = f"data:image/png;base64,{base64.b64encode(PICTURE.content).decode()}"
    assert [each["type"] for each in sent] == ["text", "text", "image_url"]
    assert sent[2]["image_url"]["url"] == url


def test_a_new_agent_is_told_what_had_come_and_that_it_is_gone():
    told = rebuilt([Message("user", "look", attachments=(PICTURE.without_content,))])
    assert prompts(told) == [f"look\n\n{GONE}"]


def test_what_is_remembered_of_files_is_bounded_and_the_newest_are_kept():
    files = [
        Attachment(name=f"{n}.png", media_type="image/png", content=bytes(400)) for n in range(4)
    ]
    messages = [ModelRequest(parts=[UserPromptPart(prompt_of("look", [each]))]) for each in files]
    kept = seen(FileBudget(1000).within(messages))
    assert kept == [
        ["look", "0.png:", FORGOTTEN],
        ["look", "1.png:", FORGOTTEN],
        ["look", "2.png:", bytes(400)],
        ["look", "3.png:", bytes(400)],
    ]


def test_a_prompt_without_files_is_its_text():
    assert prompt_of("look", ()) == "look"
