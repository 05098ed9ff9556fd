"""Remote agents that speak A2A, by real connections to an agent made with the protocol's SDK."""

import asyncio
import contextlib
import os

import pytest

if os.environ.get("TESTED_FRAMEWORKS") != "all":
    pytest.importorskip("a2a.client")

from a2a.types import Message, Part, Role, TaskState
from google.protobuf import json_format, struct_pb2

from adapters.a2a_server import a2a_server
from frontdesk.agents import CreateFailed
from frontdesk.agents.a2a import A2AProgram, a2a_client
from frontdesk.agents.a2a.turn import recalled
from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.records import Message as Said
from frontdesk.agents.task import TaskAgentFactory
from support.sessions import (
    Stream,
    data_of,
    names,
    open_service,
    open_session,
    passes,
    stats_of,
    text,
)

pytestmark = pytest.mark.anyio

ENDS = ("agent_end", "agent_abort")
SECRET = "sk-the-secret"


@contextlib.asynccontextmanager
async def remote(target, **options):
    """Open a session of a remote agent; give its conversation, its stream, and turns."""
    program = A2AProgram(target, **options)
    made = Blueprint(name="remote", kind="a2a", factory=TaskAgentFactory(program))
    async with open_service(made, abort_grace_s=10) as service:
        conversation = await open_session(service, model="default")
        stream = Stream(conversation)

        async def turn(prompt, *until):
            conversation.prompt(prompt)
            return await stream.until(*(until or ENDS))

        yield conversation, turn, stream
        stream.close()
        # The SDK leaves some of its generators to the loop, which closes them in tasks.
        await passes(20)


def said(word):
    return [Part(text=word)]


async def echo(context, updater):
    """Say what was said, in two pieces of an artifact."""
    await updater.add_artifact(said("heard "), artifact_id="a")
    await updater.add_artifact(said(context.get_user_input()), artifact_id="a", append=True)
    await updater.complete()


async def hang(context, updater):
    await updater.add_artifact(said("begun"))
    await asyncio.Event().wait()


async def test_text_is_streamed_and_the_turns_are_tasks_of_one_context(monkeypatch):
    monkeypatch.setenv("AGENT_KEY", SECRET)
    async with a2a_server(echo) as server:
        async with remote(server.url, credential="AGENT_KEY") as (session, turn, _):
            events = await turn("one")
            assert names(events).count("message_delta") == 2
            assert text(events) == "heard one"
            assert text(await turn("two")) == "heard two"
            assert stats_of(session)["tokenUsage"]["unknownTurns"] == 2
        assert server.prompts == ["one", "two"]
        one, two = server.executor.asked
        assert one.context_id == two.context_id
        assert one.task_id != two.task_id
        assert {each.get(b"authorization") for each in server.headers} == {b"Bearer sk-the-secret"}
        # One card for the session, then its two messages.
        assert len(server.headers) == 3


async def test_what_is_said_while_a_task_goes_on_is_a_thought():
    async def script(context, updater):
        message = updater.new_agent_message(said("looking it up"))
        await updater.update_status(TaskState.TASK_STATE_WORKING, message)
        await echo(context, updater)

    async with a2a_server(script) as server, remote(server.url) as (_, turn, _stream):
        events = await turn("one")
        thoughts = [data_of(each)["delta"] for each in events if each.name == "thinking_delta"]
        assert thoughts == ["looking it up"]
        assert text(events) == "heard one"


async def test_an_answer_that_is_only_in_the_status_is_the_answer():
    async def script(context, updater):
        await updater.complete(updater.new_agent_message(said("that is all")))

    async with a2a_server(script) as server, remote(server.url) as (_, turn, _stream):
        assert text(await turn("one")) == "that is all"


async def test_a_plain_message_is_an_answer():
    async def script(context, updater):
        message = Message(
            message_id="m", role=Role.ROLE_AGENT, parts=said("hello"), context_id=context.context_id
        )
        await updater.event_queue.enqueue_event(message)

    async with a2a_server(script, tasks=False) as server, remote(server.url) as (_, turn, _stream):
        assert text(await turn("one")) == "hello"
        assert text(await turn("two")) == "hello"
        first, second = server.executor.asked
        assert first.context_id == second.context_id


async def test_an_agent_that_does_not_stream_answers_all_the_same():
    async with a2a_server(echo, streaming=False) as server, remote(server.url) as (_, turn, _s):
        assert text(await turn("one")) == "heard one"


async def test_a_task_that_wants_input_asks_the_user_and_goes_on_with_the_answer():
    async def script(context, updater):
        if context.get_user_input() == "go":
            await updater.requires_input(updater.new_agent_message(said("which one?")))
        else:
            await echo(context, updater)

    async with a2a_server(script) as server, remote(server.url) as (session, turn, stream):
        asked = data_of((await turn("go", "ask_user"))[-1])
        assert asked["question"] == "which one?"
        session.respond(asked["ref"], "the left one")
        assert text(await stream.until(*ENDS)) == "heard the left one"
        first, second = server.executor.asked
        assert first.task_id == second.task_id


async def test_an_abort_cancels_the_task_there():
    async with a2a_server(hang) as server, remote(server.url) as (session, turn, stream):
        await turn("go", "message_delta")
        session.abort()
        assert (await stream.until(*ENDS))[-1].name == "agent_abort"
        assert server.executor.cancelled == [server.executor.asked[0].task_id]


async def test_an_abort_while_the_user_is_asked_cancels_the_task_there():
    async def script(context, updater):
        await updater.requires_input(updater.new_agent_message(said("which one?")))

    async with a2a_server(script) as server, remote(server.url) as (session, turn, stream):
        await turn("go", "ask_user")
        session.abort()
        assert (await stream.until(*ENDS))[-1].name == "agent_abort"
        assert server.executor.cancelled == [server.executor.asked[0].task_id]


async def test_a_remote_agent_that_does_not_cancel_delays_the_abort_no_longer_than_its_bound(
    monkeypatch,
):
    monkeypatch.setattr("frontdesk.agents.a2a.turn.CANCEL_TIMEOUT_S", 0.05)
    async with a2a_server(hang) as server, remote(server.url) as (session, turn, stream):

        async def deaf(context, queue):
            await asyncio.Event().wait()

        server.executor.cancel = deaf
        await turn("go", "message_delta")
        session.abort()
        assert (await stream.until(*ENDS))[-1].name == "agent_abort"


@pytest.mark.parametrize(
    ("state", "problem"),
    [("failed", "task failed"), ("reject", "refused"), ("requires_auth", "another credential")],
)
async def test_a_task_that_fails_there_fails_the_turn_and_says_why(state, problem, caplog):
    async def script(context, updater):
        await getattr(updater, state)(updater.new_agent_message(said("I cannot")))

    async with a2a_server(script) as server, remote(server.url) as (_, turn, _stream):
        events = await turn("go")
        assert text(events) == "I cannot"
        assert names(events)[-2:] == ["error", "agent_abort"]
        assert data_of(events[-2])["reason"] == "AgentFailed"
    assert problem in caplog.text


@pytest.mark.parametrize(
    "told",
    [
        {"usage": {"prompt_tokens": 11, "completion_tokens": 7, "cached_tokens": 4}},
        {
            "adk_usage_metadata": {
                "promptTokenCount": 11,
                "candidatesTokenCount": 7,
                "cachedContentTokenCount": 4,
            }
        },
    ],
    ids=["usage", "adk"],
)
async def test_what_an_agent_says_that_it_used_is_counted(told):
    async def script(context, updater):
        await updater.add_artifact(said("hello"))
        metadata = json_format.ParseDict(told, struct_pb2.Struct())
        await updater.update_status(TaskState.TASK_STATE_COMPLETED, metadata=metadata)

    async with a2a_server(script) as server, remote(server.url) as (session, turn, _stream):
        await turn("go")
        used = stats_of(session)["tokenUsage"]
        assert (used["promptTokens"], used["completionTokens"], used["cachedTokens"]) == (11, 7, 4)
        assert used["unknownTurns"] == 0


def test_an_agent_that_was_not_there_is_told_what_was_said_before():
    before = (Said("user", "one"), Said("assistant", "heard one"))
    assert recalled(before, "two", new=True) == (
        "What was said before:\nuser: one\nassistant: heard one\n\nNow:\ntwo"
    )
    assert recalled(before, "two", new=False) == "two"


async def test_a_card_that_names_another_host_is_not_called(caplog):
    async with a2a_server(echo) as elsewhere:
        named = f"{elsewhere.url}/rpc"
        async with a2a_server(echo, interface=named) as server, remote(server.url) as (_, turn, _s):
            assert names(await turn("go"))[-2:] == ["error", "agent_abort"]
        assert elsewhere.headers == []
    assert "at the host of its own address" in caplog.text


async def serve(answer):
    """Serve each connection one fixed answer, whatever it asks."""

    async def on_connection(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def response(status, *headers, body=b""):
    lines = [f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}", "connection: close"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (response("302 Found", "location: http://127.0.0.1:1/"), "redirects are not followed"),
        (response("401 No", body=f"no such key: {SECRET}".encode()), "answered 401"),
        (response("200 OK", "content-encoding: gzip", body=b"x"), "compressed"),
        (response("200 OK", "content-type: application/json", body=b"nothing"), "failed"),
        (
            response("200 OK", "content-type: application/json", body=b"{}"),
            "at the host of its own",
        ),
        (response("200 OK", body=b" " * (2**20 + 1)), "too long"),
        (b"garbage\r\n\r\n", "failed"),
    ],
)
async def test_what_a_remote_agent_does_wrong_ends_the_turn_and_tells_no_secret(
    answer, problem, monkeypatch, caplog
):
    monkeypatch.setenv("AGENT_KEY", SECRET)
    server, target = await serve(answer)
    async with server, remote(target, credential="AGENT_KEY") as (_, turn, _stream):
        events = await turn("hello")
        assert names(events)[-2:] == ["error", "agent_abort"]
        assert data_of(events[-2])["reason"] == "AgentFailed"
    assert problem in caplog.text
    assert SECRET not in caplog.text + b"".join(event.json for event in events).decode()


async def test_an_answer_has_a_bound(monkeypatch, caplog):
    async def script(context, updater):
        await updater.add_artifact(said("x" * 3000))
        await updater.complete()

    monkeypatch.setattr(a2a_client, "MAX_ANSWER_BYTES", 2000)
    async with a2a_server(script) as server, remote(server.url) as (_, turn, _stream):
        assert names(await turn("hello"))[-2:] == ["error", "agent_abort"]
    assert "too long" in caplog.text


async def test_another_model_than_its_own_is_refused():
    async with a2a_server(echo) as server, remote(server.url) as (session, _, _stream):
        with pytest.raises(CreateFailed, match="ask for default"):
            session.switch_model("another")
