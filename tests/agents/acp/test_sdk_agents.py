"""Agents on the protocol's official Python SDK, unmodified: most of those in Python are."""

import sys

import pytest

import support.programs.sdk_agent
from support.acp import open_acp_session, turn_of
from support.sessions import Stream, data_of, names, text

pytestmark = pytest.mark.anyio

SDK_AGENT = (sys.executable, support.programs.sdk_agent.__file__)


async def test_an_agent_on_the_official_python_sdk_opens_and_answers():
    async with open_acp_session(SDK_AGENT) as conversation:
        assert text(await turn_of(conversation, "hello")) == "hello"
        large = "x" * 1_000_000
        assert text(await turn_of(conversation, large)) == large


async def test_an_agent_on_the_official_python_sdk_asks_and_goes_on():
    async with open_acp_session(SDK_AGENT) as conversation:
        stream = Stream(conversation)
        conversation.prompt("write")
        asked = data_of((await stream.until("approval_required"))[-1])
        conversation.approve(asked["approvalId"])
        events = await stream.until("agent_end")
        stream.close()
        assert data_of(events[-2])["status"] == "ok"


async def test_an_agent_on_the_official_python_sdk_is_cancelled_and_asked_again():
    async with open_acp_session(SDK_AGENT, service={"abort_grace_s": 20}) as conversation:
        stream = Stream(conversation)
        conversation.prompt("dawdle")
        await stream.until("message_delta")
        conversation.abort("enough")
        assert names(await stream.until("agent_abort"))[-1] == "agent_abort"
        stream.close()
        assert text(await turn_of(conversation, "hello")) == "hello"


async def test_an_agent_on_the_official_python_sdk_leaves_when_its_input_ends(caplog):
    caplog.set_level("INFO")
    async with open_acp_session(SDK_AGENT, service={"end_grace_s": 20.0}) as conversation:
        await turn_of(conversation, "hello")
    assert "Traceback" not in caplog.text
