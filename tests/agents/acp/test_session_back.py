"""After a restart of its process an agent has its session back, where it can give it back."""

import asyncio
import contextlib
import json
import os

import pytest

from frontdesk.agents.restart import RestartLimit
from frontdesk.keeper.client import Keeper
from gateway.requirements import covers
from support.acp import acp, open_acp_service, open_session, place_for_places, session_command
from support.sessions import Stream, data_of, names, soon, stats_of, text
from support.stored_services import leave, stored

pytestmark = pytest.mark.anyio


async def said_in(stream, conversation, prompt):
    """Run one turn, and return what the agent says of itself in it."""
    conversation.prompt(prompt)
    return json.loads(text(await stream.until("agent_end")))


async def restarted(stream, conversation):
    conversation.prompt("exit")
    return await stream.until("agent_restarted")


@pytest.fixture(params=["tenant", "session"])
def home(request, tmp_path):
    return {"home": request.param, "homes": tmp_path / "homes"}


def service_of(*ways, **options):
    options = {"restart": "on_crash", "usage": "session", **options}
    return open_acp_service(session_command("Remembering", *ways), **options)


@pytest.mark.parametrize(
    ("ways", "by"), [(("resume",), "resume"), (("load",), "load"), (("resume", "load"), "resume")]
)
async def test_a_session_is_given_back_and_what_was_said_in_it_is_told_once(ways, by, home):
    async with service_of(*ways, **home) as service:
        conversation = await open_session(service, model="large")
        stream = Stream(conversation)
        first = await said_in(stream, conversation, "one")
        assert first == {"by": "new", "said": ["one"], "model": "large", "kept": True}
        await restarted(stream, conversation)
        conversation.prompt("two")
        events = await stream.until("agent_end")
        stream.close()
        # Its directory is the same, too, and its model is what was asked for.
        told = {"by": by, "said": ["one", "two"], "model": "large", "kept": True}
        assert json.loads(text(events)) == told
        assert "out_of_turn" not in names(stream.events)
        # What it has used so far is not counted again.
        assert data_of(events[-1])["tokenUsage"]["totalTokens"] == 11
        assert stats_of(conversation)["totalTokens"] == 22
        assert stats_of(conversation)["costUsd"] == 1.0


async def test_a_session_that_an_agent_does_not_give_back_begins_anew(caplog, home):
    async with service_of("resume", "load", "deaf", **home) as service:
        conversation = await open_session(service, model="large")
        stream = Stream(conversation)
        await said_in(stream, conversation, "one")
        await restarted(stream, conversation)
        again = await said_in(stream, conversation, "two")
        stream.close()
        assert again == {"by": "new", "said": ["two"], "model": "large", "kept": True}
        assert stats_of(conversation)["totalTokens"] == 22
        assert "does not give it back" in caplog.text


async def test_an_agent_that_dies_of_what_it_remembers_begins_anew(home):
    async with service_of("resume", "fatal", **home) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        await said_in(stream, conversation, "one")
        await restarted(stream, conversation)
        again = await said_in(stream, conversation, "two")
        stream.close()
        assert (again["by"], again["said"], again["kept"]) == ("new", ["two"], True)
        assert stats_of(conversation)["totalTokens"] == 22


async def test_an_agent_that_cannot_give_sessions_back_begins_anew():
    async with service_of() as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        await said_in(stream, conversation, "one")
        await restarted(stream, conversation)
        assert (await said_in(stream, conversation, "two"))["by"] == "new"
        stream.close()


async def test_a_model_is_asked_for_again_where_the_agent_says_nothing_of_it(home):
    async with service_of("resume", "silent", **home) as service:
        conversation = await open_session(service, model="large")
        stream = Stream(conversation)
        await said_in(stream, conversation, "one")
        await restarted(stream, conversation)
        assert (await said_in(stream, conversation, "two"))["model"] == "large"
        stream.close()


async def test_a_new_session_of_the_same_id_gets_nothing_back(tmp_path):
    async with service_of("resume", home="tenant", homes=tmp_path) as service:
        for _ in range(2):
            conversation = await open_session(service, session_id="again")
            stream = Stream(conversation)
            assert (await said_in(stream, conversation, "one"))["said"] == ["one"]
            stream.close()
            await service.tenant("acme", "key-1").delete("again")


async def test_the_directories_of_a_session_go_with_its_last_agent():
    limit = RestartLimit(1, 60.0)
    async with service_of("resume", home="session", restart_limit=limit) as service:
        conversation = await open_session(service)
        place = os.readlink(f"/proc/{conversation.pid}/cwd")
        stream = Stream(conversation)
        await restarted(stream, conversation)
        assert os.path.exists(place)
        conversation.prompt("exit")
        await stream.until("session_end")
        stream.close()
    # What is left is looked for when the service is closed.


# -- a session that is stored ----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def stored_service(directory, *ways, **options):
    """Open a service whose conversations are stored; leave no directory of a session's own."""
    command = session_command("Remembering", *ways)
    rules = {"restart": "on_crash", "home": "session", **options}
    with place_for_places() as places:
        async with (
            Keeper() as keeper,
            stored(directory, acp(keeper, command, **rules)) as service,
        ):
            service.places = places
            yield service


@pytest.mark.slow
@covers("durable.memory-is-honest")
async def test_a_stored_session_is_handed_from_agent_to_agent_and_kept(tmp_path):
    async with stored_service(tmp_path, "resume") as service:
        conversation = await open_session(service, model="large")
        stream = Stream(conversation)
        await said_in(stream, conversation, "one")
        event = data_of((await restarted(stream, conversation))[-1])
        assert event == {"reason": "exited: 3", "count": 1, "memory": "kept"}
        says = {"by": "resume", "said": ["one", "two"], "model": "large", "kept": True}
        assert await said_in(stream, conversation, "two") == says
        stream.close()
        await service.tenant("acme", "key-1").delete(conversation.session_id)
        await soon(lambda: not os.listdir(service.places))


@pytest.mark.slow
@covers("durable.memory-is-honest")
@pytest.mark.parametrize("ways", [(), ("resume", "deaf")])
async def test_a_stored_session_that_is_not_given_back_is_told_as_text_and_rebuilt(ways, tmp_path):
    async with stored_service(tmp_path, *ways) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        await said_in(stream, conversation, "one")
        event = data_of((await restarted(stream, conversation))[-1])
        assert event["memory"] == "rebuilt"
        again = await said_in(stream, conversation, "two")
        stream.close()
        (said,) = again["said"]
        assert said.startswith("What was said and done before")
        assert "user: one" in said
        assert said.endswith("two")
        await service.tenant("acme", "key-1").delete(conversation.session_id)


@pytest.mark.slow
async def test_an_agent_that_is_not_started_again_leaves_its_directories_to_the_end(tmp_path):
    async with stored_service(tmp_path, "resume", start_timeout_s=60.0) as service:
        conversation = await open_session(service, session_id="s")
        factory = conversation.rules.factory
        stream = Stream(conversation)
        await said_in(stream, conversation, "one")
        begun = asyncio.Event()

        async def hanging(context, left):
            begun.set()
            await asyncio.get_running_loop().create_future()

        factory._start_again, start_again = hanging, factory._start_again
        conversation.prompt("exit")
        await begun.wait()
        await leave(service, conversation)
        factory._start_again = start_again
        # Its session and its directory are there: nobody has removed them.
        again = await said_in(stream, conversation, "two")
        assert (again["by"], again["said"], again["kept"]) == ("resume", ["one", "two"], True)
        begun.clear()
        factory._start_again = hanging
        conversation.prompt("exit")
        await begun.wait()
        stream.close()
        await service.tenant("acme", "key-1").delete("s")
        await soon(lambda: not os.listdir(service.places))
