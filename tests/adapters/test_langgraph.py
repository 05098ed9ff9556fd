"""What is LangGraph's own of agents on LangGraph, beside the suite of all adapters."""

import asyncio
from dataclasses import dataclass
from typing import Any, TypedDict

import pytest

pytest.importorskip("langgraph")

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from pydantic import BaseModel

from adapters.graphs import ScriptedModel, agent, calls, has_result, said, used
from docs.pages import page
from frontdesk.agents import CreateFailed, EndSession
from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.langgraph import LangGraphProgram
from frontdesk.agents.langgraph.memory import SessionSaver
from frontdesk.agents.task import TaskAgentFactory
from frontdesk.errors import InvalidArgument, InvalidType
from support.sessions import (
    RecordingToolCaller,
    Stream,
    callback_tool,
    data_of,
    names,
    open_service,
    open_session,
    text,
)

pytestmark = pytest.mark.anyio


def blueprint_of(target, **options):
    program = LangGraphProgram(target, **options)
    return Blueprint(name="graph", kind="langgraph", factory=TaskAgentFactory(program))


async def turns(blueprint, *prompts, during=None, **order):
    async with open_service(blueprint) as service:
        conversation = await open_session(service, **{"model": "default", **order})
        stream = Stream(conversation)
        for prompt in prompts:
            conversation.prompt(prompt)
            if during is not None:
                await during(conversation, stream)
            await stream.until("agent_end", "agent_abort")
        stream.close()
        return stream.events


def only(events, name):
    return [data_of(event) for event in events if event.name == name]


async def test_text_is_streamed_and_usage_is_told():
    async def model(messages):
        yield "hello "
        yield "there"
        yield used(7, 3, cached=2)

    events = await turns(blueprint_of(agent(model)), "hi")
    assert names(events)[2:] == ["message_start", "message_delta", "message_delta", "agent_end"]
    assert text(events) == "hello there"
    assert data_of(events[-1])["tokenUsage"]["promptTokens"] == 7


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def test_tools_are_told_of():
    async def model(messages):
        if has_result(messages):
            yield f"it is {messages[-1].text}"
        else:
            yield calls("add", '{"a": 1, "b": 2}')

    events = await turns(blueprint_of(agent(model, add)), "hi")
    assert names(events)[2:] == [
        "tool_calls",
        "tool_execution_start",
        "tool_execution_end",
        "message_start",
        "message_delta",
        "agent_end",
    ]
    assert data_of(events[3])["args"] == {"a": 1, "b": 2}
    assert data_of(events[4])["result"] == "3"
    assert text(events) == "it is 3"


def risky(what: str) -> str:
    """Do it, if somebody allows it."""
    request = {"action_requests": [{"name": "risky", "args": {"what": what}}]}
    [decision] = interrupt(request)["decisions"]
    return f"{decision['type']} {decision.get('message', '')}"


async def ask_and_do(messages):
    if has_result(messages):
        yield messages[-1].text
    else:
        yield calls("risky", '{"what": "jump"}')


@pytest.mark.parametrize("approved", [True, False])
async def test_an_action_request_is_an_approval(approved):
    async def answer(conversation, stream):
        came = await stream.until("approval_required")
        asked = data_of(came[-1])
        assert (asked["toolName"], asked["args"]) == ("risky", {"what": "jump"})
        if approved:
            conversation.approve(asked["approvalId"])
        else:
            conversation.reject(asked["approvalId"], "too high")

    events = await turns(blueprint_of(agent(ask_and_do, risky)), "hi", during=answer)
    assert names(events).count("tool_execution_start") == 1
    assert names(events).count("tool_execution_end") == 1
    assert text(events).startswith("approve" if approved else "reject")
    assert ("too high" in text(events)) is not approved


async def test_a_graph_remembers_and_an_aborted_turn_is_mended():
    seen = []
    begun, never = asyncio.Event(), asyncio.Event()

    async def wait() -> str:
        """Wait."""
        begun.set()
        await never.wait()

    async def model(messages):
        seen.append(said(messages))
        if messages[-1].text == "wait":
            yield "I wait "
            yield calls("wait")
        else:
            yield "ok"

    async with open_service(blueprint_of(agent(model, wait))) as service:
        conversation = await open_session(service, model="default")
        stream = Stream(conversation)
        conversation.prompt("one")
        await stream.until("agent_end")
        conversation.prompt("wait")
        await begun.wait()
        conversation.abort()
        await stream.until("agent_abort")
        conversation.prompt("two")
        await stream.until("agent_end")
        stream.close()
    assert seen[-1] == [
        ("human", "one"),
        ("ai", "ok"),
        ("human", "wait"),
        ("ai", "I wait "),
        ("tool", "The call was cut off. Whether it took effect is not known."),
        ("human", "two"),
    ]


def hitl_agent(script, *, mode, **allowed):
    model = ScriptedModel(script=script)
    middleware = HumanInTheLoopMiddleware({"risky": allowed}, interrupt_mode=mode)
    return create_agent(model, [plain], middleware=[middleware])


@tool("risky")
def plain(what: str) -> str:
    """Do it."""
    return f"did {what}"


@pytest.mark.parametrize("approved", [True, False])
@pytest.mark.parametrize("mode", ["batched", "per_call"])
async def test_langchains_middleware_asks_for_approval_in_both_of_its_modes(mode, approved):
    async def answer(conversation, stream):
        asked = data_of((await stream.until("approval_required"))[-1])
        assert (asked["toolName"], asked["args"]) == ("risky", {"what": "jump"})
        if approved:
            conversation.approve(asked["approvalId"])
        else:
            conversation.reject(asked["approvalId"], "too high")

    graph = hitl_agent(ask_and_do, mode=mode, allowed_decisions=["approve", "reject"])
    events = await turns(blueprint_of(graph), "hi", during=answer)
    assert ("did jump" in text(events)) is approved
    assert ("too high" in text(events)) is not approved


@pytest.mark.parametrize("mode", ["batched", "per_call"])
async def test_a_call_that_can_only_be_responded_to_is_a_question(mode):
    async def answer(conversation, stream):
        asked = data_of((await stream.until("ask_user"))[-1])
        conversation.respond(asked["ref"], "I did it myself")

    graph = hitl_agent(ask_and_do, mode=mode, allowed_decisions=["respond"])
    assert text(await turns(blueprint_of(graph), "hi", during=answer)) == "I did it myself"


async def test_a_structured_answer_that_was_given_by_a_call_is_the_last_message():
    class City(BaseModel):
        name: str

    async def model(messages):
        yield calls("City", '{"name": "Bern"}')

    graph = create_agent(ScriptedModel(script=model), response_format=ToolStrategy(City))
    assert text(await turns(blueprint_of(graph), "hi")) == '{"name":"Bern"}'


async def test_a_tool_may_end_its_session():
    def leave() -> str:
        """Leave."""
        raise EndSession

    async def model(messages):
        yield calls("leave")

    async with open_service(blueprint_of(agent(model, leave))) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("hi")
        assert names(await stream.rest())[-2:] == ["agent_end", "session_end"]


async def test_any_other_interrupt_is_a_question_and_its_answer_is_returned():
    def where(state):
        city = interrupt({"question": "Which city?", "options": ["Rome", "Oslo"]})
        return {"messages": [("ai", f"off to {city}")]}

    async def answer(conversation, stream):
        came = await stream.until("ask_user")
        assert data_of(came[-1])["question"] == 'Which city?\n{"options":["Rome","Oslo"]}'
        conversation.respond(data_of(came[-1])["ref"], "Rome")

    events = await turns(blueprint_of(nodes(where)), "hi", during=answer)
    assert text(events) == "off to Rome"


async def test_two_interrupts_at_once_are_asked_for_at_once():
    def ask(what):
        def node(state):
            return {"messages": [("ai", f"{what}: {interrupt(what)} ")]}

        return node

    graph = StateGraph(MessagesState)
    for each in ("one", "two"):
        graph.add_node(each, ask(each))
        graph.add_edge(START, each)

    async def answer(conversation, stream):
        for event in await stream.until("ask_user", count=2):
            if event.name == "ask_user":
                conversation.respond(data_of(event)["ref"], data_of(event)["question"].upper())

    events = await turns(blueprint_of(graph.compile()), "hi", during=answer)
    assert sorted(text(events).split()) == ["ONE", "TWO", "one:", "two:"]


async def test_an_interrupt_in_a_subgraph_is_asked_for_once():
    async def model(messages):
        yield messages[-1].text if has_result(messages) else calls("risky", '{"what": "jump"}')

    async def answer(conversation, stream):
        asked = data_of((await stream.until("approval_required"))[-1])
        conversation.approve(asked["approvalId"])

    events = await turns(blueprint_of(nodes(agent(model, risky))), "hi", during=answer)
    assert names(events).count("approval_required") == 1
    assert text(events) == "approve "


async def test_an_agent_that_begins_without_a_state_begins_with_the_history():
    def build(saver):
        async def model(messages):
            yield f"{len(messages)} "

        return agent(model, checkpointer=saver)

    savers = {"one": InMemorySaver(), "two": InMemorySaver()}
    program = LangGraphProgram(lambda session: build(savers[session.model]))
    blueprint = Blueprint(name="graph", kind="langgraph", factory=TaskAgentFactory(program))
    async with open_service(blueprint) as service:
        conversation = await open_session(service, model="one")
        stream = Stream(conversation)
        conversation.prompt("hi")
        await stream.until("agent_end")
        conversation.switch_model("two")  # whose graph has another checkpointer, an empty one
        conversation.prompt("again")
        await stream.until("agent_end")
        stream.close()
        assert text(stream.events) == "1 3 "


async def test_a_boolean_response_is_an_approval():
    def pay(state):
        value = {"tool": "pay", "args": {"eur": 3}, "question": "Pay three euros?"}
        return {"messages": [("ai", repr(interrupt(value, response_schema=bool)))]}

    async def answer(conversation, stream):
        asked = data_of((await stream.until("approval_required"))[-1])
        assert (asked["toolName"], asked["args"]) == ("pay", {"eur": 3})
        conversation.approve(asked["approvalId"])

    assert text(await turns(blueprint_of(nodes(pay)), "hi", during=answer)) == "True"


@pytest.mark.parametrize("approved", [True, False])
async def test_a_human_interrupt_is_an_approval(approved):
    def send(state):
        request = {
            "action_request": {"action": "send", "args": {"to": "you"}},
            "config": {"allow_accept": True, "allow_ignore": False, "allow_respond": True},
            "description": "A letter",
        }
        [answer] = interrupt([request])
        return {"messages": [("ai", f"{answer['type']} {answer['args']}")]}

    async def answer(conversation, stream):
        asked = data_of((await stream.until("approval_required"))[-1])
        assert (asked["toolName"], asked["hint"]) == ("send", "A letter")
        if approved:
            conversation.approve(asked["approvalId"])
        else:
            conversation.reject(asked["approvalId"], "not now")

    said = text(await turns(blueprint_of(nodes(send)), "hi", during=answer))
    refusal = "response The user did not approve this call (rejected): not now"
    assert said == ("accept None" if approved else refusal)


@pytest.mark.parametrize("approved", [True, False])
async def test_a_breakpoint_of_the_author_is_an_approval_of_the_calls_behind_it(approved):
    async def model(messages):
        if has_result(messages):
            yield messages[-1].text
        else:
            yield calls("add", '{"a": 1, "b": 2}')

    async def answer(conversation, stream):
        asked = data_of((await stream.until("approval_required"))[-1])
        assert (asked["toolName"], asked["args"]) == ("add", {"a": 1, "b": 2})
        if approved:
            conversation.approve(asked["approvalId"])
        else:
            conversation.reject(asked["approvalId"])

    graph = agent(model, add, interrupt_before=["tools"])
    events = await turns(blueprint_of(graph), "hi", during=answer)
    assert text(events) == ("3" if approved else "The user did not approve this call (rejected).")
    assert names(events).count("tool_execution_start") == approved


async def test_steering_goes_in_between_two_steps():
    seen = []
    steered = asyncio.Event()

    async def slow() -> str:
        """Be slow."""
        await steered.wait()
        return "slow"

    async def model(messages):
        seen.append(said(messages))
        if len(messages) == 1:
            yield calls("slow")
        else:
            yield "ok"

    async def steer(conversation, stream):
        await stream.until("tool_execution_start")
        conversation.steer("faster")
        steered.set()

    events = await turns(blueprint_of(agent(model, slow)), "hi", during=steer)
    assert seen[-1] == [("human", "hi"), ("tool", "slow"), ("human", "faster")]
    assert names(events)[-1] == "agent_end"


async def test_steering_that_comes_with_the_last_step_is_one_more_prompt():
    seen = []
    steered = asyncio.Event()

    async def model(messages):
        seen.append(said(messages))
        yield "ok"
        await steered.wait()

    async def steer(conversation, stream):
        await stream.until("message_delta")
        conversation.steer("and this")
        steered.set()

    await turns(blueprint_of(agent(model)), "hi", during=steer)
    assert seen == [[("human", "hi")], [("human", "hi"), ("ai", "ok"), ("human", "and this")]]


async def test_what_a_model_says_inside_of_a_tool_is_not_the_answer_but_counts():
    async def inner(messages):
        yield "secret"
        yield used(100, 10)

    nested = agent(inner)

    async def ask(what: str) -> str:
        """Ask another agent."""
        answer = await nested.ainvoke({"messages": [("user", what)]})
        return answer["messages"][-1].text.upper()

    async def model(messages):
        if has_result(messages):
            yield messages[-1].text
            yield used(1, 1)
        else:
            yield calls("ask", '{"what": "x"}')
            yield used(1, 1)

    events = await turns(blueprint_of(agent(model, ask)), "hi")
    assert text(events) == "SECRET"
    assert data_of(events[-1])["tokenUsage"]["promptTokens"] == 102


async def test_a_subgraph_speaks_and_its_calls_are_counted_once():
    async def model(messages):
        if has_result(messages):
            yield "done"
        else:
            yield calls("add", '{"a": 1, "b": 2}')

    events = await turns(blueprint_of(nodes(agent(model, add))), "hi")
    assert text(events) == "done"
    assert names(events).count("tool_calls") == names(events).count("tool_execution_start") == 1


async def test_a_node_that_wraps_up_what_its_model_streamed_does_not_say_it_twice():
    async def script(messages):
        yield "once "
        yield "only"

    async def node(state):
        answer = await ScriptedModel(script=script).ainvoke(state["messages"])
        return {"messages": [AIMessage(answer.text)]}

    assert text(await turns(blueprint_of(nodes(node)), "hi")) == "once only"


async def test_a_sync_graph_streams_and_counts():
    def node(state):
        answer = FakeListChatModel(responses=["abc"]).invoke(state["messages"])
        return {"messages": [answer]}

    events = await turns(blueprint_of(nodes(node)), "hi")
    assert text(events) == "abc"
    assert data_of(events[-1])["tokenUsage"] is None


async def test_a_tool_that_fails_shows_its_type():
    def fail() -> str:
        """Fail."""
        raise LookupError("a secret")

    async def model(messages):
        yield "ok" if has_result(messages) else calls("fail")

    events = await turns(blueprint_of(agent(model, fail)), "hi")
    [end] = only(events, "tool_execution_end")
    assert end["status"] == "error"
    assert "secret" not in str(end)


async def test_an_error_ends_the_turn_and_not_the_session():
    async def model(messages):
        if messages[-1].text == "fail":
            raise LookupError("a secret")
        yield "ok"

    events = await turns(blueprint_of(agent(model)), "fail", "go on")
    assert only(events, "error")[0]["reason"] == "LookupError"
    assert text(events) == "ok"


async def test_max_turns_bounds_the_model_calls_of_a_turn():
    async def model(messages):
        yield calls("add", '{"a": 1, "b": 2}', call_id=f"call-{len(messages)}")

    events = await turns(blueprint_of(agent(model, add)), "hi", max_turns=3)
    assert only(events, "error")[0]["reason"] == "TooManyModelCalls"
    assert names(events).count("tool_execution_start") == 3


# -- graphs that are built for their session -------------------------------------------------------


async def test_a_function_builds_a_graph_for_the_model_that_is_asked_for():
    def build(session):
        if session.model == "no":
            raise CreateFailed("there is no such model")

        async def model(messages):
            yield f"{session.model} {len(messages)} "

        return agent(model)

    async with open_service(blueprint_of(build)) as service:
        conversation = await open_session(service, model="small")
        stream = Stream(conversation)
        conversation.prompt("one")
        await stream.until("agent_end")
        with pytest.raises(CreateFailed, match="no such model"):
            await conversation.prepare_model("no")
        await conversation.prepare_model("large")
        conversation.switch_model("large")
        conversation.prompt("two")
        await stream.until("agent_end")
        stream.close()
        assert text(stream.events) == "small 1 large 3 "
        with pytest.raises(CreateFailed, match="no such model"):
            await open_session(service, model="no")


async def test_a_function_that_takes_tools_gets_the_clients():
    def build(session, tools):
        async def model(messages):
            if has_result(messages):
                yield messages[-1].text
            else:
                yield calls("look", '{"at": "it"}') if tools else "no tools "

        return agent(model, *tools)

    caller = RecordingToolCaller()
    async with open_service(blueprint_of(build), call_tool=caller) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("one")
        await stream.until("agent_end")
        schema = {"type": "object", "properties": {"at": {"type": "string"}}}
        conversation.attach_tool(callback_tool(parameters=schema))
        conversation.prompt("two")
        await stream.until("agent_end")
        stream.close()
    assert caller.calls[0][:2] == ("look", {"at": "it"})
    assert names(stream.events).count("tool_execution_start") == 1
    assert text(stream.events).startswith("no tools ")


async def test_the_model_reaches_what_langchain_configures_by_it():
    def node(state, config):
        return {"messages": [("ai", config["configurable"].get("model", "its own"))]}

    assert text(await turns(blueprint_of(nodes(node)), "hi")) == "its own"
    assert text(await turns(blueprint_of(nodes(node)), "hi", model="other")) == "other"


# -- memory ----------------------------------------------------------------------------------------


async def test_a_checkpointer_of_the_graphs_own_keeps_a_thread_for_each_session():
    saver = InMemorySaver()

    async def model(messages):
        yield "ok"

    blueprint = blueprint_of(agent(model, checkpointer=saver))
    async with open_service(blueprint) as service:
        for tenant in ("acme", "other"):
            conversation = await open_session(service, tenant=tenant, session_id="s1")
            stream = Stream(conversation)
            conversation.prompt(tenant)
            await stream.until("agent_end")
            stream.close()
    assert set(saver.storage) == {"acme/s1", "other/s1"}


async def test_our_own_checkpointer_keeps_one_checkpoint():
    async def model(messages):
        yield "done" if has_result(messages) else calls("add", '{"a": 1, "b": 2}')

    graph = nodes(agent(model, add))
    saver = SessionSaver()
    kept = graph.copy({"checkpointer": saver})
    thread = {"configurable": {"thread_id": "s1"}}
    sizes = []
    for _ in range(4):
        async for _ in kept.astream({"messages": [("user", "hi")]}, thread, stream_mode="messages"):
            pass
        saver.forget_the_past(kept.channels)
        sizes.append(
            (len(saver.blobs), {name: len(each) for name, each in saver.storage["s1"].items()})
        )
    assert sizes[0] == sizes[-1]
    assert sizes[0][1] == {"": 1}
    assert len((await kept.aget_state(thread)).values["messages"]) == 16


# -- other states ----------------------------------------------------------------------------------


class Questions(TypedDict):
    question: str
    answer: Any


async def test_keys_of_the_state_can_be_the_prompt_and_the_answer():
    def node(state):
        return {"answer": f"{state['question']}? yes"}

    graph = StateGraph(Questions)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    served = blueprint_of(graph.compile(), input="question", output="answer")
    assert text(await turns(served, "really")) == "really? yes"


def test_a_graph_without_messages_is_refused_with_words():
    refusals = page("docs/how-to/langgraph.md").text
    graph = StateGraph(Questions)
    graph.add_node("node", lambda state: {})
    graph.add_edge(START, "node")
    with pytest.raises(InvalidArgument, match="one without messages"):
        LangGraphProgram(graph.compile())
    with pytest.raises(InvalidType) as refused:
        LangGraphProgram(graph)
    assert f"`{str(refused.value).removeprefix('target ')}`" in refusals


async def test_context_is_made_for_the_turn():
    @dataclass
    class Who:
        name: str

    def node(state, runtime: Runtime[Who]):
        return {"messages": [("ai", f"hello {runtime.context.name}")]}

    graph = StateGraph(MessagesState, context_schema=Who)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    served = blueprint_of(graph.compile(), context=lambda turn: Who(turn.session.user_data))
    assert text(await turns(served, "hi", user_data="you")) == "hello you"


def nodes(node):
    """Return a graph of one node."""
    graph = StateGraph(MessagesState)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph.compile()
