"""Pydantic AI end to end, against an OpenAI-compatible server on loopback."""

import asyncio
import contextlib
import gzip
import tracemalloc

import pytest

from support.openai_server import OpenAIServer, tool_call
from support.sessions import (
    BOUND_S,
    Stream,
    data_of,
    names,
    open_service,
    open_session,
    stats_of,
    text,
)

pytest.importorskip("pydantic_ai")
pytest.importorskip("openai")

from frontdesk.agents.errors import CreateFailed
from frontdesk.agents.pydantic_ai import PydanticAIProgram, pydantic_ai_blueprint

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def operators_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-the-operators")


def local(**options):
    program = PydanticAIProgram(base_urls=("http://127.0.0.1:*/v1",), **options)
    return pydantic_ai_blueprint(program=program)


def order(server, **more):
    return {"model": "openai:small", "provider_opts": {"baseUrl": server.base_url}, **more}


async def hello(body):
    for word in ("hello ", "from ", "the server"):
        yield word


async def test_a_servers_words_are_streamed_and_its_usage_is_counted():
    async with OpenAIServer(hello) as server, open_service(local()) as service:
        conversation = await open_session(service, **order(server, system_prompt="be kind"))
        stream = Stream(conversation)
        conversation.prompt("hi")
        await stream.until("agent_end", "agent_abort")
        stream.close()
        assert text(stream.events) == "hello from the server"
        assert data_of(stream.events[-1])["tokenUsage"] == {
            "promptTokens": 11,
            "completionTokens": 7,
            "totalTokens": 18,
        }
        assert stats_of(conversation)["tokenUsage"]["cachedTokens"] == 4
        (request,) = server.requests
        assert [each["content"] for each in request["body"]["messages"]] == ["be kind", "hi"]
        assert request["body"]["model"] == "small"


@pytest.mark.parametrize("key", [None, "sk-the-clients"])
async def test_the_operators_key_is_not_sent_to_a_server_of_the_clients(key):
    async with OpenAIServer(hello) as server, open_service(local()) as service:
        wanted = order(server)
        if key:
            wanted["provider_opts"]["apiKey"] = key
        conversation = await open_session(service, **wanted)
        stream = Stream(conversation)
        conversation.prompt("hi")
        await stream.until("agent_end")
        stream.close()
        sent = server.requests[0]["headers"]["authorization"]
        assert sent == f"bearer {key or 'none'}"


@pytest.mark.parametrize("key", [None, "sk-the-clients"])
async def test_nothing_of_the_operators_environment_reaches_a_server_of_the_clients(
    key, monkeypatch, tmp_path
):
    planted = {
        "OPENAI_API_KEY": "planted-key",
        "OPENAI_ADMIN_KEY": "planted-admin",
        "OPENAI_ORG_ID": "planted-org",
        "OPENAI_PROJECT_ID": "planted-project",
        "OPENAI_CUSTOM_HEADERS": "x-operator: planted-header\nauthorization: planted-auth",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/planted-base",
        "HTTP_PROXY": "http://planted-proxy:planted@127.0.0.1:9",
        "ALL_PROXY": "http://planted-proxy:planted@127.0.0.1:9",
        "NETRC": str(tmp_path / "netrc"),
    }
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login planted password planted-netrc\n")
    (tmp_path / "netrc").chmod(0o600)
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    async with OpenAIServer(hello) as server, open_service(local()) as service:
        wanted = order(server)
        if key:
            wanted["provider_opts"]["apiKey"] = key
        conversation = await open_session(service, **wanted)
        stream = Stream(conversation)
        conversation.prompt("hi")
        await stream.until("agent_end")
        stream.close()
        (request,) = server.requests
        assert "planted" not in repr(request)
        assert request["headers"]["authorization"] == f"bearer {key or 'none'}"
        assert set(request["headers"]) <= {
            *("host", "accept", "accept-encoding", "connection", "user-agent"),
            *("content-type", "content-length", "authorization"),
        }


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "GZIP", "gzip, gzip"])
async def test_a_servers_compressed_answer_is_refused_and_never_unpacked(encoding):
    body = gzip.compress(bytes(100_000_000), 1)

    async def serve(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        assert b"accept-encoding: identity" in request.lower()
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n"
            b"content-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (encoding.encode(), len(body))
        )
        with contextlib.suppress(ConnectionError):
            writer.write(body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, open_service(local()) as service:
        conversation = await open_session(
            service, model="openai:small", provider_opts={"baseUrl": address}
        )
        stream = Stream(conversation)
        conversation.prompt("hi")
        tracemalloc.start()
        await stream.until("agent_abort")
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        stream.close()
        assert peak_bytes < 30_000_000
        assert conversation.state == "idle"


async def test_a_tool_goes_round_through_the_server():
    async def script(body):
        results = [each["content"] for each in body["messages"] if each["role"] == "tool"]
        if results:
            yield f"it is {results[0]}"
        else:
            yield tool_call("add", {"a": 2, "b": 3})

    async def add(a: int, b: int) -> int:
        return a + b

    async with OpenAIServer(script) as server, open_service(local(tools=[add])) as service:
        conversation = await open_session(service, **order(server, tools=("add",)))
        stream = Stream(conversation)
        conversation.prompt("2 + 3?")
        await stream.until("agent_end", "agent_abort")
        stream.close()
        assert text(stream.events) == "it is 5"
        assert "tool_execution_end" in names(stream.events)
        assert len(server.requests) == 2


async def test_an_abort_in_the_middle_of_a_stream_hangs_up_on_the_server():
    async def script(body):
        yield "begun "
        await asyncio.Event().wait()

    async with OpenAIServer(script) as server, open_service(local()) as service:
        conversation = await open_session(service, **order(server))
        stream = Stream(conversation)
        conversation.prompt("hi")
        await stream.until("message_delta")
        conversation.abort()
        await stream.until("agent_abort")
        await asyncio.wait_for(server.left.wait(), BOUND_S)
        stream.close()
        assert service.stuck == 0


async def test_a_server_that_is_not_there_ends_the_turn_and_not_the_session():
    async with OpenAIServer(hello) as server:
        wanted = order(server)
    async with open_service(local()) as service:
        conversation = await open_session(service, **wanted)
        stream = Stream(conversation)
        conversation.prompt("hi")
        await stream.until("agent_abort")
        stream.close()
        assert data_of(stream.events[-2])["reason"] == "ModelConnectionError"
        assert conversation.state == "idle"


async def test_an_address_that_the_operator_did_not_allow_is_refused():
    async with open_service(local()) as service:
        for address in ("http://169.254.169.254/v1", "http://127.0.0.1.evil.example/v1", "x"):
            with pytest.raises(CreateFailed):
                await open_session(
                    service, model="openai:small", provider_opts={"baseUrl": address}
                )
