"""Callback tools of a conversation: attached, called, refused."""

import pytest

from frontdesk.agents.errors import (
    ToolFailed,
    UnknownTool,
)
from frontdesk.sessions.errors import (
    ToolRefused,
)
from support.sessions import (
    RecordingToolCaller,
    Stream,
    callback_tool,
    data_of,
    names,
    open_service,
    open_session,
    parrot,
    scripted,
    text,
)

pytestmark = pytest.mark.anyio


async def test_a_callback_tool_runs_between_its_two_events_and_for_its_own_session():
    async def script(turn):
        assert [spec.name for spec in turn.tools] == ["look"]
        assert not hasattr(turn.tools[0], "callback_url")
        result = await turn.call_tool("look", {"at": 1})
        yield str(result)

    caller = RecordingToolCaller()
    async with open_service(scripted(script), call_tool=caller) as service:
        conversation = await open_session(service)
        conversation.attach_tool(callback_tool(description="look at it"))
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_end")
        stream.close()
        assert names(stream.events)[0] == "tool_attached"
        began = data_of(stream.events[3])
        ended = data_of(stream.events[4])
        assert (began["toolName"], began["args"]) == ("look", {"at": 1})
        assert (ended["status"], ended["result"]) == ("ok", {"echo": {"at": 1}})
        assert ended["callId"] == began["callId"]
        assert caller.calls == [("look", {"at": 1}, conversation.session_id, "key-1")]


async def test_a_callback_tool_that_fails_is_told_to_the_agent():
    async def script(turn):
        try:
            await turn.call_tool("look", "fail")
        except ToolFailed as error:
            yield error.problem

    async with open_service(scripted(script), call_tool=RecordingToolCaller()) as service:
        conversation = await open_session(service)
        conversation.attach_tool(callback_tool())
        stream = Stream(conversation)
        conversation.prompt("go")
        came = await stream.until("agent_end")
        stream.close()
        assert text(came) == "it broke"
        assert data_of(came[4])["status"] == "error"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "x" * 65},
        {"name": "1st"},
        {"description": "x" * 5000},
        {"parameters": {"type": "array"}},
        {"parameters": {"x": "y" * 100_000}},
        {"timeout_ms": 0},
    ],
    ids=str,
)
async def test_a_tool_that_cannot_be_is_refused(wrong):
    async with open_service(parrot, call_tool=RecordingToolCaller()) as service:
        conversation = await open_session(service)
        with pytest.raises(ToolRefused):
            conversation.attach_tool(callback_tool(**wrong))
        assert conversation.parts.tools.specs() == ()


async def test_a_tool_attached_twice_is_refused_and_one_detached_can_come_again():
    async with open_service(parrot, call_tool=RecordingToolCaller(), max_tools=2) as service:
        conversation = await open_session(service)
        conversation.attach_tool(callback_tool())
        with pytest.raises(ToolRefused):
            conversation.attach_tool(callback_tool())
        conversation.detach_tool("look")
        with pytest.raises(UnknownTool):
            conversation.detach_tool("look")
        conversation.attach_tool(callback_tool())
        conversation.attach_tool(callback_tool("second"))
        with pytest.raises(ToolRefused):
            conversation.attach_tool(callback_tool("third"))


async def test_a_service_that_calls_no_tools_attaches_none():
    async with open_service(parrot) as service:
        conversation = await open_session(service)
        with pytest.raises(ToolRefused):
            conversation.attach_tool(callback_tool())
