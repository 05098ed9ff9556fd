"""Tools of agents on Pydantic AI: their events, approvals, questions, plugins and callbacks."""

import asyncio
import threading

import pytest

from support.sessions import Stream, data_of, names, open_service, open_session, text

pytest.importorskip("pydantic_ai")

from pydantic_ai import Tool
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred
from pydantic_ai.models.function import DeltaToolCall, FunctionModel
from pydantic_ai.toolsets import FunctionToolset

from frontdesk.agents import CallbackTool
from frontdesk.agents.errors import ToolFailed
from frontdesk.agents.pydantic_ai import PydanticAIProgram, pydantic_ai_blueprint
from frontdesk.agents.pydantic_ai.session import THREADS_PER_SESSION
from support.pydantic_models import assistant, calls_once, one_turn, returns

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_keys")]


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def test_a_tool_runs_between_its_events():
    program = PydanticAIProgram(
        tools=[add],
        named={"fn": FunctionModel(stream_function=calls_once("add", '{"a": 2, "b": 3}'))},
    )
    events = await one_turn(pydantic_ai_blueprint(program=program), order={"tools": ("add",)})
    assert names(events)[2:] == [
        "tool_calls",
        "tool_execution_start",
        "tool_execution_end",
        "message_start",
        "message_delta",
        "agent_end",
    ]
    assert data_of(events[2])["count"] == 1
    assert data_of(events[3])["args"] == {"a": 2, "b": 3}
    assert (data_of(events[4])["status"], data_of(events[4])["result"]) == ("ok", 5)
    assert text(events) == "got 5"


@pytest.mark.parametrize(
    ("chosen", "seen"),
    [((), ["add", "twice"]), (("twice",), ["twice"]), (("ask_user",), ["ask_user"])],
    ids=["none", "one", "ask_user"],
)
async def test_the_operators_tools_are_on_and_a_clients_list_narrows_them(chosen, seen):
    offered = []

    async def twice(a: int) -> int:
        return 2 * a

    async def model(messages, info):
        offered.extend(tool.name for tool in info.function_tools)
        yield "ok"

    program = PydanticAIProgram(
        tools=[add, twice], named={"fn": FunctionModel(stream_function=model)}
    )
    await one_turn(pydantic_ai_blueprint(program=program), order={"tools": chosen})
    assert sorted(offered) == seen


async def test_a_tool_that_raises_ends_the_turn_with_its_events():
    async def broken() -> str:
        raise ValueError("secret")

    program = PydanticAIProgram(
        tools=[broken], named={"fn": FunctionModel(stream_function=calls_once("broken"))}
    )
    events = await one_turn(pydantic_ai_blueprint(program=program), order={"tools": ("broken",)})
    assert names(events)[-3:] == ["tool_execution_end", "error", "agent_abort"]
    assert data_of(events[-3])["status"] == "error"
    assert data_of(events[-2])["reason"] == "ValueError"


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (ApprovalRequired(), "cancelled"),
        (CallDeferred(), "cancelled"),
        (ToolFailed("inner", problem="no"), "error"),
    ],
    ids=["ApprovalRequired", "CallDeferred", "ToolFailed"],
)
async def test_a_tool_that_breaks_off_ends_with_a_status_that_clients_know(raised, status):
    async def odd() -> str:
        raise raised

    async def approve(conversation, stream):
        if isinstance(raised, ApprovalRequired):
            event = (await stream.until("approval_required"))[-1]
            conversation.reject(data_of(event)["approvalId"])
        elif isinstance(raised, CallDeferred):
            event = (await stream.until("ask_user"))[-1]
            conversation.respond(data_of(event)["ref"], "an answer")

    program = PydanticAIProgram(
        tools=[odd], named={"fn": FunctionModel(stream_function=calls_once("odd"))}
    )
    events = await one_turn(
        pydantic_ai_blueprint(program=program), order={"tools": ("odd",)}, during=approve
    )
    ends = [data_of(event) for event in events if event.name == "tool_execution_end"]
    assert [end["status"] for end in ends] == [status]


def dangerous(ran):
    async def danger(path: str) -> str:
        ran.append(path)
        return "done"

    return PydanticAIProgram(
        tools=[Tool(danger, requires_approval=True)],
        named={"fn": FunctionModel(stream_function=calls_once("danger", '{"path": "/"}'))},
    )


@pytest.mark.parametrize("verb", ["approve", "reject"])
async def test_a_tool_that_needs_approval_does_not_run_before_it_is_approved(verb):
    ran = []

    async def during(conversation, stream):
        (*_, required) = await stream.until("approval_required")
        assert (data_of(required)["toolName"], data_of(required)["args"]) == (
            "danger",
            {"path": "/"},
        )
        assert not ran
        getattr(conversation, verb)(data_of(required)["approvalId"], "because")

    events = await one_turn(
        pydantic_ai_blueprint(program=dangerous(ran)),
        during=during,
        order={"tools": ("danger",)},
    )
    assert names(events)[-1] == "agent_end"
    assert ran == (["/"] if verb == "approve" else [])
    assert ("tool_execution_start" in names(events)) == (verb == "approve")
    assert "because" in text(events) or verb == "approve"


async def test_an_approval_that_expires_is_told_to_the_model_and_the_turn_goes_on():
    ran = []
    events = await one_turn(
        pydantic_ai_blueprint(program=dangerous(ran)),
        order={"tools": ("danger",)},
        approval_timeout_s=0.02,
    )
    assert "expired" in text(events)
    assert not ran


async def test_the_model_can_ask_the_user():
    async def during(conversation, stream):
        (*_, asked) = await stream.until("ask_user")
        assert data_of(asked)["question"] == "which?"
        conversation.respond(data_of(asked)["ref"], "the left one")

    events = await one_turn(
        assistant(fn=calls_once("ask_user", '{"question": "which?"}')),
        during=during,
        order={"tools": ("ask_user",)},
    )
    assert text(events) == "got the left one"


async def test_a_plugin_is_a_toolset_of_the_operators_that_a_client_may_choose():
    program = PydanticAIProgram(
        plugins={"math": FunctionToolset([add])},
        named={"fn": FunctionModel(stream_function=calls_once("add", '{"a": 1, "b": 1}'))},
    )
    events = await one_turn(pydantic_ai_blueprint(program=program), order={"plugins": ("math",)})
    assert text(events) == "got 2"


class Caller:
    def __init__(self):
        self.calls = []

    async def call(self, tool, *, call_id, args, session_id, tenant_id, api_key):
        self.calls.append((tool.name, args))
        if args.get("fail"):
            raise ToolFailed(tool.name, problem="the server said no")
        return "sunny"


WEATHER = CallbackTool(
    name="weather",
    callback_url="https://tools.example/",
    description="The weather somewhere",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}},
)


async def weather_turn(model, caller):
    async with open_service(assistant(fn=model), call_tool=caller) as service:
        conversation = await open_session(service, model="fn")
        conversation.attach_tool(WEATHER)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_end")
        stream.close()
        return stream.events


async def test_a_callback_tool_of_the_session_is_called_for_the_model():
    caller, told = Caller(), []

    async def model(messages, info):
        told.append([(each.name, each.description) for each in info.function_tools])
        async for piece in calls_once("weather", '{"city": "Oslo"}')(messages, info):
            yield piece

    events = await weather_turn(model, caller)
    assert caller.calls == [("weather", {"city": "Oslo"})]
    assert told[0] == [("weather", "The weather somewhere")]
    assert text(events) == "got sunny"
    assert names(events).count("tool_execution_start") == 1


async def test_a_callback_tool_that_fails_is_told_to_the_model():
    events = await weather_turn(calls_once("weather", '{"fail": true}'), Caller())
    assert "the server said no" in text(events)


async def test_model_test_calls_every_callback_tool():
    caller = Caller()
    async with open_service(assistant(), call_tool=caller) as service:
        conversation = await open_session(service, model="test")
        conversation.attach_tool(WEATHER)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_end")
        stream.close()
    assert [name for name, _ in caller.calls] == ["weather"]


async def test_slow_tools_of_one_session_delay_no_other_sessions_tools():
    """Plain functions run in threads; those of the library are forty for everybody."""
    answered, running, most = threading.Event(), [], []

    def slow() -> str:
        running.append(1)
        most.append(len(running))
        assert answered.wait(60)
        running.pop()
        return "at last"

    def quick() -> str:
        return "at once"

    async def many(messages, info):
        if returns(messages):
            yield "done"
        else:
            yield {n: DeltaToolCall("slow", "{}", tool_call_id=f"c{n}") for n in range(60)}

    program = PydanticAIProgram(
        tools=[slow, quick],
        named={
            "many": FunctionModel(stream_function=many),
            "one": FunctionModel(stream_function=calls_once("quick")),
        },
    )
    blueprint = pydantic_ai_blueprint(program=program)
    async with open_service(blueprint) as service:
        busy = await open_session(service, session_id="busy", model="many", tools=("slow",))
        busy.prompt("go")
        other = await open_session(service, session_id="other", model="one", tools=("quick",))
        try:
            while len(running) < THREADS_PER_SESSION:
                await asyncio.sleep(0)
            stream = Stream(other)
            other.prompt("go")
            assert text(await stream.until("agent_end")) == "got at once"
            stream.close()
        finally:
            answered.set()
        stream = Stream(busy)
        assert text(await stream.until("agent_end")) == "done"
        stream.close()
        assert max(most) == THREADS_PER_SESSION
