"""Agents on Pydantic AI, with its own test models: no key, no network."""

import asyncio

import pytest

from support.sessions import (
    Stream,
    facts,
    names,
    open_service,
    open_session,
    stats_of,
    text,
)

pytest.importorskip("pydantic_ai")

from pydantic_ai import Tool
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.toolsets import FunctionToolset

from frontdesk.agents import CallbackTool
from frontdesk.agents.errors import CreateFailed, ModelRefused, ToolFailed
from frontdesk.agents.pydantic_ai import PydanticAIProgram, pydantic_ai_blueprint
from frontdesk.agents.pydantic_ai.memory import MAX_MESSAGES, bounded, rebuilt
from frontdesk.agents.pydantic_ai.models import Models, ProviderOptions
from frontdesk.agents.records import Message, SessionContext

pytestmark = pytest.mark.anyio

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "DEEPSEEK_API_KEY", "OPENAI_BASE_URL")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


def assistant(program=None, **models):
    """Make the blueprint, with function models of the test's own by name."""
    named = {
        name: model if not callable(model) else FunctionModel(stream_function=model)
        for name, model in models.items()
    }
    return pydantic_ai_blueprint(program=program or PydanticAIProgram(named=named))


def prompts(messages):
    """Return what users said in the messages that a model got."""
    return [
        part.content
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, UserPromptPart)
    ]


def returns(messages):
    """Return what tools returned in the messages that a model got."""
    return [
        part.content
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    ]


async def echo(messages, info):
    """Say the last prompt in words."""
    for word in prompts(messages)[-1].split():
        yield f"{word} "


def calls_once(tool, args="{}"):
    """Make a model function that calls one tool and then says what it returned."""

    async def model(messages, info):
        got = returns(messages)
        if not got:
            yield {0: DeltaToolCall(name=tool, json_args=args, tool_call_id="c1")}
        else:
            yield f"got {got[-1]}"

    return model


async def one_turn(blueprint, *, prompt="go", during=None, order=None, **options):
    """Run one turn and return its frames."""
    async with open_service(blueprint, **options) as service:
        conversation = await open_session(service, **{"model": "fn", **(order or {})})
        stream = Stream(conversation)
        conversation.prompt(prompt)
        if during is not None:
            await during(conversation, stream)
        await stream.until("agent_end", "agent_abort")
        stream.close()
        return stream.frames


# -- streaming -----------------------------------------------------------------------------------


async def test_model_test_streams_with_no_key_and_no_network_and_reports_its_usage():
    frames = await one_turn(assistant(), order={"model": "test"})
    assert names(frames)[:3] == ["prompt_received", "agent_start", "message_start"]
    assert names(frames).count("message_delta") > 2
    assert facts(frames[-1])["lastMessage"]["content"] == text(frames)
    assert facts(frames[-1])["tokenUsage"]["promptTokens"] > 0
    assert facts(frames[-1])["tokenUsage"]["completionTokens"] > 0


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
        assert text(stream.frames) == "first "
        second.set()

    frames = await one_turn(assistant(fn=model), during=during)
    assert names(frames)[2:] == [
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
    frames = await one_turn(
        pydantic_ai_blueprint(program=program), order={"max_turns": 3, "tools": ("again",)}
    )
    assert calls == 3
    assert facts(frames[-2])["reason"] == "UsageLimitExceeded"
    assert names(frames)[-1] == "agent_abort"


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


# -- tools, approvals, questions -----------------------------------------------------------------


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def test_a_tool_runs_between_its_events():
    program = PydanticAIProgram(
        tools=[add],
        named={"fn": FunctionModel(stream_function=calls_once("add", '{"a": 2, "b": 3}'))},
    )
    frames = await one_turn(pydantic_ai_blueprint(program=program), order={"tools": ("add",)})
    assert names(frames)[2:] == [
        "tool_calls",
        "tool_execution_start",
        "tool_execution_end",
        "message_start",
        "message_delta",
        "agent_end",
    ]
    assert facts(frames[2])["count"] == 1
    assert facts(frames[3])["args"] == {"a": 2, "b": 3}
    assert (facts(frames[4])["status"], facts(frames[4])["result"]) == ("ok", 5)
    assert text(frames) == "got 5"


async def test_a_tool_that_raises_ends_the_turn_with_its_events():
    async def broken() -> str:
        raise ValueError("secret")

    program = PydanticAIProgram(
        tools=[broken], named={"fn": FunctionModel(stream_function=calls_once("broken"))}
    )
    frames = await one_turn(pydantic_ai_blueprint(program=program), order={"tools": ("broken",)})
    assert names(frames)[-3:] == ["tool_execution_end", "error", "agent_abort"]
    assert facts(frames[-3])["status"] == "error"
    assert facts(frames[-2])["reason"] == "ValueError"


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (ApprovalRequired(), "cancelled"),
        (CallDeferred(), "error"),
        (ToolFailed("inner", problem="no"), "error"),
    ],
    ids=["ApprovalRequired", "CallDeferred", "ToolFailed"],
)
async def test_a_tool_that_breaks_off_ends_with_a_status_that_clients_know(raised, status):
    async def odd() -> str:
        raise raised

    async def approve(conversation, stream):
        if isinstance(raised, ApprovalRequired):
            frame = (await stream.until("approval_required"))[-1]
            conversation.reject(facts(frame)["approvalId"])

    program = PydanticAIProgram(
        tools=[odd], named={"fn": FunctionModel(stream_function=calls_once("odd"))}
    )
    frames = await one_turn(
        pydantic_ai_blueprint(program=program), order={"tools": ("odd",)}, during=approve
    )
    ends = [facts(frame) for frame in frames if frame.name == "tool_execution_end"]
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
        assert (facts(required)["toolName"], facts(required)["args"]) == ("danger", {"path": "/"})
        assert not ran
        getattr(conversation, verb)(facts(required)["approvalId"], "because")

    frames = await one_turn(
        pydantic_ai_blueprint(program=dangerous(ran)),
        during=during,
        order={"tools": ("danger",)},
    )
    assert names(frames)[-1] == "agent_end"
    assert ran == (["/"] if verb == "approve" else [])
    assert ("tool_execution_start" in names(frames)) == (verb == "approve")
    assert "because" in text(frames) or verb == "approve"


async def test_an_approval_that_expires_is_told_to_the_model_and_the_turn_goes_on():
    ran = []
    frames = await one_turn(
        pydantic_ai_blueprint(program=dangerous(ran)),
        order={"tools": ("danger",)},
        approval_timeout_s=0.02,
    )
    assert "expired" in text(frames)
    assert not ran


async def test_the_model_can_ask_the_user():
    async def during(conversation, stream):
        (*_, asked) = await stream.until("ask_user")
        assert facts(asked)["question"] == "which?"
        conversation.respond(facts(asked)["ref"], "the left one")

    frames = await one_turn(
        assistant(fn=calls_once("ask_user", '{"question": "which?"}')),
        during=during,
        order={"tools": ("ask_user",)},
    )
    assert text(frames) == "got the left one"


async def test_a_plugin_is_a_toolset_of_the_operators_that_a_client_may_choose():
    program = PydanticAIProgram(
        plugins={"math": FunctionToolset([add])},
        named={"fn": FunctionModel(stream_function=calls_once("add", '{"a": 1, "b": 1}'))},
    )
    frames = await one_turn(pydantic_ai_blueprint(program=program), order={"plugins": ("math",)})
    assert text(frames) == "got 2"


class Caller:
    def __init__(self):
        self.calls = []

    async def call(self, tool, *, call_id, args, session_id, api_key):
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
        return stream.frames


async def test_a_callback_tool_of_the_session_is_called_for_the_model():
    caller, told = Caller(), []

    async def model(messages, info):
        told.append([(each.name, each.description) for each in info.function_tools])
        async for piece in calls_once("weather", '{"city": "Oslo"}')(messages, info):
            yield piece

    frames = await weather_turn(model, caller)
    assert caller.calls == [("weather", {"city": "Oslo"})]
    assert told[0] == [("weather", "The weather somewhere")]
    assert text(frames) == "got sunny"
    assert names(frames).count("tool_execution_start") == 1


async def test_a_callback_tool_that_fails_is_told_to_the_model():
    frames = await weather_turn(calls_once("weather", '{"fail": true}'), Caller())
    assert "the server said no" in text(frames)


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

    frames = await one_turn(assistant(fn=model), during=during)
    assert text(frames) == "heard go heard this "
    assert names(frames).count("message_start") == 2
    assert facts(frames[-1])["lastMessage"]["content"] == "heard this "


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
    frames = await one_turn(
        pydantic_ai_blueprint(program=program), during=during, order={"tools": ("slow",)}
    )
    assert text(frames) == "the other one"


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
        assert facts(came[-2])["status"] == "cancelled"
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
    assert not calls
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


# -- which models there are ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("openai:gpt-5", "OPENAI_API_KEY"),
        ("anthropic:claude-sonnet-4-5", "ANTHROPIC_API_KEY"),
        ("deepseek:deepseek-chat", "DEEPSEEK_API_KEY"),
        ("groq:llama", "not installed"),
        ("nobody:knows", "no provider knows it"),
        ("nothing", "no provider knows it"),
        ("", "no provider knows it"),
        (":", "no provider knows it"),
    ],
)
async def test_a_model_that_cannot_be_is_refused_with_a_clear_sentence(model, said):
    async with open_service(assistant()) as service:
        with pytest.raises(ModelRefused) as refused:
            await open_session(service, model=model)
        assert said in str(refused.value)
        assert service.store.count() == 0


async def test_a_provider_whose_key_is_there_is_accepted(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    async with open_service(assistant()) as service:
        await open_session(service, model="openai:gpt-5")


@pytest.mark.parametrize(
    "options",
    [
        {"unknown": 1},
        {"temperature": "hot"},
        {"baseUrl": "https://elsewhere.example/v1"},
        {"apiKey": "sk-mine"},
    ],
    ids=str,
)
async def test_provider_options_that_are_unknown_wrong_or_not_allowed_are_refused(options):
    async with open_service(assistant(fn=echo)) as service:
        with pytest.raises(CreateFailed) as refused:
            await open_session(service, model="fn", provider_opts=options)
        assert "sk-mine" not in str(refused.value)


async def test_the_operators_own_key_goes_to_no_server_of_a_clients(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-the-operators")
    models = Models(base_urls=("http://127.0.0.1:*/v1",))
    for own, expected in ((None, "none"), ("sk-mine", "sk-mine")):
        options = ProviderOptions(base_url="http://127.0.0.1:9/v1", api_key=own)
        assert models.find("openai:small", options).client.api_key == expected


@pytest.mark.parametrize(
    ("pattern", "allowed", "refused"),
    [
        (
            "http://127.0.0.1:*/v1",
            ["http://127.0.0.1:80/v1", "HTTP://127.0.0.1:80/v1"],
            [
                "http://127.0.0.1:80@evil.example/v1",
                "http://127.0.0.1.evil.example/v1",
                "http://127.0.0.1:80/evil/v1",
                "https://127.0.0.1:80/v1",
                "http://127.0.0.1:80/v1?x=/v1",
                "http://127.0.0.1:80#@evil.example/v1",
            ],
        ),
        (
            "https://*.example.com/*",
            ["https://a.example.com/v1", "https://a.example.com"],
            [
                "https://evil.org/x.example.com/v1",
                "https://evil.org\\.example.com/v1",
                "https://evil.org?.example.com/v1",
                "https://evil.org%2f.example.com/v1",
                "https://example.com/v1",
                "https://evil.org .example.com/v1",
            ],
        ),
        ("http://[::1]:*/v1", ["http://[::1]:8000/v1"], ["http://1:8000/v1"]),
        ("https://a.example/v1", ["https://a.example/v1"], ["https://a.example/v1/../admin"]),
        ("https://a.example/v1*", [], ["https://a.example/v1/../admin"]),
        ("*", ["https://any.example/v1", "http://10.0.0.1:8000/v1"], ["any", "file:///etc/passwd"]),
    ],
)
def test_an_address_is_allowed_part_by_part(pattern, allowed, refused):
    models = Models(base_urls=(pattern,))
    for address in allowed:
        models.find("openai:m", ProviderOptions(base_url=address))
    for address in refused:
        with pytest.raises(CreateFailed):
            models.find("openai:m", ProviderOptions(base_url=address))


async def test_with_a_base_url_only_openai_names_are_taken():
    models = Models(base_urls=("*",))
    with pytest.raises(ModelRefused):
        models.find("anthropic:x", ProviderOptions(base_url="http://127.0.0.1:9/v1"))


def test_a_clients_key_is_in_no_repr():
    options = {"baseUrl": "http://x.example/", "apiKey": "sk-mine"}
    session = SessionContext(
        session_id="s", tenant_id="t", blueprint="b", model="m", provider_opts=options
    )
    assert "sk-mine" not in repr(session)
    assert "sk-mine" not in repr(ProviderOptions.of(session))


# -- memory --------------------------------------------------------------------------------------


def test_a_memory_is_rebuilt_from_the_history_for_an_agent_that_was_restarted():
    messages = rebuilt(
        [
            Message("user", "one"),
            Message("assistant", "two"),
            Message("tool_result", "three"),
            Message("assistant", ""),
        ]
    )
    assert [type(each) for each in messages] == [ModelRequest, ModelResponse]


def test_a_memory_is_cut_where_a_users_prompt_begins():
    turn = [
        *rebuilt([Message("user", "prompt")]),
        ModelResponse(parts=[ToolCallPart("t", {}, tool_call_id="c")]),
        ModelRequest(parts=[ToolReturnPart("t", "r", tool_call_id="c")]),
        *rebuilt([Message("assistant", "answer")]),
    ]
    kept = bounded(turn * 200)
    assert len(kept) <= MAX_MESSAGES
    assert prompts(kept[:1]) == ["prompt"]
    assert bounded(turn) == turn
