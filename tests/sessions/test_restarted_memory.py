"""A stored session whose agent is restarted: the next one has what a resumed one would have."""

import asyncio
import logging
import os
import signal
from contextlib import suppress

import pytest

from frontdesk.agents.task import FunctionProgram, TaskAgent, TaskAgentFactory
from frontdesk.keeper.client import Keeper
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.errors import StorageUnavailable
from frontdesk.persistence.sqlite_conversations import SqliteConversations
from gateway.requirements import covers
from support.isolated_sessions import isolated
from support.sessions import (
    Stream,
    data_of,
    made_by,
    open_session,
    scripted,
    soon,
    text,
)
from support.stored_services import found, leave, stored

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, logger="frontdesk")


async def counting(turn):
    """Keep all its prompts in `turn.memory`, and crash where it is told so."""
    if turn.text == "crash":
        raise ValueError("as asked")
    turn.memory = [*(turn.memory or []), turn.text]
    yield f"{turn.memory} {len(turn.history)}"


RULES = {"errors_end": "session", "restart": "on_crash"}


def restarting(script=counting, **rules):
    return scripted(script, name="b", **{**RULES, **rules})


def stream_of(conversation):
    return Stream(conversation, since=None, from_now=True)


async def said(stream, conversation, *prompts):
    """Prompt one after another; return what the agent says to the last."""
    for prompt in prompts:
        conversation.prompt(prompt)
        events = await stream.until("agent_end", "agent_abort")
    return text(events)


async def restarted(stream):
    """Return what the next agent is told to be."""
    return data_of((await stream.until("agent_restarted"))[-1])


@covers("durable.memory-is-honest")
async def test_an_agent_that_is_restarted_has_the_memory_of_the_last_turn_that_ended(tmp_path):
    async with stored(tmp_path, restarting()) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = stream_of(conversation)
        await said(stream, conversation, "one", "two")
        conversation.prompt("crash")
        event = await restarted(stream)
        assert event == {"reason": "crashed: ValueError", "count": 1, "memory": "kept"}
        assert await said(stream, conversation, "three") == "['one', 'two', 'three'] 5"
        stream.close()
        await leave(service, conversation)
        stream = stream_of(conversation)
        assert await said(stream, conversation, "four") == "['one', 'two', 'three', 'four'] 7"
        stream.close()


async def test_of_a_session_that_is_not_stored_nothing_is_said_of_what_is_known(tmp_path):
    async with stored(tmp_path, restarting()) as service:
        conversation = await open_session(service, session_id="s-1", ephemeral=True)
        stream = stream_of(conversation)
        await said(stream, conversation, "one")
        conversation.prompt("crash")
        assert (await restarted(stream))["memory"] is None
        stream.close()


@covers("durable.memory-is-honest")
@pytest.mark.chaos
async def test_a_process_that_is_killed_leaves_its_memory_to_the_next_one(tmp_path):
    async with Keeper() as keeper:
        blueprint = isolated("counted", keeper=keeper, **RULES)
        async with stored(tmp_path, blueprint) as service:
            conversation = await open_session(service, session_id="s-1")
            stream = stream_of(conversation)
            await said(stream, conversation, "one", "two")
            os.kill(conversation.pid, signal.SIGKILL)
            event = await restarted(stream)
            assert event == {"reason": "signalled: 9 (SIGKILL)", "count": 1, "memory": "kept"}
            conversation.prompt("wait")
            await stream.until("message_delta")
            os.kill(conversation.pid, signal.SIGKILL)
            assert (await restarted(stream))["memory"] == "kept"
            # What the turn that was cut off had in it is not there: that was not left.
            assert await said(stream, conversation, "three") == "['one', 'two', 'three']"
            stream.close()
        async with stored(tmp_path, blueprint) as service:
            conversation = await found(service)
            stream = stream_of(conversation)
            assert "['one', 'two', 'three', 'four']" in await said(stream, conversation, "four")
            stream.close()


# -- between two agents ----------------------------------------------------------------------------


class SlowFactory(TaskAgentFactory):
    """Restore agents when the test says so."""

    def __init__(self, script):
        super().__init__(FunctionProgram(script))
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.given_up = 0

    async def restore(self, context, restored):
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return await super().restore(context, restored)


async def between_two(service, factory):
    """Open a session, have a turn, then a crash; return it while the next agent is made."""
    conversation = await open_session(service, session_id="s-1")
    stream = stream_of(conversation)
    await said(stream, conversation, "one")
    stream.close()
    conversation.prompt("crash")
    await factory.begun.wait()
    return conversation


async def test_a_session_closed_between_two_agents_is_dormant_and_the_next_does_not_stay(tmp_path):
    factory = SlowFactory(counting)
    async with stored(tmp_path, made_by(factory, **RULES)) as service:
        conversation = await between_two(service, factory)
        await leave(service, conversation)
        await soon(lambda: factory.given_up)
        assert conversation.dormant
        await soon(lambda: not service._supervisor._tasks)
        assert service.store.count() == 0
        factory.go.set()
        stream = stream_of(conversation)
        conversation.prompt("two")
        assert (await restarted(stream))["memory"] == "kept"
        assert text(await stream.until("agent_end")) == "['one', 'two'] 3"
        stream.close()
        assert service.store.count() == 1


async def test_a_session_between_two_agents_outlives_its_process(tmp_path):
    factory = SlowFactory(counting)
    async with stored(tmp_path, made_by(factory, **RULES)) as service:
        await between_two(service, factory)
    factory.go.set()
    async with stored(tmp_path, made_by(factory, **RULES)) as service:
        conversation = await found(service)
        assert conversation.dormant
        stream = stream_of(conversation)
        assert await said(stream, conversation, "two") == "['one', 'two'] 3"
        stream.close()


async def test_a_stored_session_deleted_between_two_agents_is_gone_with_the_next_one(tmp_path):
    factory = SlowFactory(counting)
    async with stored(tmp_path, made_by(factory, **RULES)) as service:
        conversation = await between_two(service, factory)
        stream = Stream(conversation)
        await service.tenant("acme", "k").delete("s-1")
        assert data_of((await stream.rest())[-1]) == {"reason": "deleted"}
        await soon(lambda: factory.given_up)
        assert service.store.count() == 0


@pytest.mark.parametrize("end", ["delete", "leave"])
async def test_an_agent_whose_start_cannot_be_stopped_does_not_stay_either(tmp_path, end):
    class Deaf(SlowFactory):
        async def restore(self, context, restored):
            with suppress(asyncio.CancelledError):
                await super().restore(context, restored)
            return await TaskAgentFactory.restore(self, context, restored)

    factory = Deaf(counting)
    async with stored(tmp_path, made_by(factory, **RULES)) as service:
        conversation = await between_two(service, factory)
        if end == "leave":
            await leave(service, conversation)
        else:
            await service.tenant("acme", "k").delete("s-1")
        await soon(lambda: not service._supervisor._tasks)
        assert service.store.count() == 0
        assert conversation.dormant == (end == "leave")
        factory.go.set()


class Belongings(TaskAgent):
    """An agent with something that its next one may find, or that goes with it."""

    def __init__(self):
        super().__init__(counting)
        self.became = ""

    async def discard(self):
        self.became += "discarded"

    def leave(self):
        self.became += "left"


class FactoryOfBelongings(SlowFactory):
    """Make agents that are remembered by the test."""

    def __init__(self):
        super().__init__(counting)
        self.made = []

    def _agent(self, function, *, memory):
        self.made.append(Belongings())
        return self.made[-1]


@pytest.mark.parametrize("first_to_end", ["crash", "leave"])
async def test_an_agent_that_comes_as_the_service_drains_goes_and_its_session_is_dormant(
    tmp_path, first_to_end
):
    factory = FactoryOfBelongings()
    async with stored(tmp_path, made_by(factory, **RULES)) as service:
        conversation = await open_session(service, session_id="s-1")
        if first_to_end == "leave":
            await leave(service, conversation)
        conversation.prompt("crash")
        await factory.begun.wait()
        service.begin_draining()
        factory.go.set()
        await soon(lambda: conversation.dormant)
        assert service.store.count() == 0
        assert [each.became for each in factory.made] == ["left", "left"]


# -- a storage that takes nothing ------------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch):
    """Have the storage take nothing while this is set, and who waits for it not wait for long."""
    full = asyncio.Event()
    apply, committed = SqliteConversations.apply, CommitQueue.committed

    def refusing(self, operations):
        if full.is_set():
            raise StorageUnavailable("the disk is full")
        return apply(self, operations)

    async def impatient(self, number, *, wait_s=5.0):
        await committed(self, number, wait_s=None if wait_s is None else wait_s / 50)

    monkeypatch.setattr(SqliteConversations, "apply", refusing)
    monkeypatch.setattr(CommitQueue, "committed", impatient)
    return full


@pytest.mark.slow
async def test_while_the_storage_takes_nothing_no_agent_is_started_without_its_memory(
    tmp_path, full_disk
):
    last = asyncio.Event()

    async def crashing(turn):
        if turn.text == "last":
            await last.wait()
            raise ValueError("as asked")
        async for piece in counting(turn):
            yield piece

    async with stored(tmp_path, restarting(crashing)) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = stream_of(conversation)
        await said(stream, conversation, "one")
        conversation.prompt("last")
        await stream.until("agent_start")
        conversation.prompt("two")
        full_disk.set()
        last.set()
        await soon(lambda: conversation.blocked)
        assert conversation.dormant
        assert conversation.state == "restarting", "a prompt waits in it"
        assert "the disk is full" in conversation.blocked
        assert service.store.count() == 0
        full_disk.clear()
        assert await restarted(stream) == {
            "reason": "crashed: ValueError",
            "count": 1,
            "memory": "kept",
        }
        assert text(await stream.until("agent_end")) == "['one', 'two'] 3"
        stream.close()
        assert conversation.blocked is None


@pytest.mark.slow
async def test_a_session_in_which_nothing_waits_is_dormant_until_it_is_asked_again(
    tmp_path, full_disk
):
    async with stored(tmp_path, restarting(restart="always")) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = stream_of(conversation)
        await said(stream, conversation, "one")
        full_disk.set()
        conversation.switch_model("another")
        service.store.get("acme/s-1").agent.agent.cancel()
        await soon(lambda: conversation.dormant)
        assert conversation.state == "idle"
        full_disk.clear()
        await soon(lambda: not conversation.record.backlog)
        assert await said(stream, conversation, "two") == "['one', 'two'] 2"
        stream.close()


# -- a turn that is deaf ---------------------------------------------------------------------------


async def test_a_turn_that_outlives_its_agent_does_not_overwrite_what_the_next_one_left(tmp_path):
    released, ended = asyncio.Event(), asyncio.Event()

    async def deaf(turn):
        turn.memory = [*(turn.memory or []), turn.text]
        yield f"{turn.memory}"
        if turn.text == "deaf":
            while not released.is_set():
                with suppress(asyncio.CancelledError):
                    await released.wait()
            ended.set()

    async with stored(tmp_path, restarting(deaf, restart="always")) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = stream_of(conversation)
        await said(stream, conversation, "one")
        conversation.prompt("deaf")
        await stream.until("message_delta")
        service.store.get("acme/s-1").agent.agent.cancel()
        assert (await restarted(stream))["memory"] == "kept"
        assert await said(stream, conversation, "two") == "['one', 'two']"
        released.set()
        await ended.wait()
        await soon(lambda: not service.stuck)
        await leave(service, conversation)
        assert await said(stream, conversation, "three") == "['one', 'two', 'three']"
        stream.close()
