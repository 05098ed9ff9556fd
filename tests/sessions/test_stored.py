"""Conversations that are stored: what was seen is there after a restart, and they go on."""

import asyncio
import json

import pytest

from frontdesk import SessionAlreadyExists, SessionNotFound
from frontdesk.agents.events import Gap
from frontdesk.agents.records import Message
from frontdesk.persistence.errors import StorageUnavailable
from frontdesk.sessions.errors import ReaderTooSlow
from support.sessions import Stream, open_session, parrot, scripted
from support.stored_services import as_killed, found, stored, turned

pytestmark = pytest.mark.anyio


def names(events):
    return [each.name for each in events]


async def test_a_conversation_that_was_left_is_dormant_and_its_next_agent_knows_the_history(
    tmp_path,
):
    seen = []

    async def script(turn):
        seen.append([each.content for each in turn.history])
        yield f"{turn.text}!"

    agent = scripted(script)
    async with stored(tmp_path, agent) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        conversation.prompt("one")
        before = await stream.until("agent_end")
        stream.close()
    async with stored(tmp_path, agent) as service:
        conversation = await found(service)
        assert (conversation.state, conversation.dormant) == ("idle", True)
        assert conversation.counters.turns == 1
        stream = Stream(conversation, since=before[-1].id)
        conversation.prompt("two")
        events = await stream.until("agent_end")
        stream.close()
        assert names(events)[:2] == ["agent_restarted", "prompt_received"]
        assert [each.index for each in events] == list(
            range(before[-1].index + 1, before[-1].index + 1 + len(events))
        )
        whole = Stream(conversation)
        assert [each.id for each in await whole.until("agent_end", count=2)] == [
            each.id for each in (*before, *events)
        ]
        whole.close()
    assert seen == [[], ["one", "one!"]]


async def test_what_waits_when_the_service_ends_begins_in_the_next(tmp_path):
    begun = asyncio.Event()

    async def script(turn):
        if turn.text == "first":
            begun.set()
            await asyncio.Event().wait()
        yield turn.text

    agent = scripted(script)
    async with stored(tmp_path, agent, end_grace_s=0.2) as service:
        conversation = await open_session(service, session_id="s-1")
        conversation.prompt("first")
        await begun.wait()
        accepted = conversation.prompt("second")
        await conversation.committed()
    async with stored(tmp_path, agent) as service:
        conversation = await found(service)
        stream = Stream(conversation)
        events = await stream.until("agent_end")
        stream.close()
        aborts = [each for each in events if each.name == "agent_abort"]
        assert [b'"shutdown"' in each.json for each in aborts] == [True]
        assert events[-1].request_id == accepted.request_id


async def test_a_dormant_id_is_taken_and_another_tenants_is_free(tmp_path):
    async with stored(tmp_path, parrot) as service:
        await open_session(service, session_id="s-1")
    async with stored(tmp_path, parrot) as service:
        with pytest.raises(SessionAlreadyExists):
            await open_session(service, session_id="s-1")
        assert await open_session(service, session_id="s-1", tenant="other")


async def test_what_was_deleted_is_as_if_it_had_never_been(tmp_path):
    async with stored(tmp_path, parrot) as service:
        for session_id in ("s-1", "s-2"):
            conversation = await open_session(service, session_id=session_id)
            conversation.prompt("hello")
            await conversation.committed()
        await service.tenant("acme", "key-1").delete("s-1")
        with pytest.raises(SessionNotFound) as refused:
            await found(service)
        assert type(refused.value) is SessionNotFound
    async with stored(tmp_path, parrot) as service:
        await found(service, "s-2")
        await service.tenant("acme", "key-1").delete("s-2")
        for session_id in ("s-1", "s-2"):
            with pytest.raises(SessionNotFound):
                await found(service, session_id)
        assert await open_session(service, session_id="s-1")


async def test_the_messages_of_turns_are_there_after_a_restart_each_once(tmp_path):
    async with stored(tmp_path, parrot) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        for text in ("one", "two"):
            conversation.prompt(text)
            await stream.until("agent_end")
        stream.close()
        before = conversation.history.all()
    async with stored(tmp_path, parrot) as service:
        conversation = await found(service)
        assert conversation.history.all() == before
        assert before[0] == Message("user", "one")


async def test_an_idle_session_is_dormant_and_wakes_at_its_next_prompt(tmp_path):
    agent = scripted(parrot_script, idle_timeout_s=0.05, unused_timeout_s=0.05)
    async with stored(tmp_path, agent) as service:
        conversation = await open_session(service, session_id="s-1")
        async with asyncio.timeout(20):
            while not conversation.dormant:
                await asyncio.sleep(0.01)
        assert service.store.count() == 0
        again = await found(service)
        stream = Stream(again, since=None)
        again.prompt("hello")
        events = await stream.until("agent_end")
        stream.close()
        assert "prompt_received" in names(events)


async def parrot_script(turn):
    yield turn.text


async def test_an_approval_of_a_turn_that_was_cut_off_is_cancelled_before_its_abort(tmp_path):
    async def script(turn):
        await turn.approval("refund", {"order": 17})
        yield "never said"

    (tmp_path / "state").mkdir()
    agent = scripted(script)
    async with stored(tmp_path / "state", agent, end_grace_s=0.01) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        conversation.prompt("ask")
        asked = (await stream.until("approval_required"))[-1]
        stream.close()
        killed = as_killed(tmp_path / "state")
    async with stored(killed, agent) as service:
        stream = Stream(await found(service), since=asked.id)
        resolved, abort = await stream.until("agent_abort")
        stream.close()
    told = json.loads(resolved.json)
    assert told["approvalId"] == json.loads(asked.json)["approvalId"]
    assert told["status"] == "cancelled"
    assert (resolved.name, resolved.request_id) == ("approval_resolved", abort.request_id)
    assert abort.index == resolved.index + 1 == asked.index + 2


async def test_a_prompt_that_is_aborted_while_there_is_no_agent_never_runs(tmp_path):
    ran, begun = [], asyncio.Event()

    async def script(turn):
        ran.append(turn.text)
        begun.set()
        await asyncio.Event().wait()
        yield turn.text

    (tmp_path / "state").mkdir()
    async with stored(tmp_path / "state", scripted(script), end_grace_s=0.01) as service:
        conversation = await open_session(service, session_id="s-1")
        for text in ("first", "second", "third"):
            conversation.prompt(text)
        await begun.wait()
    async with stored(tmp_path / "state", scripted(script, resume="manual")) as service:
        conversation = await found(service)
        second, third = (prompt.request_id for prompt in conversation.prompts)
        stream = Stream(conversation, since=conversation.log.id_of(conversation.log.last_index))
        conversation.abort("changed my mind")
        *before, abort = await stream.until("agent_abort")
        stream.close()
        assert names(before) == ["prompt_received", "agent_start"]
        assert {each.request_id for each in (*before, abort)} == {second}
        assert json.loads(abort.json)["reason"] == "changed my mind"
        await conversation.committed()
        killed = as_killed(tmp_path / "state")
    begun.clear()
    async with stored(killed, scripted(script), end_grace_s=0.01) as service:
        conversation = await found(service)
        assert (await conversation.end_of(second)).aborted == "changed my mind"
        await begun.wait()
        assert conversation.turn.request_id == third
    assert ran == ["first", "third"]


async def test_who_saw_more_than_what_was_put_back_goes_on_behind_the_gap(tmp_path):
    (tmp_path / "state").mkdir()
    async with stored(tmp_path / "state", parrot) as service:
        conversation = await open_session(service, session_id="s-1")
        beginning = conversation.prompt("one").since
        stream = Stream(conversation, since="0")
        kept = await stream.until("agent_end")
        await conversation.committed()
        backup = as_killed(tmp_path / "state")
        conversation.prompt("two")
        lost = await stream.until("agent_end")
        stream.close()
    async with stored(backup, parrot) as service:
        conversation = await found(service)
        conversation.prompt("three")
        stream = Stream(conversation, since=lost[-1].id)
        gap = await stream.reader.next()
        assert (type(gap), gap.requested) == (Gap, lost[-1].id)
        events = await stream.until("agent_end")
        stream.close()
        assert events[0].index == kept[-1].index + 1
        whole = Stream(conversation, since=beginning)
        assert (await whole.until("agent_end", count=2))[0].id == kept[0].id, "no gap"
        whole.close()


async def test_a_stream_stands_still_while_the_storage_cannot_be_asked(tmp_path, monkeypatch):
    monkeypatch.setattr("frontdesk.sessions.event_reader.AGAIN_S", 0.01)
    async with stored(tmp_path, parrot) as service:
        await turned(await open_session(service, session_id="s-1"), "one")
    async with stored(tmp_path, parrot) as service:
        conversation = await found(service)
        read, away = conversation.log.stored.read, asyncio.Event()

        async def unreachable(after):
            away.set()
            raise StorageUnavailable("away")

        conversation.log.stored = conversation.log.stored._replace(read=unreachable)
        stream = Stream(conversation, since="0")
        reading = asyncio.create_task(stream.until("agent_end"))
        await away.wait()
        conversation.log.stored = conversation.log.stored._replace(read=read)
        assert (await reading)[0].index == 1
        stream.close()
        conversation.log.stored = conversation.log.stored._replace(read=unreachable)
        stream = Stream(conversation, since="0")
        conversation.log.cut()
        with pytest.raises(ReaderTooSlow):  # as its process is to end
            await stream.reader.next()
        stream.close()
