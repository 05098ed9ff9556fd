"""What is special about agents on the OpenAI Agents SDK, beside the suite of all frameworks."""

import asyncio
import contextlib
import json
import os
import sys
import types
from itertools import count

import pytest

from frontdesk.agents import CreateFailed, EndSession, ModelRefused, SessionContext
from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.task import TaskAgentFactory
from frontdesk.errors import InvalidType
from support.openai_server import OpenAIServer, chunk
from support.sessions import (
    RecordingToolCaller,
    Stream,
    callback_tool,
    data_of,
    names,
    open_service,
    open_session,
    stats_of,
    text,
)

if os.environ.get("TESTED_FRAMEWORKS") != "all":
    pytest.importorskip("agents.tracing")  # `agents` alone is a folder of the tests as well

import agents
from agents import Agent, OpenAIChatCompletionsModel, RunContextWrapper, function_tool
from openai import AsyncOpenAI

from frontdesk.agents.openai_agents import OpenAIAgentsProgram

pytestmark = pytest.mark.anyio

_ids = count()
ENDS = ("agent_end", "agent_abort")


def call(name, /, **arguments):
    """Return the delta in which a model calls one tool, as a provider does: each has its own id."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    each = {"index": 0, "id": f"call_{next(_ids)}", "type": "function", "function": function}
    return {"tool_calls": [each]}


async def by_prompt(body):
    """Call the tool that the last message begins with; tell what a tool said."""
    last = body["messages"][-1]
    word, _, rest = str(last["content"]).partition(" ")
    if last["role"] == "tool":
        yield f"It said {last['content']}"
    elif word.startswith("call:"):
        yield call(word.removeprefix("call:"), **json.loads(rest or "{}"))
    else:
        yield f"{body['model']} heard "
        yield str(last["content"])


class Desk:
    """A service with one agent, its model's server, one open session and its stream."""

    def __init__(self, service, server, program):
        self.service, self.server, self.program = service, server, program
        self.caller = RecordingToolCaller()

    async def open(self, **order):
        self.session = await open_session(self.service, **{"model": "default", **order})
        self.stream = Stream(self.session)
        return self

    async def turn(self, prompt, *until):
        self.session.prompt(prompt)
        return await self.stream.until(*(until or ENDS))

    @property
    def last_request(self):
        return self.server.requests[-1]["body"]

    def last_messages(self):
        return [(each["role"], each.get("content")) for each in self.last_request["messages"]]


@contextlib.asynccontextmanager
async def desk(make_agent, monkeypatch, *, script=by_prompt, session=None, **options):
    async with OpenAIServer(script) as server:
        client = AsyncOpenAI(base_url=server.base_url, api_key="sk-x", max_retries=0)
        module = types.ModuleType("an_operator")
        module.agent = make_agent(OpenAIChatCompletionsModel("small", client))
        module.context = lambda turn: {"tenant": turn.session.tenant_id}
        monkeypatch.setitem(sys.modules, "an_operator", module)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        agents.set_default_openai_api("chat_completions")
        program = OpenAIAgentsProgram("an_operator:agent", **options)
        made = Blueprint(name="served", kind="openai-agents", factory=TaskAgentFactory(program))
        caller = RecordingToolCaller()
        async with open_service(made, call_tool=caller) as service:
            opened = Desk(service, server, program)
            opened.caller = caller
            await opened.open(**(session or {}))
            yield opened
            opened.stream.close()
        await client.close()


def agent(*tools, **rest):
    return lambda model: Agent("triage", model=model, instructions="Be.", tools=[*tools], **rest)


@function_tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@function_tool(needs_approval=True)
async def delete(name: str) -> str:
    """Delete something."""
    return f"{name} is gone"


async def test_a_handoff_is_a_tool_that_returns_its_agent_who_answers_the_next_turn_too(
    monkeypatch,
):
    def triage(model):
        billing = Agent("billing", model=model, instructions="Bill.")
        return Agent("triage", model=model, instructions="Be.", handoffs=[billing])

    async with desk(triage, monkeypatch) as it:
        events = await it.turn("call:transfer_to_billing")
        end = next(each for each in events if each.name == "tool_execution_end")
        assert data_of(end)["toolName"] == "transfer_to_billing"
        assert data_of(end)["result"] == {"agent": "billing"}
        await it.turn("hello")
        assert it.last_messages()[0] == ("system", "Bill.")


async def test_callback_tools_follow_a_handoff_and_come_and_go_between_calls(monkeypatch):
    @function_tool
    async def detach() -> str:
        """Take the client's tool away in the middle of the turn."""
        opened.session.detach_tool("look")
        return "done"

    def triage(model):
        billing = Agent("billing", model=model, instructions="Bill.", tools=[detach])
        return Agent("triage", model=model, instructions="Be.", handoffs=[billing])

    async with desk(triage, monkeypatch) as opened:
        opened.session.attach_tool(callback_tool("look"))
        await opened.turn("call:transfer_to_billing")
        events = await opened.turn('call:look {"at": "it"}')
        assert opened.caller.calls[0][:2] == ("look", {"at": "it"})
        assert text(events) == 'It said {"echo":{"at":"it"}}'
        assert names(events).count("tool_execution_start") == 1
        await opened.turn("call:detach")
        offered = [tool["function"]["name"] for tool in opened.last_request["tools"]]
        assert offered == ["detach"]


async def test_two_sessions_of_one_agent_have_their_own_callback_tools(monkeypatch):
    async with desk(agent(add), monkeypatch) as one:
        one.session.attach_tool(callback_tool("look"))
        other = await Desk(one.service, one.server, one.program).open()
        await other.turn("hello")
        assert [tool["function"]["name"] for tool in other.last_request["tools"]] == ["add"]
        await one.turn("hello")
        assert len(one.last_request["tools"]) == 2
        other.stream.close()


async def test_steering_enters_the_next_model_call_and_stays_where_it_came_in(monkeypatch):
    @function_tool
    async def steered() -> str:
        """Be steered meanwhile."""
        it.session.steer("be brief")
        return "done"

    async def script(body):
        last = body["messages"][-1]
        if last["content"] == "go":
            yield call("steered")
        elif last["content"] == "be brief":
            yield call("add", a=1, b=2)
        else:
            yield "ok"

    async with desk(agent(steered, add), monkeypatch, script=script) as it:
        await it.turn("go")
        roles = [role for role, _ in it.last_messages()]
        assert roles == ["system", "user", "assistant", "tool", "user", "assistant", "tool"]
        await it.turn("hello")
        assert [role for role, _ in it.last_messages()][1:] == [*roles[1:], "assistant", "user"]


async def test_a_model_that_is_switched_in_a_turn_answers_its_next_call(monkeypatch):
    @function_tool
    async def switch() -> str:
        """Have the model switched meanwhile."""
        it.session.switch_model("other")
        return "done"

    async with desk(agent(switch), monkeypatch) as it:
        await it.turn("call:switch")
        assert [each["body"]["model"] for each in it.server.requests] == ["small", "other"]
        assert it.last_messages()[-1] == ("tool", "done")
        await it.turn("hello")
        assert it.last_messages()[-2:] == [("assistant", "It said done"), ("user", "hello")]


async def test_a_model_that_is_switched_by_the_last_tool_of_a_turn_answers_the_next(monkeypatch):
    @function_tool
    async def switch() -> str:
        """Have the model switched meanwhile."""
        it.session.switch_model("other")
        return "done"

    last = {"tool_use_behavior": "stop_on_first_tool"}
    async with desk(agent(switch, **last), monkeypatch) as it:
        events = await it.turn("call:switch")
        assert (events[-1].name, text(events)) == ("agent_end", "done")
        assert len(it.server.requests) == 1
        assert text(await it.turn("hello")) == "other heard hello"


async def test_a_prompt_of_the_clients_stands_behind_the_agents_own_instructions(monkeypatch):
    session = {"system_prompt": "Speak French.", "max_tokens": 7}
    async with desk(agent(), monkeypatch, session=session) as it:
        await it.turn("hello")
        assert it.last_messages()[0] == ("system", "Be.\n\nSpeak French.")
        assert it.last_request["max_tokens"] == 7


async def test_tools_see_the_turn_or_what_the_operator_makes_of_it(monkeypatch):
    @function_tool
    async def see(wrapper: RunContextWrapper) -> str:
        """Tell what the context is."""
        return str(wrapper.context)

    async with desk(agent(see), monkeypatch) as it:
        assert "<Turn req_" in text(await it.turn("call:see"))
    async with desk(agent(see), monkeypatch, context="an_operator:context") as it:
        assert "{'tenant': 'acme'}" in text(await it.turn("call:see"))


async def test_what_a_cut_turn_did_is_in_the_next_request(monkeypatch):
    parked = asyncio.Event()

    @function_tool
    async def hang() -> str:
        """Never return."""
        parked.set()
        await asyncio.Event().wait()

    async def script(body):
        last = body["messages"][-1]
        if last["content"] == "go":
            yield call("add", a=1, b=2)
        elif last["role"] == "tool":
            yield call("hang")
        else:
            yield "ok"

    async with desk(agent(add, hang), monkeypatch, script=script) as it:
        it.session.prompt("go")
        await asyncio.wait_for(parked.wait(), 20)
        it.session.abort()
        await it.stream.until("agent_abort")
        await it.turn("hello")
        cut_off = "The call was cut off. Whether it took effect is not known."
        assert it.last_messages()[1:] == [
            ("user", "go"),
            ("assistant", None),
            ("tool", "3"),
            ("assistant", None),
            ("tool", cut_off),
            ("user", "hello"),
        ]


async def test_usage_that_a_server_does_not_tell_or_that_was_cut_off_is_unknown(monkeypatch):
    class Silent(OpenAIServer):
        def _finish(self, writer):
            self._send(writer, chunk({}, finish_reason="stop"))
            writer.write(b"data: [DONE]\n\n")

    async def script(body):
        yield "begun"
        if body["messages"][-1]["content"] == "hang":
            await asyncio.Event().wait()

    monkeypatch.setattr(sys.modules[__name__], "OpenAIServer", Silent)
    async with desk(agent(), monkeypatch, script=script) as it:
        assert data_of((await it.turn("hello"))[-1])["tokenUsage"] is None
        await it.turn("hang", "message_delta")
        it.session.abort()
        await it.stream.until("agent_abort")
        assert stats_of(it.session)["tokenUsage"]["unknownTurns"] == 2


async def test_a_tool_may_end_its_session(monkeypatch):
    @function_tool
    async def leave() -> str:
        """End the session."""
        raise EndSession

    async with desk(agent(leave), monkeypatch) as it:
        assert names(await it.turn("call:leave", "session_end"))[-2:] == [
            "agent_end",
            "session_end",
        ]
        assert len(it.server.requests) == 1


async def test_thoughts_are_told_apart_from_text(monkeypatch):
    async def script(body):
        yield {"reasoning_content": "hm"}
        yield "so"

    async with desk(agent(), monkeypatch, script=script) as it:
        events = await it.turn("hello")
        thoughts = [data_of(each)["delta"] for each in events if each.name == "thinking_delta"]
        assert (thoughts, text(events)) == (["hm"], "so")


async def test_a_turn_that_is_cut_while_an_approval_waits_leaves_a_call_that_was_cut_off(
    monkeypatch,
):
    async with desk(agent(delete), monkeypatch) as it:
        await it.turn('call:delete {"name": "x"}', "approval_required")
        it.session.abort()
        await it.stream.until("agent_abort")
        assert text(await it.turn("hello")) == "small heard hello"
        roles = [role for role, _ in it.last_messages()]
        assert roles == ["system", "user", "assistant", "tool", "user"]
        assert it.last_messages()[3][1].startswith("The call was cut off.")


async def test_an_approval_of_a_nested_agents_tool_is_asked_for(monkeypatch):
    def boss(model):
        worker = Agent("worker", model=model, instructions="Work.", tools=[delete])
        tool = worker.as_tool("work", "Let the worker work.", on_stream=lambda event: None)
        return Agent("boss", model=model, instructions="Be.", tools=[tool])

    async def script(body):
        first, last = body["messages"][0], body["messages"][-1]
        if last["role"] == "tool":
            yield f"done: {last['content']}"
        elif first["content"] == "Work.":  # and nothing of the client's
            yield call("delete", name="x")
        else:
            yield call("work", input="go")

    session = {"system_prompt": "Speak French."}
    async with desk(boss, monkeypatch, script=script, session=session) as it:
        asked = data_of((await it.turn("go", "approval_required"))[-1])
        assert (asked["toolName"], asked["args"]) == ("delete", {"name": "x"})
        it.session.approve(asked["approvalId"])
        assert "x is gone" in text(await it.stream.until(*ENDS))


async def test_nothing_is_traced_unless_the_operator_says_so(monkeypatch):
    traces = []

    class Recorder(agents.TracingProcessor):
        def on_trace_start(self, trace):
            traces.append(trace.name)

        def on_trace_end(self, trace):
            pass

        def on_span_start(self, span):
            traces.append(span.span_data.type)

        def on_span_end(self, span):
            pass

        def shutdown(self):
            pass

        def force_flush(self):
            pass

    agents.set_trace_processors([Recorder()])

    def boss(model):
        tool = Agent("worker", model=model).as_tool("work", "Let the worker work.")
        return Agent("boss", model=model, tools=[tool])

    try:
        async with desk(boss, monkeypatch) as it:
            await it.turn('call:work {"input": "hello"}')
            assert not traces
        async with desk(boss, monkeypatch, tracing=True) as it:
            await it.turn("hello")
            assert "Agent workflow" in traces
    finally:
        agents.set_trace_processors([])


async def test_a_turn_has_as_many_model_calls_as_its_session_allows(monkeypatch):
    async def script(body):
        yield call("add", a=1, b=2)

    async with desk(agent(add), monkeypatch, script=script, session={"max_turns": 2}) as it:
        events = await it.turn("go")
        assert [data_of(each)["reason"] for each in events[-2:]] == ["TooManyModelCalls", "error"]
        assert len(it.server.requests) == 2


async def test_a_function_of_the_session_makes_its_agent(monkeypatch):
    def make(model):
        return lambda session: Agent(f"for {session.tenant_id}", model=model, instructions="Be.")

    async with desk(make, monkeypatch) as it:
        assert text(await it.turn("hello")) == "small heard hello"


def test_a_target_that_is_no_agent_is_refused(monkeypatch):
    module = types.ModuleType("an_operator")
    module.number, module.wrong = 7, lambda session: 7
    module.broken = lambda session: 1 / 0

    def choosy(session):
        raise CreateFailed("only on Sundays")

    module.choosy = choosy
    monkeypatch.setitem(sys.modules, "an_operator", module)
    with pytest.raises(InvalidType, match=r"an agents\.Agent"):
        OpenAIAgentsProgram("an_operator:number")
    context = SessionContext(session_id="s", tenant_id="t", blueprint="b", model="default")
    with pytest.raises(CreateFailed, match="ZeroDivisionError"):
        OpenAIAgentsProgram("an_operator:broken").open(context)
    with pytest.raises(CreateFailed, match="only on Sundays"):
        OpenAIAgentsProgram("an_operator:choosy").open(context)
    with pytest.raises(InvalidType, match=r"an agents\.Agent"):
        OpenAIAgentsProgram("an_operator:wrong").open(context)


@pytest.mark.parametrize(
    ("model", "problem"),
    [("nobody/any", "no provider knows it"), ("default", "OPENAI_API_KEY")],
)
def test_a_model_that_cannot_be_called_is_refused_at_once(model, problem, monkeypatch):
    module = types.ModuleType("an_operator")
    module.agent = Agent("plain")
    monkeypatch.setitem(sys.modules, "an_operator", module)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    program = OpenAIAgentsProgram("an_operator:agent")
    context = SessionContext(session_id="s", tenant_id="t", blueprint="b", model=model)
    with pytest.raises(ModelRefused, match=problem):
        program.check(context)
