"""Sessions as JSON lines, and checkpoints: what comes back is what was written out."""

import asyncio
import json

import msgspec
import pytest

from frontdesk import InvalidArgument, SessionAlreadyExists, SessionNotFound
from frontdesk.agents.errors import CreateFailed
from frontdesk.agents.events import ToolExecutionEnd, ToolExecutionStart
from frontdesk.agents.records import ForkPoint
from frontdesk.sessions.checkpoints import Checkpoints
from frontdesk.sessions.errors import (
    CheckpointRefused,
    ImportRefused,
    NotStored,
    UnknownCheckpoint,
)
from support.sessions import Stream, open_service, open_session, parrot, scripted, stats_of
from support.stored_services import exported, found, imported, stored, turned

pytestmark = pytest.mark.anyio


async def script(turn):
    if turn.text == "fail":
        raise ValueError("no")
    yield ToolExecutionStart("c1", "look", {"for": turn.text})
    yield ToolExecutionEnd("c1", "look", "ok", "found é", 1)
    yield f"{turn.text}!"


AGENT = scripted(script)


async def seen(conversation):
    """Return all that a client sees of a conversation but its ids."""
    stream = Stream(conversation)
    events = []
    while not events or events[-1].index < conversation.log.last_index:
        events += await stream.until(*EVERY)
    stream.close()
    return (
        [(each.index, each.name, each.request_id, each.json) for each in events],
        conversation.history.all(),
        stats_of(conversation) | {"sessionId": "", "eventBufferCount": 0},
    )


EVERY = ("agent_end", "agent_abort", "session_end", "agent_restarted")


def kinds(lines):
    return [json.loads(line)["line"] for line in lines]


async def test_what_is_exported_and_imported_has_the_same_messages_turns_and_events(tmp_path):
    async with stored(tmp_path, AGENT) as service:
        original = await open_session(service, session_id="s-1", system_prompt="secret words")
        await turned(original, "one", "fail", "two")
        await Checkpoints(original).make("here")
        lines = await exported(service)
        copy = await imported(service, lines, session_id="s-2")
        assert await seen(copy) == await seen(original)
        again = await exported(service, "s-2")
        assert again[1:] == lines[1:]
        assert json.loads(again[0]) == json.loads(lines[0]) | {"sessionId": "s-2"}
        assert kinds(lines)[0] == "conversation"
        assert [each.name for each in await Checkpoints(copy).all()] == ["here"]
        assert b"secret words" not in b"".join(lines)


async def test_an_imported_session_goes_on_and_its_agent_knows_the_history(tmp_path):
    known = []

    async def remembering(turn):
        known.append([each.content for each in turn.history])
        yield "answer"

    async with stored(tmp_path / "one", scripted(remembering)) as service:
        await turned(await open_session(service, session_id="s-1"), "first")
        lines = await exported(service)
    async with stored(tmp_path / "two", scripted(remembering)) as service:
        copy = await imported(service, lines)
        assert copy.dormant
        await turned(copy, "second")
        assert known[-1] == ["first", "answer"]
        stream = Stream(copy, since="0")
        told = (await stream.until("agent_restarted"))[-1]
        stream.close()
        assert json.loads(told.json)["reason"] == "imported"
    async with stored(tmp_path / "two", scripted(remembering)) as service:
        assert len((await found(service)).history.all()) == 4


async def test_what_is_under_way_is_not_exported(tmp_path):
    begun = asyncio.Event()

    async def waits(turn):
        if turn.text == "second":
            begun.set()
            await asyncio.Event().wait()
        yield "answer"

    async with stored(tmp_path, scripted(waits), end_grace_s=0.1) as service:
        original = await open_session(service, session_id="s-1")
        await turned(original, "first")
        before = await exported(service)
        original.prompt("second")
        original.prompt("third")
        await begun.wait()
        assert await exported(service) == before


async def test_wrong_lines_are_named_and_nothing_is_imported(tmp_path):
    async with stored(tmp_path, AGENT) as service:
        await turned(await open_session(service, session_id="s-1"), "one")
        lines = await exported(service)
        at = {kind: kinds(lines).index(kind) for kind in kinds(lines)[::-1]}
        wrong = list(lines)
        wrong[at["message"]] = b'{"line":"message","position":"one"}\n'
        wrong[at["event"]] = b'{"line":"event","index":1,"type":"nonsense","data":{}}\n'
        wrong[at["turn"]] = b"[\n"
        with pytest.raises(ImportRefused) as refused:
            await imported(service, wrong, session_id="s-2")
        named = [line for line, _ in refused.value.problems]
        assert named[:3] == [at["message"] + 1, at["turn"] + 1, at["event"] + 1]
        for broken in (
            [],
            lines[:-1],
            lines[1:],
            [*lines, lines[1]],
            [*lines[:1], *lines[2:]],
            [lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]],
            [lines[0], lines[at["event"]], *lines[1:]],
        ):
            with pytest.raises(ImportRefused):
                await imported(service, broken, session_id="s-2")
        with pytest.raises(SessionNotFound):
            await found(service, "s-2")
        with pytest.raises(SessionAlreadyExists):
            await imported(service, lines)
        other = lines[0].replace(b'"scripted"', b'"another"')
        with pytest.raises(CreateFailed):
            await imported(service, [other, *lines[1:]], session_id="s-2")


async def test_an_ended_session_is_exported_and_has_ended_where_it_is_imported(tmp_path):
    async with stored(tmp_path, parrot) as service:
        original = await open_session(service, session_id="s-1")
        await turned(original, "one")
        lines = await exported(service)
        first = json.loads(lines[0])
        first["ended"] = {"kind": "normal"}
        lines[0] = json.dumps(first).encode() + b"\n"
        copy = await imported(service, lines, session_id="s-2")
        assert copy.ended is not None
        assert copy.ended.kind == "normal"


async def test_a_checkpoint_names_the_end_of_a_turn_and_a_fork_begins_there(tmp_path):
    async with stored(tmp_path, parrot) as service:
        original = await open_session(service, session_id="s-1")
        checkpoints = Checkpoints(original)
        with pytest.raises(CheckpointRefused):
            await checkpoints.make("early")
        (request_id,) = await turned(original, "one")
        made = await checkpoints.make("one")
        assert made.request_id == request_id
        assert await checkpoints.make("one") == made
        await turned(original, "two")
        with pytest.raises(CheckpointRefused):
            await checkpoints.make("one")
        for impossible in ("", "req_1", "..", "a/b", "x" * 65):
            with pytest.raises(InvalidArgument):
                await checkpoints.make(impossible)
    async with stored(tmp_path, parrot) as service:
        checkpoints = Checkpoints(await found(service))
        assert [each.name for each in await checkpoints.all()] == ["one"]
        copy = await open_session(service, model="", fork=ForkPoint(session_id="s-1", after="one"))
        assert [each.content for each in copy.history.all()] == ["one", "one "]
        await checkpoints.remove("one")
        with pytest.raises(UnknownCheckpoint):
            await checkpoints.remove("one")
        assert await checkpoints.all() == []


async def test_what_is_in_memory_only_is_neither_exported_nor_imported():
    async with open_service(parrot) as service:
        original = await open_session(service, session_id="s-1")
        with pytest.raises(NotStored):
            service.tenant("acme", "key-1").export("s-1")
        with pytest.raises(NotStored):
            Checkpoints(original)


async def test_secrets_of_the_options_are_taken_from_the_first_line_where_they_are_given(tmp_path):
    async with stored(tmp_path, AGENT) as service:
        await open_session(service, session_id="s-1", system_prompt="Be brief.")
        lines = await exported(service)
        first = msgspec.json.decode(lines[0]) | {"systemPrompt": "Be brief."}
        lines[0] = msgspec.json.encode(first) + b"\n"
        copy = await imported(service, lines, session_id="s-2")
        assert copy.context.system_prompt == "Be brief."
