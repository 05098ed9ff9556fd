"""Laws of the single operations: what each answers, and what it refuses.

Ends, races and watches have files of their own.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from frontdesk.errors import (
    FrontdeskError,
    InvalidArgument,
    InvalidType,
    SessionAlreadyExists,
    SessionNotFound,
    StoreClosed,
    UnknownAgentKind,
)
from frontdesk.testing.agents import FakeAgent
from frontdesk.testing.law import law
from frontdesk.testing.laws.reading import brief_changes, ids, passes, refusal, watching
from frontdesk.testing.subject import StoreUnderTest

SECRETIVE_KEY = "key-id-that-no-repr-shows"

IMPOSSIBLE_IDS: tuple[Any, ...] = ("", "x" * 513, "line\nbreak", "nul\0", "\x7f")
WRONG_IDS: tuple[Any, ...] = (None, 7, b"bytes", ("s",))


@law("A session carries the agent and every attribute that it was created with.", guarantee=6)
async def a_session_carries_what_it_was_created_with(store: StoreUnderTest) -> None:
    agent = FakeAgent()
    session = await store.create(
        "s", agent, api_key="k", tenant_id="t", blueprint="assistant", model="test"
    )
    assert session.agent is agent
    assert (session.session_id, session.api_key, session.tenant_id) == ("s", "k", "t")
    assert (session.blueprint, session.model, session.pid) == ("assistant", "test", os.getpid())
    assert isinstance(session.created_at, int)
    found = await store.get("s")
    assert found.agent is agent
    assert found.metadata == session.metadata


@law("Without attributes a session has the tenant 'default' and no key.", guarantee=6)
async def attributes_have_defaults(store: StoreUnderTest) -> None:
    session = await store.create("s", FakeAgent())
    assert (session.tenant_id, session.api_key) == ("default", None)
    assert (session.blueprint, session.model) == (None, None)


@law("A live holder keeps its id; who asks for it is told the holder.", guarantee=3)
async def a_live_holder_keeps_its_id(store: StoreUnderTest) -> None:
    holder, intruder = await store.create("s", FakeAgent("holder")), FakeAgent("intruder")
    error = await refusal(store.create("s", intruder, tenant_id="other"), SessionAlreadyExists)
    assert isinstance(error, ValueError)
    assert error.holder is not None
    assert (error.session_id, error.holder.fence) == ("s", holder.fence)
    assert (await store.get("s")).agent is holder.agent
    assert intruder.watched_by == 0


@law("A lookup of an id that nobody holds says so, as a KeyError too.", guarantee=6)
async def a_missing_session_is_not_found(store: StoreUnderTest) -> None:
    for ask in (store.get, store.update, store.ended):
        error = await refusal(ask("nobody"), SessionNotFound)
        assert isinstance(error, KeyError)
        assert error.session_id == "nobody"


@law("Deleting a missing id does nothing and never fails.", guarantee=6)
async def deleting_a_missing_session_does_nothing(store: StoreUnderTest) -> None:
    async with watching(store) as (snapshot, watch):
        await store.delete("nobody")
        await store.delete("nobody", fence=snapshot.revision)
        session = await store.create("s", FakeAgent())
        assert await brief_changes(watch, 1) == [("created", "s", None)]
        assert session.fence == store.next_revision(snapshot.revision)


@law("Deleting removes the entry, stops the monitor, and leaves the agent alone.", guarantee=5)
async def deleting_leaves_the_agent_alone(store: StoreUnderTest) -> None:
    agent = FakeAgent()
    await store.create("s", agent)
    assert agent.watched_by == 1
    await store.delete("s")
    assert agent.alive
    assert agent.watched_by == 0
    await refusal(store.get("s"), SessionNotFound)
    assert str((await store.ended("s")).reason) == "deleted"


@law("A delete with a fence removes that incarnation and no other.", guarantee=3)
async def a_fenced_delete_removes_that_incarnation_only(store: StoreUnderTest) -> None:
    old = await store.create("s", FakeAgent())
    await store.delete("s")
    new = await store.create("s", FakeAgent())
    await store.delete("s", fence=old.fence)
    assert (await store.get("s")).fence == new.fence
    await store.delete("s", fence=new.fence)
    await refusal(store.get("s"), SessionNotFound)


@law("Fences are ordered: a later creation has the greater one.", guarantee=3)
async def a_later_session_has_the_greater_fence(store: StoreUnderTest) -> None:
    first = await store.create("s", FakeAgent())
    await store.delete("s")
    second = await store.create("s", FakeAgent())
    assert first.fence < second.fence


@law("Listings are in the order of creation, oldest first.", guarantee=6)
async def listings_are_oldest_first(store: StoreUnderTest) -> None:
    order = ["c", "a", "b", "d"]
    for session_id in order:
        await store.create(session_id, FakeAgent(), tenant_id="t", api_key="k")
    await store.delete("a")
    await store.create("a", FakeAgent(), tenant_id="t", api_key="k")
    await store.update("c", model="changed")
    expected = ["c", "b", "d", "a"]
    assert ids(await store.list()) == expected
    assert ids(await store.list_by_tenant("t")) == expected
    assert ids(await store.list_by_api_key("k")) == expected


@law("An update changes what it names, and keeps the fence and everything else.", guarantee=6)
async def an_update_keeps_the_fence(store: StoreUnderTest) -> None:
    before = await store.create("s", FakeAgent(), tenant_id="t", model="old", blueprint="b")
    after = await store.update("s", model="new")
    assert (after.model, after.blueprint, after.tenant_id) == ("new", "b", "t")
    assert (after.fence, after.created_at) == (before.fence, before.created_at)
    assert after.agent is before.agent
    assert before.model == "old"
    assert (await store.get("s")).model == "new"
    assert (await store.update("s", blueprint=None)).blueprint is None


@law("Nobody's key is neither listed nor counted.", guarantee=6)
async def no_key_is_not_indexed(store: StoreUnderTest) -> None:
    await store.create("s", FakeAgent(), api_key=None)
    assert ids(await store.list()) == ["s"]
    assert await store.list_by_api_key("None") == []
    assert await store.count_by_api_key("None") == 0


@law("The repr of a session, an end or a change shows no key.", guarantee=11)
async def no_repr_shows_the_key(store: StoreUnderTest) -> None:
    async with watching(store) as (_, watch):
        session = await store.create("s", FakeAgent(), api_key=SECRETIVE_KEY)
        await store.delete("s")
        shown = [session, session.metadata, await store.ended("s"), await watch.next()]
    assert SECRETIVE_KEY not in repr(shown)


@law("Wrong types and impossible values are refused before anything changes.", guarantee=5)
async def impossible_values_are_refused(store: StoreUnderTest) -> None:
    async with watching(store) as (snapshot, watch):
        for session_id in IMPOSSIBLE_IDS:
            await refusal(store.create(session_id, FakeAgent()), InvalidArgument)
        for session_id in WRONG_IDS:
            await refusal(store.create(session_id, FakeAgent()), InvalidType)
        await refusal(store.create("s", object()), UnknownAgentKind)
        await refusal(store.create("s", FakeAgent(), tenant_id=7), InvalidType)
        await refusal(store.create("s", FakeAgent(), api_key=7), InvalidType)
        assert await store.count() == 0
        await store.create("s", FakeAgent())
        assert (await watch.next()).revision == store.next_revision(snapshot.revision)


@law("A factory runs once however many callers ask for the session.", guarantee=9)
async def a_factory_runs_once(store: StoreUnderTest) -> None:
    made: list[FakeAgent] = []

    def factory() -> FakeAgent:
        made.append(FakeAgent())
        return made[-1]

    asked = [lambda: store.get_or_create("s", factory) for _ in range(16)]
    answers = await store.together(asked)
    assert len(made) == 1
    for answer in answers:
        assert not isinstance(answer, BaseException), repr(answer)
        assert answer.agent is made[0]


@law("A factory that fails leaves nothing, and the next may try.", guarantee=5)
async def a_failed_factory_leaves_nothing(store: StoreUnderTest) -> None:
    def failing() -> FakeAgent:
        raise LookupError("no such model")

    await refusal(store.get_or_create("s", failing), LookupError)
    assert await store.count() == 0
    assert (await store.get_or_create("s", FakeAgent)).agent.alive


@law(
    "An awaited factory runs once, and a caller that is cancelled takes it from nobody.",
    guarantee=9,
)
async def an_awaited_factory_runs_once(store: StoreUnderTest) -> None:
    made: list[FakeAgent] = []
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def factory() -> FakeAgent:
        entered.set()
        await go_on.wait()
        made.append(FakeAgent())
        return made[-1]

    callers = [asyncio.create_task(store.get_or_create_async("s", factory)) for _ in range(8)]
    await entered.wait()
    await passes()
    for cancelled in callers[:2]:
        cancelled.cancel()
        await asyncio.wait([cancelled])
    go_on.set()
    answers = await asyncio.gather(*callers[2:], return_exceptions=True)
    assert len(made) == 1
    for answer in answers:
        assert not isinstance(answer, BaseException), repr(answer)
        assert answer.agent is made[0]


@law("An awaited factory that nobody waits for any more is ended, and leaves nothing.", guarantee=5)
async def the_last_cancellation_ends_the_factory(store: StoreUnderTest) -> None:
    entered, ended = asyncio.Event(), asyncio.Event()

    async def factory() -> FakeAgent:
        entered.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()
        return FakeAgent()

    callers = [asyncio.create_task(store.get_or_create_async("s", factory)) for _ in range(2)]
    await entered.wait()
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    assert ended.is_set()
    assert await store.count() == 0


@law("Closing is final and may be repeated; agents are left alone, monitors released.", guarantee=8)
async def closing_is_final(store: StoreUnderTest) -> None:
    agent = FakeAgent()
    await store.create("s", agent)
    await store.close()
    await store.close()
    assert agent.alive
    assert agent.watched_by == 0
    await refusal(store.get("s"), StoreClosed)
    await refusal(store.create("t", agent), StoreClosed)
    await refusal(store.list(), StoreClosed)
    error = await refusal(store.count(), StoreClosed)
    assert isinstance(error, FrontdeskError)


OPERATIONS = (
    a_session_carries_what_it_was_created_with,
    attributes_have_defaults,
    a_live_holder_keeps_its_id,
    a_missing_session_is_not_found,
    deleting_a_missing_session_does_nothing,
    deleting_leaves_the_agent_alone,
    a_fenced_delete_removes_that_incarnation_only,
    a_later_session_has_the_greater_fence,
    listings_are_oldest_first,
    an_update_keeps_the_fence,
    no_key_is_not_indexed,
    no_repr_shows_the_key,
    impossible_values_are_refused,
    a_factory_runs_once,
    a_failed_factory_leaves_nothing,
    an_awaited_factory_runs_once,
    the_last_cancellation_ends_the_factory,
    closing_is_final,
)
