"""Forks: a session that begins with what another one has said up to the end of a turn."""

import asyncio

import msgspec
import pytest

from frontdesk import InvalidArgument, SessionNotFound
from frontdesk.agents import CreateSession
from frontdesk.agents.errors import CreateFailed
from frontdesk.agents.records import ForkPoint
from frontdesk.sessions.checkpoints import Checkpoints
from frontdesk.sessions.errors import NotStored
from support.sessions import Stream, open_service, open_session, parrot, scripted
from support.stored_services import found, stored, turned

pytestmark = pytest.mark.anyio


async def fork(service, *, after=None, tenant="acme", of="s-1", **order):
    wanted = CreateSession(model="", fork=ForkPoint(session_id=of, after=after), **order)
    return await service.tenant(tenant, "key-1").create(wanted)


def texts(conversation):
    return [each.content for each in conversation.history.all()]


def recalling(seen):
    """Make a blueprint whose agent counts its turns in what it leaves for the next one."""

    async def script(turn):
        seen.append((turn.memory, [each.content for each in turn.history]))
        turn.memory = (turn.memory or 0) + 1
        yield f"{turn.text}!"

    return scripted(script)


async def test_a_forks_agent_knows_the_history_and_the_memory_of_the_session_it_copies(tmp_path):
    seen = []
    async with stored(tmp_path, recalling(seen)) as service:
        original = await open_session(service, session_id="s-1")
        await turned(original, "one", "two")
        copy = await fork(service, session_id="s-2")
        assert texts(copy) == ["one", "one!", "two", "two!"]
        assert copy.forked_from == "s-1"
        assert copy.counters.turns == 0
        await turned(copy, "three")
        assert seen[-1] == (2, ["one", "one!", "two", "two!"])
        assert texts(original) == ["one", "one!", "two", "two!"]
    async with stored(tmp_path, recalling(seen)) as service:
        copy = await found(service, "s-2")
        assert copy.forked_from == "s-1"
        await turned(copy, "four")
        assert seen[-1] == (3, ["one", "one!", "two", "two!", "three", "three!"])
        original = await found(service)
        await turned(original, "five")
        assert seen[-1] == (2, ["one", "one!", "two", "two!"])


async def test_a_fork_copies_no_events_and_its_first_one_says_how_much_its_agent_knows(tmp_path):
    async with stored(tmp_path, recalling([])) as service:
        await turned(await open_session(service, session_id="s-1"), "one")
        copy = await fork(service)
        stream = Stream(copy)
        (first,) = await stream.until("agent_restarted")
        stream.close()
        assert msgspec.json.decode(first.json) == {
            "reason": "forked", "count": 0, "memory": "kept"
        }  # fmt: skip
        assert first.index == 1


async def test_a_fork_after_an_earlier_turn_knows_nothing_of_later_ones(tmp_path):
    seen = []
    async with stored(tmp_path, recalling(seen)) as service:
        first, _ = await turned(await open_session(service, session_id="s-1"), "one", "two")
        copy = await fork(service, after=first)
        assert texts(copy) == ["one", "one!"]
        stream = Stream(copy)
        (begun,) = await stream.until("agent_restarted")
        stream.close()
        # What the second turn left took the place of what the first had.
        assert b'"rebuilt"' in begun.json
        await turned(copy, "three")
        assert seen[-1] == (None, ["one", "one!"])


async def test_a_fork_at_a_checkpoint_knows_what_was_remembered_then(tmp_path):
    seen = []
    async with stored(tmp_path, recalling(seen)) as service:
        original = await open_session(service, session_id="s-1")
        ids = await turned(original, "one", "two", "three")
        await Checkpoints(original).make("third")
        await turned(original, "four")
    async with stored(tmp_path, recalling(seen)) as service:
        await turned(await found(service), "five")
        for after in ("third", ids[2]):
            copy = await fork(service, after=after)
            stream = Stream(copy)
            (begun,) = await stream.until("agent_restarted")
            stream.close()
            assert b'"kept"' in begun.json
            await turned(copy, "other")
            assert seen[-1] == (3, ["one", "one!", "two", "two!", "three", "three!"])
        await turned(await found(service), "six")
        assert seen[-1][0] == 5


async def test_a_fork_of_a_fork_at_a_checkpoint_knows_what_both_remember(tmp_path):
    seen = []
    async with stored(tmp_path, recalling(seen)) as service:
        await turned(await open_session(service, session_id="s-1"), "one", "two")
        copy = await fork(service, session_id="s-2")
        await turned(copy, "three")
        await Checkpoints(copy).make("third")
        await turned(copy, "four")
        await turned(await fork(service, of="s-2", after="third"), "other")
        assert seen[-1] == (3, ["one", "one!", "two", "two!", "three", "three!"])


async def test_a_checkpoint_names_the_turn_that_ends_while_it_is_made(tmp_path, monkeypatch):
    seen = []
    async with stored(tmp_path, recalling(seen)) as service:
        original = await open_session(service, session_id="s-1")
        await turned(original, "one")
        commits, meanwhile = original.service.commits, ["two"]
        read = commits.read

        async def slowly(ask, **options):
            answer = await read(ask, **options)
            if meanwhile:
                await turned(original, meanwhile.pop())
            return answer

        monkeypatch.setattr(commits, "read", slowly)
        made = await Checkpoints(original).make("c")
        assert made.position == 4
        monkeypatch.undo()
        await turned(original, "three")
        await turned(await fork(service, after="c"), "other")
        assert seen[-1][0] == 2


async def test_dormant_and_ended_sessions_can_be_forked(tmp_path):
    async with stored(tmp_path, parrot) as service:
        await turned(await open_session(service, session_id="s-1"), "one")
    async with stored(tmp_path, parrot) as service:
        assert texts(await fork(service)) == ["one", "one "]
        copy = await fork(service, session_id="s-2")
        again = await fork(service, of="s-2")
        assert texts(again) == texts(copy)
        assert again.forked_from == "s-2"


async def test_what_is_under_way_is_not_in_a_fork(tmp_path):
    begun = asyncio.Event()

    async def script(turn):
        if turn.text == "second":
            begun.set()
            await asyncio.Event().wait()
        yield "answer"

    async with stored(tmp_path, scripted(script), end_grace_s=0.1) as service:
        original = await open_session(service, session_id="s-1")
        await turned(original, "first")
        running = original.prompt("second").request_id
        await begun.wait()
        assert texts(await fork(service)) == ["first", "answer"]
        with pytest.raises(InvalidArgument):
            await fork(service, after=running)


async def test_what_cannot_be_forked_is_refused_and_leaves_nothing(tmp_path):
    async with stored(tmp_path, parrot) as service:
        await open_session(service, session_id="s-1")
        for refused, order in (
            (SessionNotFound, {"of": "unknown"}),
            (SessionNotFound, {"tenant": "other"}),
            (InvalidArgument, {"after": "req_0000000000000000"}),
            (CreateFailed, {"system_prompt": "Be brief."}),
            (CreateFailed, {"blueprint": "parrot"}),
        ):
            with pytest.raises(refused):
                await fork(service, **order)
        assert service.store.count() == 1
    async with open_service(parrot) as service:
        await open_session(service, session_id="s-1")
        with pytest.raises(NotStored):
            await fork(service)
        with pytest.raises(SessionNotFound):
            await fork(service, of="unknown")
