"""Dormant sessions: how they come to be, get agents again, and what keeps them from it."""

import asyncio

import pytest

from frontdesk import SessionLimitExceeded, SessionNotFound
from frontdesk.agents import Blueprints
from frontdesk.agents.errors import CreateFailed
from frontdesk.agents.task import TaskAgent
from frontdesk.clock import SystemClock
from frontdesk.keeper.client import Keeper
from frontdesk.sessions.errors import NotResumable, SessionDead
from frontdesk.sessions.keeping_settings import KeepingSettings
from frontdesk.store import Limits
from support.isolated_sessions import isolated
from support.processes import Life
from support.sessions import (
    FactoryOfTheTest,
    Stream,
    data_of,
    made_by,
    names,
    open_session,
    parrot,
    passes,
    scripted,
    soon,
    text,
    waiting,
)
from support.stored_services import found, leave, stored

pytestmark = pytest.mark.anyio


async def said(conversation, prompt="hello"):
    """Prompt, and return the events of the turn."""
    stream = Stream(conversation, since=conversation.log.id_of(conversation.log.visible))
    conversation.prompt(prompt)
    events = await stream.until("agent_end", "agent_abort")
    stream.close()
    return events


async def test_an_agent_that_takes_over_says_why_and_how_often_over_restarts(tmp_path):
    async with stored(tmp_path, parrot) as service:
        conversation = await open_session(service, session_id="s-1")
        await leave(service, conversation)
        assert data_of((await said(conversation))[0])["reason"] == "expired"
    async with stored(tmp_path, parrot) as service:
        event = data_of((await said(await found(service)))[0])
        assert (event["reason"], event["count"]) == ("shutdown", 2)


@pytest.mark.slow
async def test_no_process_of_a_stored_session_outlives_its_closing_or_its_erasure(tmp_path):
    keeper = Keeper()
    async with keeper, stored(tmp_path, isolated("counted", keeper=keeper)) as service:
        sessions = service.tenant("acme", "key-1")
        conversation = await open_session(service, session_id="s-1")
        assert text(await said(conversation, "one")) == "['one']"
        first = Life(conversation.pid)
        assert (await sessions.close("s-1")).dormant
        assert first.over
        conversation = await sessions.resume("s-1")
        second = Life(conversation.pid)
        assert text(await said(conversation, "two")) == "['one', 'two']"
        await sessions.close("s-1")
        assert second.over
        assert text(await said(conversation, "three")) == "['one', 'two', 'three']"
        third = Life(conversation.pid)
        await sessions.delete("s-1")
        assert third.over
        with pytest.raises(SessionNotFound):
            await found(service)


async def test_a_prompt_that_comes_while_the_agent_leaves_wakes_the_next_one(tmp_path):
    async with stored(tmp_path, parrot) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        leaving = asyncio.create_task(leave(service, conversation))
        await passes(1)
        assert conversation.leaving
        conversation.prompt("hello")
        events = await stream.until("agent_end")
        stream.close()
        await leaving
        assert names(events)[0] == "agent_restarted"


async def test_a_session_is_found_again_as_the_same_one_while_somebody_has_it(tmp_path):
    keeping = KeepingSettings(max_loaded=1)
    async with stored(tmp_path, parrot, keeping=keeping) as service:
        opened = [await open_session(service, session_id=f"s-{n}") for n in range(3)]
        for each in opened:
            await each.committed()
            await leave(service, each)
            await each.committed()
        assert len(service._keeping._dormant) == 1
        assert await found(service, "s-0") is opened[0]
        assert text(await said(opened[1])) == "hello "
        opened.clear()
        assert text(await said(await found(service, "s-2"))) == "hello "


async def test_what_is_read_by_a_stream_is_not_unloaded(tmp_path):
    keeping = KeepingSettings(max_loaded=1)
    async with stored(tmp_path, parrot, keeping=keeping) as service:
        first = await open_session(service, session_id="s-1")
        stream = Stream(first)
        for each in (first, await open_session(service, session_id="s-2")):
            await each.committed()
            await leave(service, each)
        assert service._keeping.get("acme/s-1").conversation is first
        stream.close()


async def test_a_blueprint_that_is_gone_blocks_its_sessions_until_it_comes_back(tmp_path):
    begun = asyncio.Event()

    async def slow(turn):
        begun.set()
        await asyncio.Event().wait()
        yield ""

    async with stored(tmp_path, scripted(slow, name="b"), end_grace_s=0.1) as service:
        conversation = await open_session(service, session_id="s-1")
        conversation.prompt("first")
        await begun.wait()
        accepted = conversation.prompt("second")
        await conversation.committed()
    async with stored(tmp_path, parrot) as service:
        conversation = await found(service)
        assert "no blueprint 'b'" in conversation.blocked
        assert conversation.state == "restarting"
        with pytest.raises(NotResumable):
            conversation.prompt("third")
        assert conversation.history.all()[0].content == "first"
        stream = Stream(conversation)
        service.blueprints = Blueprints([scripted(echo, name="b")])
        events = await stream.until("agent_end")
        stream.close()
        assert events[-1].request_id == accepted.request_id
        assert conversation.blocked is None


async def echo(turn):
    yield turn.text


async def test_a_model_that_is_refused_by_now_blocks_and_another_one_heals(tmp_path):
    async with stored(tmp_path, scripted(echo, name="b")) as service:
        await open_session(service, session_id="s-1", model="old")
    async with stored(tmp_path, scripted(echo, name="b", models=("new",))) as service:
        conversation = await found(service)
        with pytest.raises(NotResumable, match="old"):
            conversation.prompt("hello")
        conversation.switch_model("new")
        assert text(await said(conversation)) == "hello"


@pytest.mark.slow
async def test_an_agent_that_cannot_be_started_is_tried_again_and_its_prompt_waits(tmp_path):
    problems = []

    async def start(context):
        if problems:
            raise CreateFailed(problems[0])

    made = made_by(FactoryOfTheTest(start, TaskAgent(echo)))
    async with stored(tmp_path, made) as service:
        conversation = await open_session(service, session_id="s-1")
        await leave(service, conversation)
        problems.append("its program is missing")
        stream = Stream(conversation)
        conversation.prompt("hello")
        await soon(lambda: conversation.blocked)
        with pytest.raises(NotResumable, match="its program is missing"):
            conversation.prompt("again")
        problems.clear()
        await stream.until("agent_end")
        stream.close()


async def test_a_limit_is_met_before_a_prompt_is_taken_and_none_that_was_is_lost(tmp_path):
    one = Limits(per_tenant=1)
    async with stored(tmp_path, parrot, limits=one) as service:
        first = await open_session(service, session_id="s-1")
        await leave(service, first)
        second = await open_session(service, session_id="s-2")
        with pytest.raises(SessionLimitExceeded):
            first.prompt("too many")
        await leave(service, second)
        assert text(await said(first)) == "hello "


@pytest.mark.slow
async def test_those_that_wait_after_a_start_get_the_places_that_there_are_one_by_one(tmp_path):
    async with stored(tmp_path, scripted(waiting, name="b"), end_grace_s=0.05) as service:
        for n in range(3):
            conversation = await open_session(service, session_id=f"s-{n}")
            conversation.prompt("first")
            conversation.prompt("second")
            await conversation.committed()
    quick = scripted(echo, name="b", idle_timeout_s=0.02)
    async with stored(tmp_path, quick, limits=Limits(per_tenant=1)) as service:
        for n in range(3):
            await soon(lambda n=n: _turns(service, f"s-{n}") == 2)


def _turns(service, session_id):
    conversation = service.latest(f"acme/{session_id}")
    return 0 if conversation is None else conversation.counters.turns


async def test_a_session_that_is_resumed_by_hand_takes_no_prompt_before(tmp_path):
    async with stored(tmp_path, scripted(echo, name="b", resume="manual")) as service:
        conversation = await open_session(service, session_id="s-1")
        await leave(service, conversation)
        with pytest.raises(NotResumable):
            conversation.prompt("hello")
        await asyncio.wait({service._keeping.resume(service._keeping.get("acme/s-1"))})
        assert text(await said(conversation)) == "hello"


async def test_what_is_not_durable_ends_with_its_agent(tmp_path):
    agent = scripted(echo, name="b", durable=False, unused_timeout_s=0.02)
    async with stored(tmp_path, agent) as service:
        conversation = await open_session(service, session_id="s-1")
        await soon(lambda: conversation.ended is not None)
        assert str(conversation.ended) == "expired"
        with pytest.raises(SessionDead):
            await found(service)


class LaterClock(SystemClock):
    """A clock an hour later."""

    def wall_ms(self):
        return super().wall_ms() + 3_600_000


@pytest.mark.slow
async def test_a_dormant_session_that_is_too_old_ends_by_itself_or_when_it_is_asked_for(tmp_path):
    agent = scripted(echo, name="b", max_age_s=0.3)
    async with stored(tmp_path, agent) as service:
        old = await open_session(service, session_id="s-1")
        await leave(service, old)
        await soon(lambda: old.ended is not None)
        await open_session(service, session_id="s-2")
    async with stored(tmp_path, agent, clock=LaterClock()) as service:
        for session_id in ("s-1", "s-2"):
            with pytest.raises(SessionDead) as refused:
                await found(service, session_id)
            assert str(refused.value.reason) == "expired"
            replay = Stream(service.latest(f"acme/{session_id}"))
            assert names(await replay.rest())[-1] == "session_end"


async def test_a_session_that_gets_an_agent_just_now_is_deleted_with_it(tmp_path):
    begun, go = asyncio.Event(), asyncio.Event()
    go.set()

    async def start(context):
        begun.set()
        await go.wait()

    async with stored(tmp_path, made_by(FactoryOfTheTest(start, TaskAgent(echo)))) as service:
        conversation = await open_session(service, session_id="s-1")
        await leave(service, conversation)
        go.clear()
        begun.clear()
        conversation.prompt("hello")
        await begun.wait()
        deleting = asyncio.create_task(service.tenant("acme", "key-1").delete("s-1"))
        await passes()
        go.set()
        await deleting
        assert conversation.ended is not None
        assert service.store.count() == 0


async def test_streams_of_what_is_stored_are_cut_after_what_was_said_last(tmp_path):
    async with stored(tmp_path, scripted(waiting)) as service:
        conversation = await open_session(service, session_id="s-1")
        dormant = await open_session(service, session_id="s-2")
        await leave(service, dormant)
        stream, silent = Stream(conversation), Stream(dormant)
        conversation.prompt("hello")
        await stream.until("message_delta")
        await service.drain(0.01)
        events = await stream.rest()
        assert [(each.name, data_of(each)["reason"]) for each in events] == [
            ("agent_abort", "shutdown")
        ]
        assert await silent.rest() == []
        assert not stream.reader.drained, "its client comes again"
        stream.close()
        silent.close()


async def test_a_session_that_said_nothing_before_its_next_agent_is_still_the_same_one(tmp_path):
    async with stored(tmp_path, parrot) as service:
        conversation = await open_session(service, session_id="s-1")
        fence = conversation.fence
        await leave(service, conversation)
        await said(conversation)
        assert conversation.fence == fence
    async with stored(tmp_path, parrot) as service:
        assert (await found(service)).fence == fence
