"""Callback tools of a conversation: attached, called, refused."""

import asyncio

import pytest

from frontdesk.agents.errors import (
    ToolFailed,
    UnknownTool,
)
from frontdesk.sessions.errors import (
    ToolRefused,
)
from support.sessions import (
    BOUND_S,
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
from support.stored_services import on_held_disk

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


async def test_a_callback_tool_is_called_once_its_start_is_committed(tmp_path):
    async def script(turn):
        service.disk.hold()
        yield str(await turn.call_tool("look", {"at": 1}))

    caller = RecordingToolCaller()
    async with on_held_disk(tmp_path, scripted(script), call_tool=caller) as service:
        conversation = await open_session(service)
        conversation.attach_tool(callback_tool())
        stream = Stream(conversation)
        conversation.prompt("go")
        assert await asyncio.to_thread(service.disk.held.wait, BOUND_S)
        called_before = list(caller.calls)
        service.disk.moves.set()
        came = await stream.until("agent_end")
        stream.close()
        assert called_before == []
        assert "tool_execution_start" in names(came)
        assert len(caller.calls) == 1


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


def nested(depth):
    schema = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


HUNDREDS = {"type": "array", "minItems": 100, "items": {"type": "string"}}

LARGE = {
    "a long text": {"properties": {"a": {"minLength": 150_000_000}}},
    "a long text as a float": {"properties": {"a": {"minLength": 1.5e8}}},
    "more than any number": {"properties": {"a": {"minLength": float("inf")}}},
    "many items": {"properties": {"a": {"type": "array", "minItems": 10_000_000}}},
    "items of items": {
        "properties": {"a": {"minItems": 100, "items": {"minItems": 100, "items": HUNDREDS}}}
    },
    "many properties": {"minProperties": 1_000_000, "additionalProperties": {"type": "string"}},
    "behind a reference": {
        "properties": {"a": {"$ref": "#/$defs/b"}},
        "$defs": {"b": {"minLength": 10_000_000}},
    },
    "references that double": {
        "properties": {"a": {"$ref": "#/$defs/p0"}},
        "$defs": {
            **{
                f"p{n}": {"properties": {x: {"$ref": f"#/$defs/p{n + 1}"} for x in "ab"}}
                for n in range(60)
            },
            "p60": {"type": "string"},
        },
    },
    "an alternative": {"properties": {"a": {"anyOf": [{}, {"minLength": 10_000_000}]}}},
    "one of all": {"allOf": [{"properties": {"a": {"minLength": 10_000_000}}}]},
    "a prefix": {"properties": {"a": {"prefixItems": [{"minLength": 10_000_000}]}}},
}


@pytest.mark.parametrize("parameters", LARGE.values(), ids=LARGE)
async def test_a_tool_whose_smallest_arguments_are_huge_is_refused(parameters):
    async with open_service(parrot, call_tool=RecordingToolCaller()) as service:
        conversation = await open_session(service)
        with pytest.raises(ToolRefused, match="needs arguments of more than"):
            conversation.attach_tool(callback_tool(parameters={"type": "object", **parameters}))


@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": {"a": {"minLength": 10_000}, "b": HUNDREDS}},
        {
            "properties": {
                "a": {"minLength": -1},
                "b": {"minLength": "many"},
                "c": {"minItems": True},
            }
        },
        {"properties": {"a": {"$ref": "#"}}},
        {"properties": {"a": {"$ref": "#/nowhere"}, "b": {"$ref": 7}}},
        {"properties": {"a": {"minLength": float("nan")}}, "anyOf": "x", "items": 3},
        nested(50),
    ],
)
async def test_a_tool_whose_schema_is_odd_or_of_a_usual_size_is_taken(parameters):
    async with open_service(parrot, call_tool=RecordingToolCaller()) as service:
        conversation = await open_session(service)
        conversation.attach_tool(callback_tool(parameters={"type": "object", **parameters}))


async def test_a_tool_whose_schema_is_nested_without_end_is_refused():
    async with open_service(parrot, call_tool=RecordingToolCaller()) as service:
        conversation = await open_session(service)
        with pytest.raises(ToolRefused):
            conversation.attach_tool(callback_tool(parameters=nested(5000)))
