"""Remote agents behind an OpenAI-compatible API, by real connections to servers on loopback."""

import asyncio
import contextlib
import gzip
import json

import pytest

from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.openai import OpenAIProgram, remote_client
from frontdesk.agents.task import TaskAgentFactory
from frontdesk.errors import InvalidArgument
from support.openai_server import OpenAIServer, ResponsesServer, tool_call
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

pytestmark = pytest.mark.anyio

ENDS = ("agent_end", "agent_abort")
SECRET = "sk-the-secret"


SERVERS = {"chat-completions": OpenAIServer, "responses": ResponsesServer}
APIS = pytest.mark.parametrize("api", SERVERS)


def prompt_of(body):
    """Return the last thing that was said to the agent."""
    last = (body.get("messages") or body["input"])[-1]
    return last.get("content") or last["output"]


async def echo(body):
    """Call the client's tool if the prompt says so; otherwise say what was said."""
    if prompt_of(body) == "look":
        yield tool_call("look", {"at": "it"})
    else:
        yield f"{body['model']} heard "
        yield prompt_of(body)


@contextlib.asynccontextmanager
async def remote(target, *, session=None, tools=None, **options):
    program = OpenAIProgram(target, **options)
    made = Blueprint(name="remote", kind="openai", factory=TaskAgentFactory(program))
    async with open_service(made, **({"call_tool": tools} if tools else {})) as service:
        conversation = await open_session(service, **{"model": "default", **(session or {})})
        stream = Stream(conversation)

        async def turn(prompt, *until):
            conversation.prompt(prompt)
            return await stream.until(*(until or ENDS))

        yield conversation, turn, stream
        stream.close()


async def serve(answer):
    """Serve each connection one fixed answer, whatever it asks."""
    asked = []

    async def on_connection(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            asked.append(head)
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", asked


def response(status, *headers, body=b""):
    lines = [f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}", "connection: close"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@APIS
async def test_text_is_streamed_with_its_usage_and_the_credential_is_sent(api, monkeypatch):
    monkeypatch.setenv("AGENT_KEY", SECRET)
    async with SERVERS[api](echo) as server:
        options = {"api": api, "credential": "AGENT_KEY", "model": "helper"}
        async with remote(server.base_url, **options) as (session, turn, _):
            events = await turn("hello")
            assert names(events).count("message_delta") == 2
            assert text(events) == "helper heard hello"
            told = stats_of(session)["tokenUsage"]
            assert (told["promptTokens"], told["completionTokens"], told["cachedTokens"]) == (
                11,
                7,
                4,
            )
        asked = server.requests[0]
        assert (
            asked["line"]
            == f"POST /v1/{'responses' if api == 'responses' else 'chat/completions'} HTTP/1.1"
        )
        assert asked["headers"]["authorization"] == f"bearer {SECRET}"


async def test_the_conversation_is_sent_along_with_a_chat_completion():
    async with OpenAIServer(echo) as server:
        order = {"system_prompt": "Be kind.", "max_tokens": 9, "model": "other"}
        async with remote(server.base_url, session=order) as (_, turn, _stream):
            await turn("one")
            await turn("two")
        body = server.requests[-1]["body"]
        assert (body["model"], body["max_tokens"]) == ("other", 9)
        assert [(each["role"], each["content"]) for each in body["messages"]] == [
            ("system", "Be kind."),
            ("user", "one"),
            ("assistant", "other heard one"),
            ("user", "two"),
        ]


async def test_a_response_names_the_one_before_it_unless_that_was_cut_short():
    async def script(body):
        yield "half "
        if prompt_of(body) == "hang":
            await asyncio.Event().wait()

    async with (
        ResponsesServer(script) as server,
        remote(server.base_url, api="responses") as (session, turn, stream),
    ):
        await turn("one")
        await turn("two")
        second = server.requests[-1]["body"]
        assert second["previous_response_id"] == "resp_1"
        assert second["input"] == [{"role": "user", "content": "two"}]
        await turn("hang", "message_delta")
        session.abort()
        await stream.until("agent_abort")
        await turn("four")
        fourth = server.requests[-1]["body"]
        assert "previous_response_id" not in fourth
        said = [each["content"] for each in fourth["input"]]
        assert said == ["one", "half ", "two", "half ", "hang", "half ", "four"]


@APIS
async def test_the_clients_tools_are_run_and_their_results_sent(api):
    tools = RecordingToolCaller()
    async with (
        SERVERS[api](echo) as server,
        remote(server.base_url, api=api, tools=tools) as (session, turn, _),
    ):
        session.attach_tool(callback_tool("look", parameters={"type": "object"}))
        events = await turn("look")
        assert tools.calls[0][:2] == ("look", {"at": "it"})
        assert text(events).endswith('heard {"echo": {"at": "it"}}')
        assert names(events).count("tool_execution_end") == 1
        await turn("and again")
        assert server.requests[-1]["body"]["tools"]
        if api == "chat-completions":
            roles = [each["role"] for each in server.requests[-1]["body"]["messages"]]
            assert roles == ["user", "assistant", "tool", "assistant", "user"]


async def test_an_agent_that_goes_on_calling_tools_has_its_turn_ended():
    async def script(body):
        yield tool_call("look", {})

    async with OpenAIServer(script) as server:
        order = {"max_turns": 3}
        tools = RecordingToolCaller()
        async with remote(server.base_url, session=order, tools=tools) as (session, turn, _):
            session.attach_tool(callback_tool("look"))
            events = await turn("go")
            assert data_of(events[-2])["reason"] == "TooManyModelCalls"
            assert len(server.requests) == 3


@APIS
async def test_an_abort_closes_the_connection(api):
    async def script(body):
        yield "begun"
        await asyncio.Event().wait()

    async with (
        SERVERS[api](script) as server,
        remote(server.base_url, api=api) as (session, turn, stream),
    ):
        await turn("go", "message_delta")
        session.abort()
        await stream.until("agent_abort")
        await asyncio.wait_for(server.left.wait(), 20)
        assert stats_of(session)["tokenUsage"]["unknownTurns"] == 1


async def test_a_redirect_is_not_followed_and_the_credential_goes_nowhere_else(monkeypatch):
    monkeypatch.setenv("AGENT_KEY", SECRET)
    elsewhere, address, asked = await serve(response("200 OK"))
    server, target, _ = await serve(response("307 Temporary Redirect", f"location: {address}"))
    async with elsewhere, server:
        async with remote(target, credential="AGENT_KEY") as (_, turn, _stream):
            assert names(await turn("hello"))[-2:] == ["error", "agent_abort"]
        assert asked == []


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (response("302 Found", "location: /x"), "answered 302: redirects are not followed"),
        (response("401 No", body=f"no such key: {SECRET}".encode()), "answered 401"),
        (response("200 OK", "content-encoding: gzip", body=gzip.compress(b"{}")), "compressed"),
        (response("200 OK", "content-type: application/json", body=b"nothing"), "cannot be read"),
        (response("200 OK", "content-type: application/json", body=b'{"choices": 7}'), "be read"),
        (response("200 OK", "content-type: text/event-stream", body=b"data: {}x\n\n"), "be read"),
        (response("200 OK", "content-type: text/event-stream"), "breaks off"),
        (response("200 OK", "content-type: application/json", body=b'{"error": {}}'), "breaks off"),
        (
            response("200 OK", "content-type: application/json", body=b'{"error": {"m": 1}}'),
            "is an error",
        ),
        (b"garbage\r\n\r\n", "cannot be reached"),
        (response("200 OK", "content-type: text/event-stream", body=b"x" * 2**21), "too long"),
    ],
)
async def test_what_a_remote_agent_does_wrong_ends_the_turn_and_tells_no_secret(
    answer, problem, monkeypatch, caplog
):
    monkeypatch.setenv("AGENT_KEY", SECRET)
    server, target, asked = await serve(answer)
    async with server, remote(target, credential="AGENT_KEY") as (_, turn, _stream):
        events = await turn("hello")
        assert names(events)[-2:] == ["error", "agent_abort"]
        assert data_of(events[-2])["reason"] == "AgentFailed"
        assert f"authorization: Bearer {SECRET}" in asked[0]
    assert problem in caplog.text
    assert SECRET not in caplog.text + b"".join(event.json for event in events).decode()


async def test_a_remote_agent_that_says_nothing_for_too_long_has_its_turn_ended(caplog):
    async def script(body):
        yield "begun"
        await asyncio.Event().wait()

    async with (
        OpenAIServer(script) as server,
        remote(server.base_url, timeout_s=0.05) as (_, turn, _stream),
    ):
        assert names(await turn("hello"))[-2:] == ["error", "agent_abort"]
    assert "took too long" in caplog.text


async def test_an_answer_has_a_bound(monkeypatch, caplog):
    monkeypatch.setattr(remote_client, "MAX_ANSWER_BYTES", 2000)

    async def script(body):
        while True:
            yield "more "

    async with OpenAIServer(script) as server, remote(server.base_url) as (_, turn, _stream):
        assert names(await turn("hello"))[-2:] == ["error", "agent_abort"]
    assert "too long" in caplog.text


async def test_a_server_that_does_not_stream_answers_all_the_same():
    said = {"choices": [{"message": {"content": "all at once"}, "finish_reason": "stop"}]}
    body = json.dumps(said).encode()
    server, target, _ = await serve(response("200 OK", "content-type: application/json", body=body))
    async with server, remote(target) as (session, turn, _stream):
        events = await turn("hello")
        assert text(events) == "all at once"
        assert data_of(events[-1])["tokenUsage"] is None
        assert stats_of(session)["tokenUsage"]["unknownTurns"] == 1


async def test_thoughts_are_told_apart_from_text():
    async def script(body):
        yield {"reasoning_content": "hm"}
        yield "so"

    async with OpenAIServer(script) as server, remote(server.base_url) as (_, turn, _stream):
        events = await turn("hello")
        assert "thinking_delta" in names(events)
        assert text(events) == "so"


@pytest.mark.parametrize(
    "target",
    [
        "agents.example/v1",
        "ftp://agents.example",
        "https://user:word@agents.example",
        "https://agents.example/?key=1",
        "https://agents.example/#a",
        "https://agents.example\\@other.example",
    ],
)
def test_an_address_is_plain(target):
    with pytest.raises(InvalidArgument, match="target"):
        OpenAIProgram(target)


@pytest.mark.parametrize(
    ("value", "problem"), [(None, "has no variable"), ("", "empty"), ("a\nb", "in a header")]
)
def test_a_credential_that_cannot_be_sent_is_refused_without_being_shown(
    value, problem, monkeypatch
):
    monkeypatch.delenv("AGENT_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("AGENT_KEY", value)
    with pytest.raises(InvalidArgument, match=problem) as raised:
        OpenAIProgram("https://agents.example/v1", credential="AGENT_KEY")
    assert "a\nb" not in str(raised.value)
