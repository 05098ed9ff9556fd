"""What tools did in a turn that was cut short is in the next request, whatever cut it short.

A model that is asked again must not pay back again.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from support.sessions import Stream, data_of, open_service, open_session, passes, soon, text

pytest.importorskip("pydantic_ai")

from pydantic_ai.models.function import FunctionModel

from frontdesk.agents.builtin import python_process_blueprint
from frontdesk.agents.pydantic_ai import OPTIONS, PydanticAIProgram, pydantic_ai_blueprint
from frontdesk.agents.pydantic_ai.memory import CUT_OFF
from frontdesk.keeper.client import Keeper
from support.isolated_sessions import ISOLATIONS, open_isolated
from support.openai_server import OpenAIServer
from support.programs.pydantic_programs import TOOLS as TOOL_FUNCTIONS
from support.programs.pydantic_programs import obedient, obedient_program
from support.stored_services import stored

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_keys")]

PAID = ["refund", "paid back 7"]
REFUND = [["refund", {"order": 7}]]
TOOLS = ("refund", "stuck", "broken")


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, logger="frontdesk")


def open_obedient(isolation, **rules):
    """Open a service whose agents are the obedient program's, as tasks or in processes."""
    if isolation == "task":
        return open_service(pydantic_ai_blueprint("obedient", program=obedient_program, **rules))
    target = "support.programs.pydantic_programs:obedient_program"
    own = {"tools": frozenset(TOOLS), "options": OPTIONS, **rules}
    return open_isolated(
        blueprints=[
            lambda keeper: python_process_blueprint("obedient", target, keeper=keeper, **own)
        ]
    )


async def open_cut(service):
    """Open a session whose model may call all tools."""
    conversation = await open_session(service, model="fn", tools=TOOLS)
    return conversation, Stream(conversation, bound_s=30)


async def told(conversation, stream):
    """Return what the model reads in its next request of what was done before."""
    conversation.prompt("tell")
    return json.loads(text(await stream.until("agent_end")))


async def until_said(stream, what):
    """Read until the agent has said something."""
    said = ""
    while what not in said:
        said += text(await stream.until("message_delta"))


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_after_an_abort_the_model_knows_what_it_has_paid_back(isolation):
    async with open_obedient(isolation) as service:
        conversation, stream = await open_cut(service)
        conversation.prompt(json.dumps([[REFUND], "hang"]))
        await until_said(stream, "so far")
        conversation.abort()
        await stream.until("agent_abort")
        assert await told(conversation, stream) == [PAID]
        assert await told(conversation, stream) == [PAID]
        stream.close()


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize(
    ("steps", "end", "seen"),
    [
        ([REFUND], "raise", [PAID]),
        ([REFUND, REFUND], "raise", [PAID, PAID]),
        ([REFUND, [["broken", {}]]], "", [PAID, ["broken", CUT_OFF]]),
        ([[*REFUND, ["broken", {}]]], "", [PAID, ["broken", CUT_OFF]]),
    ],
    ids=["model", "model later", "tool later", "tool beside"],
)
async def test_after_an_error_the_model_knows_what_it_has_paid_back(isolation, steps, end, seen):
    async with open_obedient(isolation) as service:
        conversation, stream = await open_cut(service)
        conversation.prompt(json.dumps([steps, end]))
        await stream.until("agent_abort")
        assert await told(conversation, stream) == seen
        stream.close()


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_after_the_deadline_the_model_knows_what_it_has_paid_back(isolation):
    async with open_obedient(isolation, turn_timeout_s=1.0) as service:
        conversation, stream = await open_cut(service)
        conversation.prompt(json.dumps([[[*REFUND, ["stuck", {}]]], ""]))
        events = await stream.until("agent_abort")
        assert data_of(events[-1])["reason"] == "deadline"
        assert await told(conversation, stream) == [PAID, ["stuck", CUT_OFF]]
        stream.close()


async def test_after_the_death_of_its_process_the_next_agent_knows_what_was_paid_back():
    async with open_obedient("process", restart="on_crash") as service:
        conversation, stream = await open_cut(service)
        conversation.prompt(json.dumps([[REFUND, REFUND], "kill"]))
        await stream.until("agent_restarted")
        assert await told(conversation, stream) == [PAID, PAID]
        stream.close()


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_after_an_error_that_ends_the_agent_the_next_one_knows_what_was_paid_back(isolation):
    rules = {"restart": "on_crash", "errors_end": "session"}
    async with open_obedient(isolation, **rules) as service:
        conversation, stream = await open_cut(service)
        conversation.prompt(json.dumps([[[*REFUND, ["broken", {}]]], ""]))
        await stream.until("agent_restarted")
        assert await told(conversation, stream) == [PAID, ["broken", "ValueError"]]
        stream.close()


@pytest.mark.chaos
async def test_after_a_kill_the_next_agent_of_a_stored_session_has_what_the_last_one_left(tmp_path):
    target = "support.programs.pydantic_programs:obedient_program"
    own = {"tools": frozenset(TOOLS), "options": OPTIONS, "restart": "on_crash"}
    async with Keeper() as keeper:
        blueprint = python_process_blueprint("obedient", target, keeper=keeper, **own)
        async with stored(tmp_path, blueprint) as service:
            conversation, stream = await open_cut(service)
            conversation.prompt(json.dumps([[REFUND], ""]))
            await stream.until("agent_end")
            conversation.prompt(json.dumps([[[*REFUND, ["stuck", {}]]], ""]))
            await stream.until("tool_execution_end")
            os.kill(conversation.pid, signal.SIGKILL)
            assert data_of((await stream.until("agent_restarted"))[-1])["memory"] == "kept"
            assert await told(conversation, stream) == [PAID, PAID, ["stuck", CUT_OFF]]
            stream.close()


async def test_after_a_kill_in_the_middle_of_a_tool_the_next_agent_knows_that_it_was_cut_off():
    async with open_obedient("process", restart="on_crash") as service:
        conversation, stream = await open_cut(service)
        conversation.prompt(json.dumps([[[*REFUND, ["stuck", {}]]], ""]))
        await stream.until("tool_execution_start", "tool_execution_end", count=3)
        service.store.get(f"acme/{conversation.session_id}").agent.agent.owner.kill()
        await stream.until("agent_restarted")
        assert await told(conversation, stream) == [PAID, ["stuck", CUT_OFF]]
        stream.close()


async def test_half_a_call_is_not_remembered():
    async with open_obedient("task") as service:
        conversation, stream = await open_cut(service)
        conversation.prompt(json.dumps([[REFUND], "half a call"]))
        await until_said(stream, "so far")
        conversation.abort()
        await stream.until("agent_abort")
        assert await told(conversation, stream) == [PAID]
        stream.close()


async def test_a_turn_that_was_given_up_and_still_runs_is_known_to_the_next():
    released = asyncio.Event()

    async def deaf() -> str:
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()
        return "late"

    program = PydanticAIProgram(
        tools=[*TOOL_FUNCTIONS, deaf], named={"fn": FunctionModel(stream_function=obedient)}
    )
    async with open_service(pydantic_ai_blueprint(program=program)) as service:
        conversation = await open_session(service, model="fn", tools=(*TOOLS, "deaf"))
        stream = Stream(conversation)
        conversation.prompt(json.dumps([[REFUND, [["deaf", {}]]], ""]))
        await stream.until("tool_execution_start", count=2)
        conversation.abort()
        await stream.until("agent_abort")
        assert service.stuck == 1
        assert await told(conversation, stream) == [PAID, ["deaf", CUT_OFF]]
        released.set()
        await soon(lambda: service.stuck == 0)
        assert await told(conversation, stream) == [PAID, ["deaf", CUT_OFF]]
        stream.close()


async def end_orphans():
    """End what Pydantic AI leaves where an abort meets a stream that is just being handed over."""
    for task in asyncio.all_tasks():
        if "ScopedTask" in repr(task.get_coro()):
            task.cancel()
    await passes()


steps = st.lists(
    st.lists(st.sampled_from([*REFUND, ["stuck", {}], ["broken", {}]]), min_size=1, max_size=3),
    max_size=3,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@example(taken=[[*REFUND, *REFUND]], end="hang", moment=78)
@example(taken=[[*REFUND, *REFUND]], end="hang", moment=79)
@example(taken=[[*REFUND, *REFUND]], end="hang", moment=80)
@example(taken=[[*REFUND, *REFUND]], end="hang", moment=81)
@example(taken=[[*REFUND, *REFUND]], end="hang", moment=82)
@given(
    taken=steps,
    end=st.sampled_from(["hang", "half a call", "raise", ""]),
    moment=st.integers(0, 200),
)
def test_whatever_a_client_saw_a_tool_return_is_in_the_next_request(taken, end, moment):
    async def main():
        async with open_obedient("task") as service:
            conversation, stream = await open_cut(service)
            conversation.prompt(json.dumps([taken, end]))
            await passes(moment)
            conversation.abort()
            events = await stream.until("agent_end", "agent_abort")
            done = await told(conversation, stream)
            stream.close()
            await end_orphans()
        returned = [
            data_of(event)["result"]
            for event in events
            if event.name == "tool_execution_end" and data_of(event)["status"] == "ok"
        ]
        begun = [event for event in events if event.name == "tool_execution_start"]
        assert [result for _, result in done if result != CUT_OFF] == returned
        assert len(done) >= len(begun)

    asyncio.run(main())


# -- the form that providers take ------------------------------------------------------------------


def openai_pairs(body):
    """Return the calls and results of a chat completion's request, held to its rule.

    The results of a message's calls come right behind it.
    """
    pairs, messages = [], body["messages"]
    for place, message in enumerate(messages):
        calls = message.get("tool_calls") or []
        behind = messages[place + 1 : place + 1 + len(calls)]
        assert [each["role"] for each in behind] == ["tool"] * len(calls)
        results = {each["tool_call_id"]: each["content"] for each in behind}
        pairs += [(call["function"]["name"], results.pop(call["id"])) for call in calls]
        assert not results
    assert sum(message["role"] == "tool" for message in messages) == len(pairs)
    return pairs


def anthropic_pairs(body):
    """Return the calls and results of a message's request, held to its rules.

    Roles alternate, and the results of a message's calls are the first in the next one.
    """
    pairs, messages = [], body["messages"]
    roles = [message["role"] for message in messages]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2)
    for message, behind in zip(messages, [*messages[1:], {"content": []}], strict=True):
        blocks = [each for each in message["content"] if isinstance(each, dict)]
        calls = [each for each in blocks if each["type"] == "tool_use"]
        first = behind["content"][: len(calls)]
        assert [each["type"] for each in first] == ["tool_result"] * len(calls)
        results = {each["tool_use_id"]: each["content"] for each in first}
        pairs += [(call["name"], _text_of(results.pop(call["id"]))) for call in calls]
    return pairs


def _text_of(content):
    return content if isinstance(content, str) else "".join(each["text"] for each in content)


def named_model(provider, base_url):
    """Make a model of a provider's protocol whose server is the test's."""
    if provider == "openai":
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        return OpenAIChatModel("m", provider=OpenAIProvider(base_url=base_url, api_key="k"))
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    return AnthropicModel("m", provider=AnthropicProvider(base_url=base_url, api_key="k"))


@pytest.mark.parametrize("restarted", [False, True], ids=["same agent", "next agent"])
@pytest.mark.parametrize(
    ("provider", "pairs_of"), [("openai", openai_pairs), ("anthropic", anthropic_pairs)]
)
async def test_a_provider_gets_a_cut_turn_in_the_form_that_it_takes(provider, pairs_of, restarted):
    pytest.importorskip(provider)

    async def script(body):
        yield "ok"

    rules = {"restart": "on_crash", "errors_end": "session"} if restarted else {}
    async with OpenAIServer(script) as server:
        program = PydanticAIProgram(
            tools=TOOL_FUNCTIONS,
            named={
                "fn": FunctionModel(stream_function=obedient),
                "real": named_model(provider, server.base_url),
            },
        )
        async with open_service(pydantic_ai_blueprint(program=program, **rules)) as service:
            conversation, stream = await open_cut(service)
            steps = [REFUND, [*REFUND, ["broken" if restarted else "stuck", {}]]]
            conversation.prompt(json.dumps([steps, ""]))
            if not restarted:
                await stream.until("tool_execution_start", count=3)
                conversation.abort()
            await stream.until("agent_restarted" if restarted else "agent_abort")
            conversation.switch_model("real")
            conversation.prompt("and now?")
            await stream.until("agent_end", "agent_abort")
            stream.close()
            await end_orphans()
    cut = ("broken", "ValueError") if restarted else ("stuck", CUT_OFF)
    assert pairs_of(server.requests[0]["body"]) == [tuple(PAID), tuple(PAID), cut]
