"""What comes with a prompt reaches an ACP agent that has announced it, and no other."""

import os
import sys

import pytest

import support.programs.sdk_agent
from frontdesk.agents import Attachment
from frontdesk.agents.acp.prompt_blocks import ATTACHMENTS
from frontdesk.agents.attachments import matches
from frontdesk.sessions.errors import AttachmentRefused
from support.acp import open_acp_session
from support.programs.sdk_agent import digest
from support.sessions import Stream, text

pytestmark = pytest.mark.anyio

PICTURE = Attachment(name="a b.png", media_type="image/png", content=os.urandom(3_000_000))
SOUND = Attachment(name="s.wav", media_type="audio/wav", content=b"\0\1")
NOTES = Attachment(name="n.txt", media_type="text/plain", content="Gr\u00fc\u00dfe".encode())
BROKEN = Attachment(name="b.txt", media_type="text/plain", content=b"\xff")
PAPER = Attachment(name="p.pdf", media_type="application/pdf", content=b"%PDF")


def agent(*capabilities):
    return (sys.executable, support.programs.sdk_agent.__file__, *capabilities)


async def said(conversation, prompt, *attachments):
    stream = Stream(conversation, since=None, from_now=True)
    conversation.prompt(prompt, attachments=attachments)
    events = await stream.until("agent_end", "agent_abort")
    stream.close()
    return text(events)


async def test_an_agent_on_the_official_sdk_gets_what_it_has_announced():
    everything = agent("image", "audio", "embedded_context")
    async with open_acp_session(everything, attachments=("*/*",)) as conversation:
        assert await said(conversation, "look", PICTURE, SOUND, NOTES, BROKEN, PAPER) == (
            f"look|image image/png {digest(PICTURE.content)}"
            f"|audio audio/wav {digest(SOUND.content)}"
            f"|TextResourceContents attachment:///n.txt {digest(NOTES.content)}"
            f"|BlobResourceContents attachment:///b.txt {digest(BROKEN.content)}"
            f"|BlobResourceContents attachment:///p.pdf {digest(PAPER.content)}"
        )
        # The next prompt has its own, and none of those.
        assert await said(conversation, "again") == "again"


@pytest.mark.parametrize(
    ("announced", "refused"),
    [
        ((), (PICTURE, SOUND, NOTES)),
        (("image",), (SOUND, NOTES)),
        (("embedded_context",), (PICTURE, SOUND, PAPER)),
    ],
)
async def test_what_an_agent_has_not_announced_is_refused_by_name(announced, refused):
    async with open_acp_session(agent(*announced)) as conversation:
        for each in (PICTURE, SOUND, NOTES, PAPER):
            if each in refused or not matches(each.media_type, ATTACHMENTS):
                with pytest.raises(AttachmentRefused, match=each.media_type):
                    conversation.prompt("look", attachments=[each])
            else:
                assert "|" in await said(conversation, "look", each)
        assert await said(conversation, "hello") == "hello"


async def test_what_came_with_a_turn_that_was_cut_is_not_sent_again():
    settings = {"abort_grace_s": 20}
    async with open_acp_session(agent("image"), service=settings) as conversation:
        stream = Stream(conversation)
        conversation.prompt("dawdle")
        await stream.until("message_delta")
        conversation.prompt("look", attachments=[PICTURE])
        conversation.abort("enough")
        events = await stream.until("agent_end")
        assert f"look|image image/png {digest(PICTURE.content)}" in text(events)
        stream.close()
        assert await said(conversation, "hello") == "hello"
