"""What is special about agents on Google's ADK, beside the suite of all frameworks."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.adk")

from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.events.request_input import RequestInput
from google.adk.models import BaseLlm, LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.adk.tools import ToolContext
from google.adk.tools.agent_tool import AgentTool
from google.adk.workflow import Workflow
from google.genai import types

from docs.pages import page
from frontdesk.agents import CreateFailed, EndSession
from frontdesk.agents.adk import ADKProgram, memory
from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.task import TaskAgentFactory
from frontdesk.errors import InvalidType
from support.sessions import Stream, data_of, names, open_service, open_session, text

pytestmark = pytest.mark.anyio

TESTS = Path(__file__).parents[1]
ENDS = ("agent_end", "agent_abort")


class ScriptedModel(BaseLlm):
    """A model that says what an async generator function of the request yields."""

    model: str = "scripted"
    script: Any

    async def generate_content_async(self, llm_request, stream=False):
        whole = []
        async for piece in self.script(llm_request):
            part = types.Part(text=piece) if isinstance(piece, str) else piece
            whole.append(part)
            content = types.Content(role="model", parts=[part])
            yield LlmResponse(content=content, partial=True)
        used = types.GenerateContentResponseUsageMetadata(
            prompt_token_count=10, candidates_token_count=2, thoughts_token_count=1
        )
        content = types.Content(role="model", parts=whole)
        yield LlmResponse(content=content, usage_metadata=used, partial=False)


def call(name, /, **args):
    return types.Part(function_call=types.FunctionCall(name=name, args=args))


def results(request):
    return [
        part.function_response.response
        for content in request.contents
        for part in content.parts
        if part.function_response
    ]


def agent(script, *tools, name="helpdesk", **rest):
    return LlmAgent(name=name, model=ScriptedModel(script=script), tools=list(tools), **rest)


def calls_then_tells(name, /, **args):
    """Make a model that calls one tool and then says what it read."""

    async def script(request):
        read = results(request)
        yield f"read {read[-1]}" if read else call(name, **args)

    return script


def blueprint_of(target):
    factory = TaskAgentFactory(ADKProgram(target))
    return Blueprint(name="served", kind="adk", factory=factory)


async def turns(target, *prompts, during=None, **order):
    async with open_service(blueprint_of(target)) as service:
        conversation = await open_session(service, **{"model": "default", **order})
        stream = Stream(conversation)
        for prompt in prompts:
            conversation.prompt(prompt)
            if during is not None:
                await during(conversation, stream)
            await stream.until(*ENDS)
        stream.close()
        return stream.events


async def test_the_options_of_a_session_reach_the_model():
    seen = []

    async def model(request):
        seen.append((request.config.system_instruction, request.config.max_output_tokens))
        yield "ok"

    await turns(agent(model, instruction="Be."), "hi", system_prompt="Speak French.", max_tokens=7)
    assert seen[0][0].startswith("Be.")
    assert seen[0][0].endswith("Speak French.")
    assert seen[0][1] == 7


async def test_max_turns_bounds_the_model_calls_of_a_turn():
    def again() -> str:
        """Call again."""
        return "again"

    async def model(request):
        yield call("again")

    events = await turns(agent(model, again), "hi", max_turns=3)
    assert names(events).count("tool_execution_start") == 3
    assert data_of(events[-2])["reason"] == "TooManyModelCalls"


async def test_an_agent_that_took_over_answers_and_is_told_of_as_a_tool():
    async def billing(request):
        yield "billing here"

    async def triage(request):
        yield call("transfer_to_agent", agent_name="billing")

    root = agent(triage, sub_agents=[agent(billing, name="billing", description="Bills.")])
    events = await turns(root, "hi")
    [end] = [data_of(each) for each in events if each.name == "tool_execution_end"]
    assert (end["toolName"], end["status"]) == ("transfer_to_agent", "ok")
    assert text(events) == "billing here"


@pytest.mark.filterwarnings("ignore:The `plugins` argument is deprecated")  # ADK's own call
async def test_what_an_agent_that_is_a_tool_says_is_its_result_and_counts():
    async def inner(request):
        yield "secret"

    tool = AgentTool(agent(inner, name="inner", description="Knows."))
    events = await turns(agent(calls_then_tells("inner", request="x"), tool), "hi")
    assert text(events) == "read {'result': 'secret'}"
    assert data_of(events[-1])["tokenUsage"] == {
        "promptTokens": 30,
        "completionTokens": 9,
        "totalTokens": 39,
    }


@pytest.mark.parametrize("approved", [True, False])
async def test_a_tool_that_asks_for_a_confirmation_itself_is_an_approval(approved):
    def pay(eur: int, tool_context: ToolContext) -> str:
        """Pay."""
        if tool_context.tool_confirmation is None:
            tool_context.request_confirmation(hint="Really?")
            return "asked"
        return "paid" if tool_context.tool_confirmation.confirmed else "not paid"

    async def answer(conversation, stream):
        asked = data_of((await stream.until("approval_required"))[-1])
        assert (asked["toolName"], asked["args"], asked["hint"]) == ("pay", {"eur": 3}, "Really?")
        if approved:
            conversation.approve(asked["approvalId"])
        else:
            conversation.reject(asked["approvalId"])

    events = await turns(agent(calls_then_tells("pay", eur=3), pay), "hi", during=answer)
    [end] = [data_of(each) for each in events if each.name == "tool_execution_end"]
    assert end["status"] == ("ok" if approved else "rejected")
    assert ("'paid'" in text(events)) is approved
    assert names(events).count("tool_execution_start") == 1


async def test_an_input_that_a_workflow_asks_for_is_a_question():
    async def ask(ctx, node_input):
        yield RequestInput(message="Which city?")

    def go(node_input: Any):
        return f"off to {node_input}"

    async def answer(conversation, stream):
        asked = data_of((await stream.until("ask_user"))[-1])
        assert asked["question"] == "Which city?"
        conversation.respond(asked["ref"], "Rome")

    workflow = Workflow(name="travel", edges=[("START", ask, go)])
    events = await turns(workflow, "hi", during=answer)
    assert names(events)[-1] == "agent_end"
    assert "Rome" in text(events)


async def test_a_tool_may_end_its_session():
    def leave() -> str:
        """Leave."""
        raise EndSession

    async with open_service(blueprint_of(agent(calls_then_tells("leave"), leave))) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("hi")
        assert names(await stream.rest())[-2:] == ["agent_end", "session_end"]


async def test_a_cut_turn_is_remembered_as_far_as_it_came():
    begun = asyncio.Event()
    seen = []

    async def hang() -> str:
        """Never return."""
        begun.set()
        await asyncio.Event().wait()

    async def model(request):
        seen.append([part for content in request.contents for part in content.parts])
        if seen[-1][-1].text == "wait":
            yield "I wait "
            yield call("hang")
        elif seen[-1][-1].text == "talk":
            yield "half a "
            begun.set()
            await asyncio.Event().wait()
        else:
            yield "ok"

    async with open_service(blueprint_of(agent(model, hang))) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        for prompt, until in (("wait", "tool_execution_start"), ("talk", "message_delta")):
            conversation.prompt(prompt)
            await stream.until(until)
            await begun.wait()
            begun.clear()
            conversation.abort()
            await stream.until("agent_abort")
        conversation.prompt("go on")
        await stream.until("agent_end")
        stream.close()
    texts = [part.text for part in seen[-1] if part.text]
    assert texts == ["wait", "I wait ", "talk", "half a ", "go on"]
    [response] = [part.function_response for part in seen[-1] if part.function_response]
    assert "cut off" in response.response["error"]


async def test_a_runner_keeps_its_services_and_its_plugins(tmp_path):
    told = []

    class Recorder(BasePlugin):
        async def before_run_callback(self, *, invocation_context):
            told.append(invocation_context.user_id)

    async def model(request):
        yield str(len(request.contents))

    app = App(name="desk", root_agent=agent(model), plugins=[Recorder(name="recorder")])
    kept = SqliteSessionService(str(tmp_path / "sessions.db"))
    runner = Runner(app=app, session_service=kept)
    first = await turns(runner, "one", session_id="s1")
    second = await turns(runner, "two", session_id="s1")
    assert (text(first), text(second)) == ("1", "3")
    assert told == ["acme", "acme"]


async def test_a_runner_whose_sessions_are_in_memory_is_not_filled_by_ours():
    kept = InMemorySessionService()

    async def model(request):
        yield "ok"

    app = App(name="desk", root_agent=agent(model))
    await turns(Runner(app=app, session_service=kept), "one")
    assert not kept.sessions


async def test_a_session_in_memory_is_bounded_and_begins_with_a_prompt(monkeypatch):
    monkeypatch.setattr(memory, "MAX_EVENTS", 4)
    seen = []

    async def model(request):
        seen.append([content.parts[0].text for content in request.contents])
        yield "ok"

    await turns(agent(model), "one", "two", "three", "four")
    assert seen[-1] == ["two", "ok", "three", "ok", "four"]


async def test_a_function_of_the_session_makes_its_agent():
    def build(session):
        if session.user_data == "no":
            raise CreateFailed("not for you")

        async def model(request):
            yield f"for {session.tenant_id}"

        return agent(model)

    assert text(await turns(build, "hi")) == "for acme"
    with pytest.raises(CreateFailed, match="not for you"):
        await turns(build, "hi", user_data="no")
    with pytest.raises(CreateFailed, match="InvalidType"):
        await turns(lambda session: 7, "hi")


def test_a_target_that_is_no_agent_is_refused():
    with pytest.raises(InvalidType) as refused:
        ADKProgram(LlmAgent)
    assert f"`{str(refused.value).removeprefix('target ')}`" in page("docs/how-to/adk.md").text


def test_nothing_leaves_the_machine_unasked():
    program = f"""
import asyncio, sys
sys.path[:0] = [{str(TESTS)!r}]
met = []
def hook(event, args):
    if event == "socket.connect" and isinstance(args[1], tuple):
        met.append(args[1][0])
    if event == "socket.getaddrinfo":
        met.append(args[0])
sys.addaudithook(hook)
from adapters.test_adk import agent, turns, calls_then_tells
from support.sessions import names
def add(a: int) -> int:
    "Add."
    return a
events = asyncio.run(turns(agent(calls_then_tells("add", a=1), add), "hi"))
assert names(events)[-1] == "agent_end"
print(met)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.stdout.strip() == "[]", ran.stdout + ran.stderr
