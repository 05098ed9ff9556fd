"""Agents on Pydantic AI, with its own test models: no key, no network."""

import asyncio

import pytest

from support.sessions import Stream, data_of, names, open_service, open_session, stats_of, text

pytest.importorskip("pydantic_ai")

from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.models.function import DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel

from frontdesk.agents.errors import ModelRefused
from frontdesk.agents.pydantic_ai import PydanticAIProgram, pydantic_ai_blueprint
from frontdesk.agents.pydantic_ai.memory import CUT_OFF
from support.pydantic_models import assistant, calls_once, echo, one_turn, prompts, returns

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_keys")]


# -- streaming -----------------------------------------------------------------------------------


async def test_model_test_streams_with_no_key_and_no_network_and_reports_its_usage():
    events = await one_turn(assistant(), order={"model": "test"})
    assert names(events)[:3] == ["prompt_received", "agent_start", "message_start"]
    assert names(events).count("message_delta") > 2
    assert data_of(events[-1])["lastMessage"]["content"] == text(events)
    assert data_of(events[-1])["tokenUsage"]["promptTokens"] > 0
    assert data_of(events[-1])["tokenUsage"]["completionTokens"] > 0


async def test_text_and_thoughts_are_streamed_as_they_come():
    second = asyncio.Event()

    async def model(messages, info):
        yield {0: DeltaThinkingPart(content="let me ")}
        yield {0: DeltaThinkingPart(content="think")}
        yield "first "
        await second.wait()
        yield "second"

    async def during(conversation, stream):
        await stream.until("message_delta")
        assert text(stream.events) == "first "
        second.set()

    events = await one_turn(assistant(fn=model), during=during)
    assert names(events)[2:] == [
        "thinking_start",
        "thinking_delta",
        "thinking_delta",
        "message_start",
        "message_delta",
        "message_delta",
        "agent_end",
    ]


async def test_the_history_is_kept_from_turn_to_turn():
    seen = []

    async def model(messages, info):
        seen.append(prompts(messages))
        yield "ok"

    async with open_service(assistant(fn=model)) as service:
        conversation = await open_session(service, model="fn")
        stream = Stream(conversation)
        for word in ("one", "two", "three"):
            conversation.prompt(word)
        await stream.until("agent_end", count=3)
        stream.close()
    assert seen == [["one"], ["one", "two"], ["one", "two", "three"]]


async def test_two_sessions_of_one_blueprint_share_no_history():
    seen = []

    async def model(messages, info):
        seen.append(prompts(messages))
        yield "ok"

    async with open_service(assistant(fn=model)) as service:
        for word in ("one", "two"):
            conversation = await open_session(service, model="fn")
            stream = Stream(conversation)
            conversation.prompt(word)
            await stream.until("agent_end")
            stream.close()
    assert seen == [["one"], ["two"]]


# -- what it costs -------------------------------------------------------------------------------


async def test_the_cost_of_a_model_with_a_known_price_is_reported():
    program = PydanticAIProgram(named={"fn": _priced()})
    async with open_service(pydantic_ai_blueprint(program=program)) as service:
        conversation = await open_session(service, model="fn")
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_end")
        stream.close()
        assert stats_of(conversation)["costUsd"] > 0


def _priced():
    class Priced(TestModel):
        @property
        def system(self):
            return "openai"

    model = Priced(model_name="gpt-4o", custom_output_text="word " * 50)
    model._system = "openai"
    return model


# -- bounds --------------------------------------------------------------------------------------


async def test_a_turn_has_at_most_max_turns_model_calls():
    calls = 0

    async def model(messages, info):
        nonlocal calls
        calls += 1
        yield {0: DeltaToolCall(name="again", json_args="{}", tool_call_id=f"c{calls}")}

    async def again() -> str:
        return "again"

    program = PydanticAIProgram(tools=[again], named={"fn": FunctionModel(stream_function=model)})
    events = await one_turn(
        pydantic_ai_blueprint(program=program), order={"max_turns": 3, "tools": ("again",)}
    )
    assert calls == 3
    assert data_of(events[-2])["reason"] == "UsageLimitExceeded"
    assert names(events)[-1] == "agent_abort"


async def test_max_tokens_and_provider_options_reach_the_model():
    seen = {}

    async def model(messages, info):
        seen.update(info.model_settings)
        yield "ok"

    await one_turn(
        assistant(fn=model),
        order={"max_tokens": 17, "provider_opts": {"temperature": 0.5, "seed": 4}},
    )
    assert seen == {"max_tokens": 17, "temperature": 0.5, "seed": 4}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(None, "be brief\n\nbe kind"), ("full", "be brief\n\nbe kind"), ("minimal", "be kind")],
)
async def test_the_system_prompt_is_the_operators_and_the_clients(mode, expected):
    seen = []

    async def model(messages, info):
        seen.append(info.instructions)
        yield "ok"

    program = PydanticAIProgram(
        instructions="be brief", named={"fn": FunctionModel(stream_function=model)}
    )
    order = {"system_prompt": "be kind", **({"prompt_mode": mode} if mode else {})}
    await one_turn(pydantic_ai_blueprint(program=program), order=order)
    assert seen == [expected]


# -- steering and models -------------------------------------------------------------------------


async def test_steering_is_taken_at_the_next_model_call():
    seen, calling, go = [], asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        calling.set()
        await go.wait()
        return "slow"

    async def model(messages, info):
        seen.append(prompts(messages))
        async for piece in calls_once("slow")(messages, info):
            yield piece

    async def during(conversation, stream):
        await calling.wait()
        conversation.steer("to the left")
        go.set()

    program = PydanticAIProgram(tools=[slow], named={"fn": FunctionModel(stream_function=model)})
    await one_turn(
        pydantic_ai_blueprint(program=program), during=during, order={"tools": ("slow",)}
    )
    assert seen == [["go"], ["go", "to the left"]]


async def test_steering_that_comes_with_the_last_words_makes_one_more_step():
    go = asyncio.Event()

    async def model(messages, info):
        said = prompts(messages)
        yield f"heard {said[-1]} "
        if len(said) == 1:
            await go.wait()

    async def during(conversation, stream):
        await stream.until("message_delta")
        conversation.steer("this")
        go.set()

    events = await one_turn(assistant(fn=model), during=during)
    assert text(events) == "heard go heard this "
    assert names(events).count("message_start") == 2
    assert data_of(events[-1])["lastMessage"]["content"] == "heard this "


async def test_a_switched_model_answers_from_the_next_model_call_on():
    calling, go = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        calling.set()
        await go.wait()
        return "slow"

    async def other(messages, info):
        yield "the other one"

    async def during(conversation, stream):
        await calling.wait()
        conversation.switch_model("other")
        go.set()

    program = PydanticAIProgram(
        tools=[slow],
        named={
            "fn": FunctionModel(stream_function=calls_once("slow")),
            "other": FunctionModel(stream_function=other),
        },
    )
    events = await one_turn(
        pydantic_ai_blueprint(program=program), during=during, order={"tools": ("slow",)}
    )
    assert text(events) == "the other one"


async def test_a_switch_to_a_model_that_cannot_be_is_refused():
    async with open_service(assistant(fn=echo)) as service:
        conversation = await open_session(service, model="fn")
        with pytest.raises(ModelRefused):
            conversation.switch_model("openai:gpt-5")


# -- abort ---------------------------------------------------------------------------------------


async def test_an_abort_in_the_middle_of_a_stream_keeps_what_was_said_for_the_next_turn():
    seen, cleaned, waiting = [], [], asyncio.Event()

    async def model(messages, info):
        seen.append([type(each).__name__ for each in messages])
        yield "so far "
        if len(seen) == 1:
            try:
                waiting.set()
                await asyncio.Event().wait()
            finally:
                cleaned.append(True)

    async with open_service(assistant(fn=model)) as service:
        conversation = await open_session(service, model="fn")
        stream = Stream(conversation)
        conversation.prompt("one")
        await stream.until("message_delta")
        await waiting.wait()
        conversation.abort()
        await stream.until("agent_abort")
        assert cleaned
        conversation.prompt("two")
        await stream.until("agent_end")
        stream.close()
        assert service.stuck == 0
    assert seen[1] == ["ModelRequest", "ModelResponse", "ModelRequest"]


async def test_an_abort_in_the_middle_of_a_tool_leaves_no_call_without_its_result():
    seen, calling, cleaned = [], asyncio.Event(), []

    async def stuck() -> str:
        calling.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    async def model(messages, info):
        seen.append(messages)
        if len(seen) == 1:
            yield {0: DeltaToolCall(name="stuck", json_args="{}", tool_call_id="c1")}
        else:
            yield "ok"

    program = PydanticAIProgram(tools=[stuck], named={"fn": FunctionModel(stream_function=model)})
    async with open_service(pydantic_ai_blueprint(program=program)) as service:
        conversation = await open_session(service, model="fn", tools=("stuck",))
        stream = Stream(conversation)
        conversation.prompt("one")
        await calling.wait()
        conversation.abort()
        came = await stream.until("agent_abort")
        assert data_of(came[-2])["status"] == "cancelled"
        assert cleaned
        conversation.prompt("two")
        await stream.until("agent_end")
        stream.close()
    calls = [
        part
        for message in seen[1]
        if isinstance(message, ModelResponse)
        for part in message.parts
        if isinstance(part, ToolCallPart)
    ]
    assert [call.tool_call_id for call in calls] == ["c1"]
    assert returns(seen[1]) == [CUT_OFF]
    assert prompts(seen[1]) == ["one", "two"]


async def test_what_a_stream_used_before_it_was_aborted_is_counted():
    async def model(messages, info):
        yield "word " * 20
        await asyncio.Event().wait()

    async with open_service(assistant(fn=model)) as service:
        conversation = await open_session(service, model="fn")
        stream = Stream(conversation)
        conversation.prompt("one")
        await stream.until("message_delta")
        conversation.abort()
        await stream.until("agent_abort")
        stream.close()
        assert stats_of(conversation)["totalTokens"] > 0
