"""After a restart of the gateway an ACP agent has its session back, or is told of it."""

import json
import os
from contextlib import asynccontextmanager

import msgspec
import pytest

from frontdesk.agents.acp import session_memory
from frontdesk.agents.acp.session_memory import SessionLeft
from frontdesk.agents.protocol import discard, forget, leave
from frontdesk.agents.records import Message, ToolCall
from frontdesk.clock import SystemClock
from frontdesk.keeper.client import Keeper
from frontdesk.persistence.errors import ConversationUnreadable
from frontdesk.sessions.keeping_settings import DAY_MS
from gateway.requirements import covers
from support.acp import acp, place_for_places, session_command
from support.restored_agents import CONTEXT, left, restored_agent, run, told
from support.sessions import Stream, data_of, open_session, soon, text
from support.stored_services import found, stored, turned

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SESSION = msgspec.structs.replace(CONTEXT, model="large")
DEFAULT = msgspec.structs.replace(CONTEXT, model="default")
HISTORY = told("one", "I heard one")


class Listener:
    """Hear what an agent does by itself."""

    def __init__(self):
        self.heard = []

    def on_model_changed(self, model):
        self.heard.append(model)

    def on_option_changed(self, option_id, value):
        self.heard.append((option_id, value))

    def on_out_of_turn(self, event):
        self.heard.append(event)


@asynccontextmanager
async def factory_of(habit, *ways, homes, **options):
    """Give a factory whose agents have homes that stay, or their session's own without."""
    with place_for_places() as places:
        async with Keeper() as keeper:
            options = {"home": "tenant", "homes": homes, **options}
            made = acp(keeper, session_command(habit, *ways), **options)
            made.factory.places = places
            yield made.factory


async def first_life(factory, *prompts, context=SESSION):
    """Run turns in a first agent, and end it as a session that goes dormant ends it."""
    agent, _ = await restored_agent(factory, context=context)
    memories = []
    for prompt in prompts:
        memories = (await run(agent, prompt, context=context)).memories or memories
    await agent.end(1.0)
    leave(agent)
    return memories


@covers("durable.replay-is-no-event")
@pytest.mark.parametrize("home", ["tenant", "session"])
@pytest.mark.parametrize("way", ["resume", "load"])
async def test_a_session_is_given_back_and_nothing_of_it_is_told_or_counted_again(
    way, home, tmp_path
):
    homes = tmp_path if home == "tenant" else None
    async with factory_of("Remembering", way, homes=homes, home=home, usage="session") as factory:
        memories = await first_life(factory, "one")
        agent, known = await restored_agent(
            factory, left(*memories, history=HISTORY), context=SESSION
        )
        listener = Listener()
        agent.listen(listener)
        assert known == "kept"
        port = await run(agent, "two", context=SESSION, history=HISTORY)
        says = {"by": way, "said": ["one", "two"], "model": "large", "kept": True}
        assert json.loads(port.said) == says
        assert listener.heard == [], "a load's replay is no event"
        assert sum(used.total for used in port.used) == 11
        await agent.end(1.0)
        await discard(agent)
        assert not os.listdir(factory.places)


@pytest.mark.parametrize("ways", [(), ("resume", "load", "deaf"), ("resume", "fatal")])
async def test_a_session_that_is_not_given_back_is_told_as_text(ways, tmp_path):
    async with factory_of("Remembering", *ways, homes=tmp_path) as factory:
        memories = await first_life(factory, "one")
        agent, known = await restored_agent(
            factory, left(*memories, history=HISTORY), context=SESSION
        )
        assert known == "rebuilt"
        port = await run(agent, "two", context=SESSION, history=HISTORY)
        (said,) = json.loads(port.said)["said"]
        assert said == (
            "What was said and done before, in this conversation:\n"
            "user: one\nassistant: I heard one\n\nNow:\ntwo"
        )
        port = await run(agent, "three", context=SESSION, history=HISTORY)
        assert json.loads(port.said)["said"][1] == "three", "it is told once"
        await agent.end(1.0)
        await discard(agent)


async def test_what_was_left_on_another_machine_is_told_as_text(tmp_path, monkeypatch):
    async with factory_of("Remembering", "resume", homes=tmp_path) as factory:
        memories = await first_life(factory, "one")
        monkeypatch.setattr(session_memory, "this_machine", lambda: "another")
        agent, known = await restored_agent(
            factory, left(*memories, history=HISTORY), context=SESSION
        )
        assert known == "rebuilt"
        assert "user: one" in (await run(agent, "two", context=SESSION, history=HISTORY)).said
        await agent.end(1.0)
        await discard(agent)
        monkeypatch.undo()
        await forget(factory, memories, of="acme/s")
        assert not os.listdir(factory.places)


@covers("durable.memory-is-honest")
@pytest.mark.parametrize("spoiled", [{"version": 2}, {"content": b"{"}, {"content": b"{}"}])
async def test_what_cannot_be_read_any_more_is_told_as_text(spoiled, tmp_path, caplog):
    async with factory_of("Remembering", "resume", homes=tmp_path) as factory:
        memories = await first_life(factory, "one")
        wrong = [msgspec.structs.replace(each, **spoiled) for each in memories]
        agent, known = await restored_agent(factory, left(*wrong, history=HISTORY), context=SESSION)
        assert known == "rebuilt"
        assert "what an ACP agent left" in caplog.text
        await agent.end(1.0)
        await discard(agent)
        await forget(factory, memories, of="acme/s")


async def test_a_copy_of_a_session_has_not_its_agents_session_and_takes_nothing_with_it(tmp_path):
    async with factory_of("Remembering", "resume", homes=None, home="session") as factory:
        memories = await first_life(factory, "one")
        there = sorted(os.listdir(factory.places))
        copy = msgspec.structs.replace(SESSION, session_id="copy")
        agent, known = await restored_agent(factory, left(*memories, history=HISTORY), context=copy)
        assert known == "rebuilt"
        await agent.end(1.0)
        await discard(agent)
        await forget(factory, memories, of="acme/copy")
        assert sorted(os.listdir(factory.places)) == there
        await forget(factory, memories, of="acme/s")
        assert not os.listdir(factory.places)


async def test_its_mode_is_set_again_where_the_agent_has_forgotten_it(tmp_path):
    async with factory_of("Moody", homes=tmp_path) as factory:
        memories = await first_life(factory, "change plan", context=DEFAULT)
        agent, known = await restored_agent(factory, left(*memories), context=DEFAULT)
        assert known == "kept"
        port = await run(agent, "look", context=DEFAULT)
        assert json.loads(port.said)["mode"] == "plan"
        await agent.end(1.0)
        await discard(agent)


async def test_an_agent_that_has_its_session_back_is_told_what_tools_did_in_a_turn_cut_off(
    tmp_path,
):
    cut = (
        Message("user", "pay back 7 and 8"),
        Message(
            "assistant",
            "",
            (ToolCall("a", "refund", {"order": 7}), ToolCall("b", "refund", {"order": 8})),
        ),
        Message("tool_result", "paid", call_id="a", status="ok"),
    )
    history = (*HISTORY, *cut)
    async with factory_of("Remembering", "resume", homes=tmp_path) as factory:
        memories = await first_life(factory, "one")
        agent, known = await restored_agent(
            factory, left(*memories, history=history, unremembered=len(cut)), context=SESSION
        )
        assert known == "kept"
        port = await run(agent, "two", context=SESSION, history=history)
        assert json.loads(port.said)["said"][1] == (
            "The turn before was cut off. Its tools:\n"
            'tool refund {"order":7}: ok: paid\n'
            'tool refund {"order":8}: was cut off; whether it took effect is not known\n\n'
            "Now:\ntwo"
        )
        await agent.end(1.0)
        await discard(agent)


async def test_a_start_that_fails_leaves_the_directories_for_the_next_attempt(tmp_path):
    async with factory_of("Remembering", "resume", homes=None, home="session") as factory:
        memories = await first_life(factory, "one")
        there = sorted(os.listdir(factory.places))
        wrong = msgspec.structs.replace(CONTEXT, model="no such model")
        with pytest.raises(Exception, match="no such model"):
            await restored_agent(factory, left(*memories, history=HISTORY), context=wrong)
        assert sorted(os.listdir(factory.places)) == there
        assert len(there) == 2
        await forget(factory, memories, of="acme/s")
        assert not os.listdir(factory.places)


def test_what_is_left_names_no_secret_and_has_a_bound():
    large = SessionLeft(of="acme/s", session_id="s", machine="m", opened={"models": "x" * 2**20})
    assert len(large.memory().content) < 1000


async def test_a_stored_session_goes_on_in_its_own_directories_which_go_with_it(tmp_path):
    ways = session_command("Remembering", "load")
    with place_for_places() as places:
        for life, prompt in enumerate(("one", "two")):
            async with Keeper() as keeper:
                agent = acp(keeper, ways, home="session")
                async with stored(tmp_path, agent) as service:
                    if not life:
                        conversation = await open_session(service, session_id="s-1", model="large")
                    else:
                        conversation = await found(service)
                    stream = Stream(conversation, since=str(conversation.log.last_index))
                    conversation.prompt(prompt)
                    events = await stream.until("agent_end")
                    stream.close()
                    said = json.loads(text(events))
        assert (said["by"], said["said"], said["kept"]) == ("load", ["one", "two"], True)
        restarts = [data_of(each) for each in events if each.name == "agent_restarted"]
        assert [each["memory"] for each in restarts] == ["kept"]
        assert "out_of_turn" not in [each.name for each in events]
        assert len(os.listdir(places)) == 2
        async with (
            Keeper() as keeper,
            stored(tmp_path, acp(keeper, ways, home="session")) as service,
        ):
            await found(service)
            await service.tenant("acme", "key-1").delete("s-1")
        assert not os.listdir(places)


@asynccontextmanager
async def left_behind(directory, **options):
    """Open a service over a session without an agent, whose directories are there."""
    ways = session_command("Remembering", "load")
    with place_for_places() as places:
        async with (
            Keeper() as keeper,
            stored(directory, acp(keeper, ways, home="session")) as first,
        ):
            conversation = await open_session(first, session_id="s-1", model="large")
            await turned(conversation, "one")
        assert len(os.listdir(places)) == 2
        limits = {name: options.pop(name) for name in ("max_age_s",) if name in options}
        async with Keeper() as keeper:
            agent = acp(keeper, ways, home="session", **limits)
            async with stored(directory, agent, **options) as service:
                service.places = places
                yield service


async def test_the_directories_of_a_tenants_sessions_go_when_the_tenant_is_erased(tmp_path):
    async with left_behind(tmp_path) as service:
        await service.stored.erase_tenant("other")
        assert len(os.listdir(service.places)) == 2
        assert await service.stored.erase_tenant("acme") == 1
        assert not os.listdir(service.places)


async def test_directories_that_cannot_be_found_keep_no_tenant_from_being_erased(
    tmp_path, monkeypatch, caplog
):
    async def unreadable(of):
        raise ConversationUnreadable("its tenant's key is lost")

    async with left_behind(tmp_path) as service:
        monkeypatch.setattr(service._keeping, "forget_files", unreadable)
        assert await service.stored.erase_tenant("acme") == 1
        assert await service.stored.erase_tenant("acme") == 0
        assert "what session s-1 left in files stays" in caplog.text


async def test_the_directories_of_a_session_go_when_its_retention_is_over(tmp_path):
    async with left_behind(tmp_path, clock=DaysLater(31)) as service:
        await service._keeping.retention.sweep()
        assert not os.listdir(service.places)


async def test_the_directories_of_a_session_go_when_it_ends_for_its_age(tmp_path):
    async with left_behind(tmp_path, clock=DaysLater(1), max_age_s=600) as service:
        await service._keeping.retention.sweep()
        await soon(lambda: not os.listdir(service.places))


class DaysLater(SystemClock):
    """A clock whose day is a later one."""

    def __init__(self, days):
        self.ahead_ms = days * DAY_MS

    def wall_ms(self):
        return super().wall_ms() + self.ahead_ms
