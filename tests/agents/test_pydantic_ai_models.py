"""Models and memory of agents on Pydantic AI: which there are, whose key, what is kept."""

import pytest

from support.sessions import open_service, open_session

pytest.importorskip("pydantic_ai")

from pydantic_ai.messages import ModelRequest, ModelResponse, ToolCallPart, ToolReturnPart

from frontdesk.agents.errors import CreateFailed, ModelRefused
from frontdesk.agents.pydantic_ai.memory import MAX_MESSAGES, bounded, rebuilt
from frontdesk.agents.pydantic_ai.models import Models, ProviderOptions
from frontdesk.agents.records import Message, SessionContext
from support.pydantic_models import assistant, echo, prompts

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_keys")]


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
