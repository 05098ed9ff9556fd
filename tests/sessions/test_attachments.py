"""What comes with a prompt: who gets it, who sees what of it, how much of it there may be."""

import ast
import asyncio
import hashlib
import logging
import os

import msgspec
import pytest

from frontdesk.agents import Attachment, CreateSession
from frontdesk.agents.blueprints import blueprint
from frontdesk.errors import InvalidArgument
from frontdesk.sessions.attachment_room import MAX_PROMPT_BYTES
from frontdesk.sessions.errors import (
    AttachmentRefused,
    AttachmentsFull,
    GuardrailRefused,
    PromptQueueFull,
)
from support.isolated_sessions import ISOLATIONS, open_either
from support.sessions import Stream, data_of, open_service, open_session, scripted, soon, text

pytestmark = pytest.mark.anyio

PICTURE = Attachment(name="a.png", media_type="image/png", content=os.urandom(100_000))
NOTES = Attachment(name="n.txt", media_type="text/plain", content=b"a word")


def of_size(size):
    return Attachment(name="big.png", media_type="image/png", content=bytes(size))


async def waiting(turn):
    yield "begun"
    await asyncio.Event().wait()


def waiter():
    return scripted(waiting, attachments=("image/*",))


# -- what an agent gets, and what is seen --------------------------------------------------------


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_an_agent_gets_what_came_with_its_prompt_whole_and_with_the_next_nothing(isolation):
    large = Attachment(name="l.png", media_type="image/png", content=os.urandom(MAX_PROMPT_BYTES))
    async with open_either(isolation, "receiver") as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        for sent in ([PICTURE, NOTES], [large], []):
            conversation.prompt("look", attachments=sent)
            got = ast.literal_eval(text(await stream.until("agent_end")))
            assert got == [
                (each.name, each.media_type, hashlib.sha256(each.content).hexdigest())
                for each in sent
            ]
        stream.close()


async def test_events_and_history_show_names_types_and_sizes_and_never_the_content():
    async with open_service(scripted(waiting, attachments=("*/*",))) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        secret = Attachment(name="k.txt", media_type="text/plain", content=b"hunter2" * 1000)
        conversation.prompt("look", attachments=[PICTURE, secret])
        conversation.prompt("and")
        events = await stream.until("message_delta")
        shown = [
            {"name": "a.png", "mediaType": "image/png", "size": 100_000},
            {"name": "k.txt", "mediaType": "text/plain", "size": 7000},
        ]
        assert data_of(events[0])["attachments"] == shown
        (message,) = conversation.history.all()
        assert list(msgspec.to_builtins(message)["attachments"]) == shown
        assert "hunter2" not in repr(secret) + repr(message) + repr([e.json for e in events])
        assert conversation.held_bytes < 10_000
        conversation.abort()
        events = await stream.until("message_delta")
        assert "attachments" not in data_of(events[-3])
        stream.close()


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "problem"),
    [((), "takes no attachments"), (("image/*", "text/x"), r"takes image/\*, text/x$")],
)
async def test_a_type_that_the_blueprint_does_not_take_is_refused_by_name(patterns, problem):
    async with open_service(scripted(waiting, attachments=patterns)) as service:
        conversation = await open_session(service)
        with pytest.raises(AttachmentRefused, match=f"'text/plain': .*{problem}"):
            conversation.prompt("look", attachments=[NOTES])
        assert not conversation.busy
        assert conversation.counters.prompts == 0
        assert service.attachments.held("acme") == 0


async def test_a_session_is_not_opened_for_a_prompt_whose_attachments_are_refused():
    async with open_service(waiter()) as service:
        acme = service.tenant("acme", "key-1")
        with pytest.raises(AttachmentRefused):
            await acme.create_and_prompt(CreateSession(model="m"), "look", attachments=[NOTES])
        assert acme.sessions() == ([], None)
        conversation, _ = await acme.create_and_prompt(
            CreateSession(model="m"), "look", attachments=[PICTURE]
        )
        assert service.attachments.held("acme") == PICTURE.size
        assert conversation.busy


class NoSuchWord:
    """Refuse a word wherever a client says it."""

    def refuse_input(self, tenant_id, text):
        return "not that word" if "word" in text else None

    def refuse_output(self, tenant_id, message):
        return None

    refuse_message = refuse_tool_result = refuse_input


@pytest.mark.parametrize(
    "attachment",
    [
        Attachment(name="word.png", media_type="image/png", content=b"x"),
        Attachment(name="a.txt", media_type="text/plain", content=b"a word"),
        Attachment(name="a.json", media_type="application/json", content=b'["word"]'),
    ],
)
async def test_filters_look_at_names_and_at_files_of_text(attachment):
    takes_all = scripted(waiting, attachments=("*/*",))
    async with open_service(takes_all, guardrails=NoSuchWord()) as service:
        conversation = await open_session(service)
        with pytest.raises(GuardrailRefused, match="not that word"):
            conversation.prompt("look", attachments=[attachment])
        assert service.attachments.held("acme") == 0
        harmless = msgspec.structs.replace(attachment, name="a.bin", media_type="image/png")
        conversation.prompt("look", attachments=[harmless])


async def test_half_a_character_in_a_name_is_replaced_as_in_any_text():
    async with open_service(waiter()) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        odd = Attachment(name="a\ud83d.png", media_type="image/png", content=b"x")
        conversation.prompt("look", attachments=[odd])
        events = await stream.until("agent_start")
        assert data_of(events[0])["attachments"][0]["name"] == "a\ufffd.png"
        stream.close()


# -- how much ----------------------------------------------------------------------------------


async def test_what_one_prompt_brings_is_bounded_and_ends_no_session():
    async with open_service(waiter()) as service:
        conversation = await open_session(service)
        with pytest.raises(InvalidArgument, match="attachments must be at most"):
            conversation.prompt("look", attachments=[of_size(MAX_PROMPT_BYTES), of_size(1)])
        conversation.prompt("look", attachments=[of_size(MAX_PROMPT_BYTES)])


async def test_what_a_tenants_prompts_hold_is_bounded_and_another_tenants_are_not_counted():
    async with open_service(waiter(), max_attachment_bytes=1000) as service:
        first, second = await open_session(service), await open_session(service)
        other = await open_session(service, tenant="umbrella", key="key-2")
        first.prompt("look", attachments=[of_size(600)])
        with pytest.raises(AttachmentsFull, match="1000 bytes"):
            second.prompt("look", attachments=[of_size(401)])
        second.prompt("look", attachments=[of_size(400)])
        other.prompt("look", attachments=[of_size(1000)])
        first.prompt("with nothing there is always room")


@pytest.mark.parametrize("end", ["abort", "delete", "end", "queue full"])
async def test_the_room_is_given_back_however_a_prompt_ends(end, caplog):
    caplog.set_level(logging.CRITICAL)

    async def quick(turn):
        yield "done"

    made = waiter() if end != "end" else scripted(quick, attachments=("image/*",))
    async with open_service(made, max_queued_prompts=1) as service:
        conversation = await open_session(service)
        conversation.prompt("one", attachments=[PICTURE])
        conversation.prompt("two", attachments=[PICTURE])
        if end == "queue full":
            stream = Stream(conversation)
            await stream.until("message_delta")
            stream.close()
            with pytest.raises(PromptQueueFull):
                conversation.prompt("three", attachments=[PICTURE])
        assert service.attachments.held("acme") == 2 * PICTURE.size
        if end == "abort":
            conversation.abort()
            await soon(lambda: service.attachments.held("acme") == PICTURE.size)
            conversation.abort()
        elif end in ("delete", "queue full"):
            await service.tenant("acme", "key-1").delete(conversation.session_id)
        await soon(lambda: service.attachments.held("acme") == 0)


def test_a_blueprint_says_which_it_takes():
    assert blueprint("b", attachments=("image/*",))(waiting).attachments == ("image/*",)
    assert blueprint("b")(waiting).attachments == ()
