"""What is asked of sessions that outlive their agents: resume, close, erase, list."""

import asyncio
import json

import pytest

from frontdesk import SessionNotFound
from frontdesk.agents import EndSession
from frontdesk.agents.records import CreateSession
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.errors import NotResumable, NotStored, SessionDead
from frontdesk.sessions.listing import SessionQuery, state_of
from support.sessions import (
    Stream,
    names,
    open_service,
    open_session,
    parrot,
    scripted,
    waiter,
)
from support.stored_services import found, stored

pytestmark = pytest.mark.anyio


async def ended_session(service, session_id="s-1"):
    """Return a session that has ended by itself."""
    conversation = await open_session(service, session_id=session_id, blueprint="ender")
    stream = Stream(conversation)
    conversation.prompt("end")
    await stream.rest()
    stream.close()
    return conversation


async def end(turn):
    """End the session, if that is asked for."""
    yield turn.text
    if turn.text == "end":
        raise EndSession


ender = scripted(end, name="ender")


async def ids(service, **asked):
    """Return the ids of a page and its next cursor."""
    page = await service.tenant("acme", "key-1").listed(SessionQuery(**asked))
    return [each.session_id for each in page.sessions], page.next


async def test_a_session_that_is_closed_is_dormant_and_resumed_once_however_often_it_is_asked(
    tmp_path,
):
    async with stored(tmp_path, parrot) as service:
        acme = service.tenant("acme", "key-1")
        conversation = await open_session(service, session_id="s-1")
        assert (await acme.close("s-1")).dormant
        assert await acme.close("s-1") is conversation
        assert service.store.count() == 0
        resumed = await asyncio.gather(*(acme.resume("s-1") for _ in range(4)))
        assert {id(each) for each in resumed} == {id(conversation)}
        assert conversation.live
        assert conversation.restarts == 1
        assert await acme.resume("s-1") is conversation
        assert conversation.restarts == 1


async def test_closing_ends_the_turn_under_way_and_leaves_what_waits(tmp_path):
    async with stored(tmp_path, waiter) as service:
        acme = service.tenant("acme", "key-1")
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        conversation.prompt("first")
        await stream.until("message_delta")
        accepted = conversation.prompt("second")
        await acme.close("s-1")
        events = await stream.until("agent_abort")
        assert b'"closed"' in events[-1].json
        assert conversation.state in ("idle", "restarting", "working")
        await acme.resume("s-1")
        events = await stream.until("message_delta")
        assert events[-1].request_id == accepted.request_id
        stream.close()


async def test_what_is_not_stored_cannot_be_closed_and_is_gone_when_it_has_ended(tmp_path):
    async with open_service(parrot) as service:
        acme = service.tenant("acme", "key-1")
        await open_session(service, session_id="s-1")
        with pytest.raises(NotStored):
            await acme.close("s-1")
        assert (await acme.resume("s-1")).live
        await acme.delete("s-1")
        with pytest.raises(SessionDead):
            await acme.resume("s-1")
    async with stored(tmp_path, parrot) as service:
        acme = service.tenant("acme", "key-1")
        await open_session(service, session_id="s-1", ephemeral=True)
        with pytest.raises(NotStored):
            await acme.close("s-1")


async def test_nothing_of_an_ephemeral_session_is_stored(tmp_path):
    async with stored(tmp_path, parrot) as service:
        conversation = await open_session(service, session_id="gone-1", ephemeral=True)
        stream = Stream(conversation)
        conversation.prompt("remembered nowhere")
        await stream.until("agent_end")
        stream.close()
        assert conversation.record is None
        assert await ids(service) == (["gone-1"], None)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert b"remembered nowhere" not in file.read_bytes()
            assert b"gone-1" not in file.read_bytes()
    async with stored(tmp_path, parrot) as service:
        with pytest.raises(SessionNotFound):
            await found(service, "gone-1")


async def test_a_session_that_has_ended_goes_on_where_its_log_ended(tmp_path):
    async with stored(tmp_path, ender) as service:
        conversation = await ended_session(service)
        last = conversation.log.last_index
        with pytest.raises(SessionDead):
            await found(service)
        resumed = await service.tenant("acme", "key-1").resume("s-1")
        assert resumed.live
        assert resumed.fence == conversation.fence
        stream = Stream(resumed, since="0")
        resumed.prompt("again")
        events = await stream.until("message_delta", count=2)
        stream.close()
        assert [each.index for each in events] == list(range(1, len(events) + 1))
        assert names(events)[last - 1 : last + 1] == ["session_end", "agent_restarted"]
        assert [each.content for each in resumed.history.all()][:2] == ["end", "end"]
    async with stored(tmp_path, ender) as service:
        assert (await found(service)).dormant


async def test_a_session_whose_blueprint_is_gone_is_not_resumed_and_says_why(tmp_path):
    async with stored(tmp_path, parrot) as service:
        await open_session(service, session_id="s-1")
    async with stored(tmp_path, waiter) as service:
        conversation = await found(service)
        with pytest.raises(NotResumable) as refused:
            await service.tenant("acme", "key-1").resume("s-1")
        assert "parrot" in refused.value.problem
        assert conversation.blocked is not None
        assert conversation.dormant


@pytest.mark.parametrize("how", ["live", "dormant", "unloaded", "ended", "ended and unloaded"])
async def test_what_is_deleted_is_as_if_it_had_never_been_whatever_it_was(tmp_path, how):
    async with stored(tmp_path, parrot, ender) as service:
        acme = service.tenant("acme", "key-1")
        await ended_session(service, "s-1")
        if "ended" not in how:
            await open_session(service, session_id="s-1", blueprint="parrot")
        if how == "dormant":
            await acme.close("s-1")
        if "unloaded" not in how:
            await acme.delete("s-1")
    async with stored(tmp_path, parrot, ender) as service:
        acme = service.tenant("acme", "key-1")
        if "unloaded" in how:
            if (loading := acme.loading("s-1")) is not None:
                await loading
            await acme.delete("s-1")
        for ask in (acme.delete, acme.resume):
            if (loading := acme.loading("s-1")) is not None:
                await loading
            with pytest.raises(SessionNotFound) as refused:
                await ask("s-1")
            assert type(refused.value) is SessionNotFound
        assert await ids(service, ended=True) == ([], None)


async def test_all_of_a_tenant_goes_and_nothing_of_another(tmp_path):
    async with stored(tmp_path, parrot, ender) as service:
        await open_session(service, session_id="live", blueprint="parrot")
        await open_session(service, session_id="short", blueprint="parrot", ephemeral=True)
        await open_session(service, session_id="dormant", blueprint="parrot")
        await service.tenant("acme", "key-1").close("dormant")
        await ended_session(service, "ended")
        await open_session(service, session_id="live", blueprint="parrot", tenant="other")
        assert await service.stored.erase_tenant("acme") == 4
        assert await ids(service, ended=True) == ([], None)
        assert (await found(service, "live", tenant="other")).live
        assert await service.stored.erase_tenant("acme") == 0
        assert await open_session(service, session_id="live", blueprint="parrot")


async def test_a_list_has_each_session_once_wherever_it_is(tmp_path):
    async with stored(tmp_path, parrot, ender) as service:
        acme = service.tenant("acme", "key-1")
        for number in range(12):
            kind = ("parrot", "ender")[number % 3 == 2]
            label = "odd" if number % 2 else None
            if kind == "ender":
                await ended_session(service, f"s-{number}")
            else:
                await open_session(
                    service, session_id=f"s-{number}", blueprint="parrot", label=label
                )
            if number % 3 == 1:
                await acme.close(f"s-{number}")
        assert await ids(service) == ([f"s-{n}" for n in range(12) if n % 3 != 2], None)
        everything = [f"s-{n}" for n in range(12)]
        assert await ids(service, ended=True) == (everything, None)
        assert await ids(service, states=frozenset({"ended"})) == (everything[2::3], None)
        assert await ids(service, label="odd") == (["s-1", "s-3", "s-7", "s-9"], None)
        assert await ids(service, blueprint="ender") == ([], None)
        for size in (1, 2, 5, 12):
            listed, after = [], 0
            while after is not None:
                page, after = await ids(service, ended=True, limit=size, after=after)
                assert len(page) <= size
                listed += page
            assert listed == everything
    async with stored(tmp_path, parrot, ender) as service:
        await found(service, "s-1")  # one of them is loaded
        assert await ids(service) == ([f"s-{n}" for n in range(12) if n % 3 != 2], None)
        page = await service.tenant("acme", "key-1").listed(SessionQuery(ended=True))
        states = [state_of(each) for each in page.sessions]
        assert states == ["idle", "idle", "ended"] * 4
        assert [isinstance(each, Conversation) for each in page.sessions].count(True) == 1
        assert await ids(service, from_ms=page.sessions[6].created_at_ms, limit=100)


async def test_a_session_keeps_its_place_in_a_list_while_it_comes_and_goes(tmp_path):
    async with stored(tmp_path, parrot) as service:
        acme = service.tenant("acme", "key-1")
        for number in range(6):
            await open_session(service, session_id=f"s-{number}")
        listed, after = await ids(service, limit=2)
        await acme.close("s-0")
        await acme.close("s-3")
        page, after = await ids(service, limit=2, after=after)
        await acme.resume("s-3")
        await acme.resume("s-0")
        rest, after = await ids(service, limit=2, after=after)
        assert (listed + page + rest, after) == ([f"s-{n}" for n in range(6)], None)


async def test_a_prompt_that_is_refused_opens_and_stores_nothing(tmp_path):
    async with stored(tmp_path, parrot) as service:
        acme = service.tenant("acme", "key-1")

        def refuse(conversation):
            raise NotStored(conversation.session_id)

        with pytest.raises(NotStored):
            await acme.create(CreateSession(model="none", session_id="s-1"), first=refuse)
        assert await ids(service, ended=True) == ([], None)
        with pytest.raises(SessionNotFound):
            await found(service)


async def test_the_whole_history_is_read_in_pages_though_only_its_end_is_held(tmp_path):
    async with stored(tmp_path, parrot, max_messages=4) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        for number in range(5):
            conversation.prompt(f"text {number}")
            await stream.until("agent_end")
        stream.close()
        assert len(conversation.history.all()) == 4
        for size in (1, 3, 10, 100):
            messages, after, pages = [], None, 0
            while pages == 0 or after is not None:
                page = await conversation.messages(limit=size, after=after)
                assert len(page.messages) <= size
                messages += page.messages
                after, pages = page.next, pages + 1
            assert len(messages) == 10
            assert [each.content for each in messages[::2]] == [f"text {n}" for n in range(5)]


async def test_the_end_of_a_turn_is_known_though_it_is_long_ago(tmp_path):
    async with stored(tmp_path, parrot) as service:
        conversation = await open_session(service, session_id="s-1")
        accepted = conversation.prompt("hello")
        end = await conversation.end_of(accepted.request_id)
        assert end is not None
    async with stored(tmp_path, parrot) as service:
        conversation = await found(service)
        assert await conversation.end_of(accepted.request_id) == end
        assert await conversation.end_of("req_unknown") is None


async def test_a_session_that_had_ended_says_why_its_agent_is_another_one(tmp_path):
    async with stored(tmp_path, ender) as service:
        ended = await ended_session(service)
        resumed = await service.tenant("acme", "key-1").resume("s-1")
        stream = Stream(resumed, since=ended.log.id_of(ended.log.last_index))
        (restarted,) = await stream.until("agent_restarted")
        stream.close()
        assert json.loads(restarted.json)["reason"] == str(ended.ended) == "normal"
