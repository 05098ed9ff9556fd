"""An agent whose process ends while its session, or the service, is being ended: once, and well."""

import asyncio
import logging
import os
import signal

import pytest

from frontdesk import SessionNotFound
from frontdesk.keeper.client import Keeper
from frontdesk.sessions.errors import Draining, SessionDead
from support.isolated_sessions import isolated
from support.sessions import Stream, names, open_session, parrot, scripted, soon
from support.stored_services import found, stored

pytestmark = pytest.mark.anyio

RESTARTS = {"restart": "on_crash"}


@pytest.fixture
def errors(caplog):
    """What was logged as an error: nothing is to be."""
    caplog.set_level(logging.ERROR, logger="frontdesk")
    return caplog


async def at_work(service, session_id="s-1"):
    """Open a session whose process is in the midst of a turn."""
    conversation = await open_session(service, session_id=session_id, blueprint="counted")
    stream = Stream(conversation, since=None, from_now=True)
    conversation.prompt("wait")
    await stream.until("message_delta")
    stream.close()
    return conversation


@pytest.mark.chaos
async def test_a_crash_while_the_service_drains_ends_no_session_and_cuts_nobody_elses_turn(
    tmp_path, errors
):
    go = asyncio.Event()

    async def waits(turn):
        yield "begun"
        await go.wait()

    async with Keeper() as keeper:
        blueprints = isolated("counted", keeper=keeper, **RESTARTS), scripted(waits, name="w")
        async with stored(tmp_path, *blueprints) as service:
            other = await open_session(service, session_id="s-2", blueprint="w")
            stream = Stream(other)
            other.prompt("on and on")
            await stream.until("message_delta")
            conversation = await at_work(service)
            waiting = conversation.prompt("second").request_id
            draining = asyncio.create_task(service.drain(60))
            await asyncio.sleep(0)
            os.kill(conversation.pid, signal.SIGKILL)
            await soon(lambda: conversation.dormant)
            assert other.turn is not None
            go.set()
            await draining
            assert names(await stream.until("agent_end"))[-1] == "agent_end"
            stream.close()
        assert [each.message for each in errors.records] == []
        async with stored(tmp_path, *blueprints) as service:
            conversation = await found(service)
            assert (await conversation.end_of(waiting)).aborted is None


@pytest.mark.chaos
@pytest.mark.parametrize("verb", ["delete", "close"])
async def test_a_session_whose_process_has_just_died_is_closed_or_deleted_once(
    tmp_path, errors, verb
):
    async with Keeper() as keeper, stored(tmp_path, isolated("counted", keeper=keeper)) as service:
        sessions = service.tenant("acme", "key-1")
        for number in range(6):
            conversation = await at_work(service, f"s-{number}")
            os.kill(conversation.pid, signal.SIGKILL)
            if number % 2:
                await soon(lambda one=conversation: one.ending_reason is not None)
            try:
                await getattr(sessions, verb)(f"s-{number}")
            except SessionDead:
                assert verb == "close"
            if verb == "delete":
                with pytest.raises(SessionNotFound):
                    await found(service, f"s-{number}")
    assert [each.message for each in errors.records] == []


async def test_a_stored_session_is_in_no_list_missing_while_its_agents_end_is_not_heard_of(
    tmp_path,
):
    async with stored(tmp_path, parrot) as service:
        conversation = await open_session(service, session_id="s-1")
        service.store.delete("acme/s-1")
        assert service.stored.here("acme") == [conversation]


async def test_a_resume_that_meets_a_drain_says_so(tmp_path):
    async with stored(tmp_path, parrot) as service:
        await open_session(service, session_id="s-1")
        sessions = service.tenant("acme", "key-1")
        await sessions.close("s-1")
        service.begin_draining()
        with pytest.raises(Draining):
            await sessions.resume("s-1")
