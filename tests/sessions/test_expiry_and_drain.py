"""Sessions whose time runs out, and a service that drains."""

import asyncio

import pytest

from frontdesk.sessions.errors import Draining
from frontdesk.sessions.expiry import Expiry, LifeTimes
from frontdesk.testing import ManualClock
from support.sessions import (
    BOUND_S,
    FactoryOfTheTest,
    FakeAgent,
    Stream,
    data_of,
    made_by,
    names,
    open_service,
    open_session,
    parrot,
    scripted,
    soon,
    text,
    waiter,
    waiting,
)

pytestmark = pytest.mark.anyio


# -- time ------------------------------------------------------------------------------------------


async def test_a_session_that_is_opened_and_abandoned_expires_and_nothing_is_left():
    async with open_service(scripted(waiting, unused_timeout_s=0.05)) as service:
        opened = [await open_session(service) for _ in range(500)]
        await soon(lambda: service.store.count() == 0)
        assert {str(each.ended) for each in opened} == {"expired"}
        assert len(service._live) == 0


async def test_an_open_stream_keeps_a_session_from_idling_out():
    async with open_service(scripted(waiting, unused_timeout_s=0.02)) as service:
        watched, other = await open_session(service), await open_session(service)
        stream = Stream(watched)
        await soon(lambda: other.ended is not None)
        assert watched.ended is None
        stream.close()
        await soon(lambda: watched.ended is not None)


async def test_a_turn_under_way_keeps_a_session_from_idling_out_but_not_from_its_greatest_age():
    rules = {"idle_timeout_s": 0.01, "unused_timeout_s": 0.01, "max_age_s": 0.2}
    async with open_service(scripted(waiting, **rules)) as service:
        conversation, other = await open_session(service), await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await soon(lambda: other.ended is not None)
        assert conversation.ended is None
        events = await stream.rest()
        assert [data_of(each)["reason"] for each in events[-2:]] == ["expired", "expired"]


async def test_times_run_out_when_they_should_and_not_before():
    clock, expired = ManualClock(), []
    expiry = Expiry(
        LifeTimes(idle_s=100, unused_s=10, age_s=1000),
        clock=clock,
        expire=lambda: expired.append(clock.monotonic()),
    )
    born = clock.monotonic()
    clock.advance(9)
    expiry.check()
    expiry.busy(used=True)
    clock.advance(500)
    expiry.check()
    expiry.idle()
    clock.advance(99)
    expiry.check()
    assert not expired
    expiry.busy()
    expiry.idle()
    clock.advance(99)
    expiry.check()
    assert not expired, "the idle time began again with the last turn"
    clock.advance(2)
    expiry.check()
    assert expired == [born + 9 + 500 + 99 + 99 + 2]
    clock.advance(5000)
    expiry.check()
    assert len(expired) == 1


async def test_a_session_never_used_has_the_shorter_time():
    clock, expired = ManualClock(), []
    expiry = Expiry(
        LifeTimes(idle_s=100, unused_s=10), clock=clock, expire=lambda: expired.append(True)
    )
    clock.advance(10)
    expiry.check()
    assert expired


# -- draining --------------------------------------------------------------------------------------


async def test_a_drain_refuses_what_is_new_lets_turns_finish_and_ends_streams_with_shutdown():
    go = asyncio.Event()

    async def script(turn):
        await go.wait()
        yield turn.text

    async with open_service(scripted(script)) as service:
        conversation, idle = await open_session(service), await open_session(service)
        stream, idle_stream = Stream(conversation), Stream(idle)
        conversation.prompt("under way")
        await stream.until("agent_start")
        conversation.prompt("waits and is not begun")
        draining = asyncio.create_task(service.drain(BOUND_S))
        await idle_stream.rest()
        assert data_of(idle_stream.events[-1]) == {"reason": "shutdown"}
        assert service.draining
        with pytest.raises(Draining):
            await open_session(service)
        with pytest.raises(Draining):
            conversation.prompt("too late")
        go.set()
        await draining
        events = await stream.rest()
        assert text(events) == "under way"
        assert names(events)[-2:] == ["agent_end", "session_end"]
        assert service.store.count() == 0


async def test_a_turn_that_outlasts_the_drain_is_aborted_and_the_drain_ends():
    async with open_service(waiter) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        await asyncio.wait_for(service.drain(0.02), BOUND_S)
        events = await stream.rest()
        assert [(each.name, data_of(each)["reason"]) for each in events] == [
            ("agent_abort", "shutdown"),
            ("session_end", "shutdown"),
        ]


async def test_a_create_under_way_when_the_drain_begins_leaves_nothing():
    begun, go, body = asyncio.Event(), asyncio.Event(), FakeAgent()

    async def slowly(context):
        begun.set()
        await go.wait()

    async with open_service(made_by(FactoryOfTheTest(slowly, body))) as service:
        creating = asyncio.create_task(open_session(service))
        await begun.wait()
        await service.drain(0.0)
        go.set()
        with pytest.raises(Draining):
            await creating
        assert body.ended
        assert service.store.count() == 0


async def test_a_store_that_is_closed_under_the_service_ends_every_conversation():
    async with open_service(parrot) as service:
        stream = Stream(await open_session(service))
        service.store.close()
        events = await stream.rest()
        assert data_of(events[-1]) == {"reason": "shutdown"}
