"""How sessions end: they are found for a while, deleted, and nothing of them is left."""

import asyncio

import pytest

from frontdesk import SessionNotFound
from frontdesk.agents import EndSession
from frontdesk.sessions.errors import SessionDead
from support.sessions import (
    BOUND_S,
    FactoryOfTheTest,
    FakeAgent,
    Stream,
    data_of,
    deaf_agent,
    made_by,
    names,
    nothing,
    open_service,
    open_session,
    parrot,
    passes,
    scripted,
    soon,
    waiter,
)

pytestmark = pytest.mark.anyio


# -- finding what has ended ------------------------------------------------------------------------


async def test_a_lookup_never_returns_a_session_whose_agent_has_ended_told_of_it_or_not():
    async with open_service(made_by(FactoryOfTheTest(nothing, body := FakeAgent()))) as service:
        await open_session(service, session_id="s-1")
        body.registry_agent.set_exception(ValueError("secret"))
        with pytest.raises(SessionDead) as dead:
            service.tenant("acme", "a").find("s-1")
        assert dead.value.reason.error == "ValueError"
        assert "secret" not in str(dead.value)


async def test_the_stream_of_a_session_that_ended_says_how_and_replays():
    async with open_service(parrot) as service:
        acme = service.tenant("acme", "a")
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        conversation.prompt("hello")
        await stream.until("agent_end")
        await acme.delete("s-1")
        await stream.rest()
        assert data_of(stream.events[-1]) == {"reason": "deleted"}
        replayed = acme.recent("s-1")
        again = Stream(replayed)
        assert names(await again.rest())[-1] == "session_end"
        assert replayed.subscribe(since=stream.events[-1].id).drained


async def test_recent_ends_are_bounded_by_number_and_by_bytes():
    async with open_service(parrot, recent_ends=3) as service:
        acme = service.tenant("acme", "a")
        for number in range(5):
            await open_session(service, session_id=f"s-{number}")
            await acme.delete(f"s-{number}")
        with pytest.raises(SessionDead):
            acme.recent("s-1")
        acme.recent("s-2")
    async with open_service(parrot, recent_ends_bytes=1000) as service:
        acme = service.tenant("acme", "a")
        for number in range(3):
            conversation = await open_session(service, session_id=f"s-{number}")
            stream = Stream(conversation)
            conversation.prompt("x" * 200)
            await stream.until("agent_end")
            stream.close()
            await acme.delete(f"s-{number}")
        held = [n for n in range(3) if service.recently_ended(f"acme/s-{n}") is not None]
        assert held in ([2], [])


async def test_an_id_can_be_used_again_and_streams_of_the_old_one_get_a_gap():
    async with open_service(parrot) as service:
        acme = service.tenant("acme", "a")
        first = await open_session(service, session_id="s-1")
        await acme.delete("s-1")
        second = await open_session(service, session_id="s-1")
        assert second.fence != first.fence
        assert acme.recent("s-1") is second
        reader = second.subscribe(since=f"{first.fence}-1")
        gap = await reader.next()
        assert gap.resumes_at == f"{second.fence}-1"
        reader.close()


# -- deleting --------------------------------------------------------------------------------------


async def test_a_delete_during_a_turn_answers_and_leaves_nothing():
    async with open_service(waiter) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        await asyncio.wait_for(service.tenant("acme", "a").delete("s-1"), BOUND_S)
        assert names(await stream.rest()) == ["agent_abort", "session_end"]
        assert service.store.count() == 0
        assert service.stuck == 0
        assert str(service.store.ended("acme/s-1").reason) == "deleted"


async def test_a_delete_of_an_agent_that_hears_nothing_answers_within_the_grace_period():
    released = asyncio.Event()
    async with open_service(deaf_agent(released), end_grace_s=0.05) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        await asyncio.wait_for(service.tenant("acme", "a").delete("s-1"), BOUND_S)
        assert service.store.count() == 0
        assert service.stuck == 1
        assert names(await stream.rest()) == ["agent_abort", "session_end"]
        released.set()
        await soon(lambda: service.stuck == 0)


async def test_deletes_at_the_same_time_all_answer():
    async with open_service(waiter) as service:
        conversation = await open_session(service, session_id="s-1")
        conversation.prompt("go")
        results = await asyncio.wait_for(
            asyncio.gather(
                *(service.tenant("acme", "a").delete("s-1") for _ in range(20)),
                return_exceptions=True,
            ),
            BOUND_S,
        )
        assert results[0] is None
        assert all(each is None or isinstance(each, SessionDead) for each in results)


async def test_a_delete_whose_caller_leaves_still_ends_the_session():
    async with open_service(waiter) as service:
        conversation = await open_session(service, session_id="s-1")
        conversation.prompt("go")
        deleting = asyncio.create_task(service.tenant("acme", "a").delete("s-1"))
        await asyncio.sleep(0)
        deleting.cancel()
        await soon(lambda: service.store.count() == 0)
        await asyncio.wait({deleting})


async def test_a_delete_of_what_is_not_there_says_so():
    async with open_service(parrot) as service:
        with pytest.raises(SessionNotFound):
            await service.tenant("acme", "a").delete("never")


async def test_the_agent_of_a_deleted_session_is_ended_and_its_entry_says_deleted():
    async with open_service(made_by(FactoryOfTheTest(nothing, body := FakeAgent()))) as service:
        await open_session(service, session_id="s-1")
        await service.tenant("acme", "a").delete("s-1")
        assert body.ended
        assert str(service.store.ended("acme/s-1").reason) == "deleted"


async def test_an_agent_that_never_ends_does_not_keep_a_delete_from_answering():
    class Stone(FakeAgent):
        async def end(self, grace_s):
            await asyncio.Event().wait()

    stone = Stone()
    async with open_service(made_by(FactoryOfTheTest(nothing, stone)), end_grace_s=0.05) as service:
        await open_session(service, session_id="s-1")
        await asyncio.wait_for(service.tenant("acme", "a").delete("s-1"), BOUND_S)
        assert service.store.count() == 0
        for task in service._supervisor._tasks:
            task.cancel()


# -- what has gone wrong elsewhere -----------------------------------------------------------------


async def test_one_error_in_the_services_hearing_does_not_stop_it_for_life(monkeypatch, caplog):
    async with open_service(parrot) as service:
        broken, other = await open_session(service), await open_session(service)
        stream = Stream(other)

        def fail(reason):
            raise RuntimeError("broken")

        with monkeypatch.context() as patch, caplog.at_level("CRITICAL", "frontdesk.sessions"):
            patch.setattr(type(broken), "end", lambda self, reason: fail(reason))
            service.store.delete(f"acme/{broken.session_id}")
            await passes(20)
        service.store.delete(f"acme/{other.session_id}")
        assert names(await stream.rest()) == ["session_end"]


async def test_a_blocked_clean_up_of_one_session_hangs_no_unrelated_request():
    released = asyncio.Event()
    async with open_service(deaf_agent(released), parrot, end_grace_s=BOUND_S) as service:
        conversation = await open_session(service, session_id="deaf")
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        deleting = asyncio.create_task(service.tenant("acme", "a").delete("deaf"))
        await passes()
        other = await open_session(service, blueprint="parrot")
        other_stream = Stream(other)
        other.prompt("hello")
        await other_stream.until("agent_end")
        other_stream.close()
        await service.tenant("acme", "a").delete(other.session_id)
        assert not deleting.done()
        released.set()
        await deleting
        stream.close()


async def test_expiry_ends_the_agent_and_not_only_its_entry():
    body = FakeAgent()
    async with open_service(
        made_by(FactoryOfTheTest(nothing, body), unused_timeout_s=0.01)
    ) as service:
        conversation = await open_session(service)
        await soon(lambda: conversation.ended is not None)
        assert body.ended
        assert body.registry_agent.done()


@pytest.mark.parametrize("end", ["delete", "crash", "cancel", "expire", "drain", "session"])
async def test_every_end_comes_back_to_a_count_of_zero(end):
    async def script(turn):
        if end == "session":
            raise EndSession
        await asyncio.Event().wait()
        yield "never"

    body = FakeAgent()
    rules = {"unused_timeout_s": 0.01} if end == "expire" else {}
    made = made_by(FactoryOfTheTest(nothing, body)) if end == "crash" else scripted(script, **rules)
    async with open_service(made) as service:
        conversation = await open_session(service, session_id="s-1")
        if end not in {"expire", "crash"}:
            conversation.prompt("go")
            await passes()
        if end == "delete":
            await service.tenant("acme", "a").delete("s-1")
        elif end == "crash":
            body.registry_agent.set_exception(ValueError("crash"))
        elif end == "cancel":
            service.store.get("acme/s-1").agent.cancel()
        elif end == "drain":
            await service.drain(0.0)
        await soon(lambda: conversation.ended is not None)
        await soon(lambda: not service._supervisor._tasks)
        assert (service.store.count(), len(service._live), service.stuck) == (0, 0, 0)
        assert service._live.count("acme", conversation.blueprint) == 0
