"""Laws of the end: what goes when an agent ends, with which reason, and what does not.

The agents are asyncio futures, finished before their callback has run, and fakes that die before
they notify: both moments are held still instead of being raced for.
"""

from __future__ import annotations

import asyncio

from frontdesk.errors import SessionNotFound
from frontdesk.records import ExitReason
from frontdesk.store import Limits
from frontdesk.testing.agents import FakeAgent
from frontdesk.testing.law import law
from frontdesk.testing.laws.reading import (
    brief_changes,
    changes,
    ends,
    ids,
    is_empty,
    is_gone,
    nothing_more,
    pending,
    refusal,
    watching,
)
from frontdesk.testing.subject import StoreUnderTest

MANY = 50


class Crash(Exception):
    """What an agent of these laws dies of."""


@law("An agent's end removes every entry it is registered under, once each.", guarantee=1)
async def an_end_removes_every_entry_of_the_agent(store: StoreUnderTest) -> None:
    agent, other = pending(), FakeAgent("other")
    names = [f"s{number}" for number in range(MANY)]
    for name in names:
        await store.create(name, agent, tenant_id="t", api_key="k")
    await store.create("other", other)
    async with watching(store) as (_, watch):
        agent.set_exception(Crash("out of tokens"))
        told = await ends(watch, MANY)
        assert sorted(end.session.session_id for end in told) == sorted(names)
        assert {end.reason for end in told} == {ExitReason.crashed(Crash("out of tokens"))}
        assert ids(await store.list()) == ["other"]
        assert await store.count_by_tenant("t") == await store.count_by_api_key("k") == 0
        await nothing_more(store, watch)


@law(
    "A task's end is told as what it was: returned, cancelled, or crashed with its error.",
    guarantee=1,
)
async def a_task_ends_with_its_reason(store: StoreUnderTest) -> None:
    go_on = asyncio.Event()
    tasks = [asyncio.create_task(_live(go_on, error)) for error in (None, None, Crash("why"))]
    for number, task in enumerate(tasks):
        await store.create(f"s{number}", task)
    async with watching(store) as (_, watch):
        tasks[0].cancel()
        go_on.set()
        told = await ends(watch, len(tasks))
    reasons = {end.session.session_id: end.reason for end in told}
    assert reasons["s0"] == ExitReason.of("cancelled")
    assert reasons["s1"] == ExitReason.of("normal")
    assert reasons["s2"] == ExitReason.crashed(Crash("why"))


async def _live(go_on: asyncio.Event, error: Exception | None) -> None:
    await go_on.wait()
    if error is not None:
        raise error


@law("Two agents that end are told in two, and neither takes the other along.", guarantee=1)
async def each_end_takes_its_own_entries_only(store: StoreUnderTest) -> None:
    first, second = FakeAgent("first"), FakeAgent("second")
    for name, agent in (("a", first), ("b", second), ("c", first)):
        await store.create(name, agent)
    async with watching(store) as (_, watch):
        first.end(ExitReason.exited(3))
        assert await brief_changes(watch, 2) == [("ended", "a", "exited"), ("ended", "c", "exited")]
        assert ids(await store.list()) == ["b"]
        second.end(ExitReason.signalled(9))
        assert await brief_changes(watch, 1) == [("ended", "b", "signalled")]
    assert await store.count() == 0


@law("A deleted session does not end a second time when its agent does.", guarantee=1)
async def a_session_ends_once(store: StoreUnderTest) -> None:
    agent = pending()
    await store.create("s", agent)
    await store.create("t", agent)
    async with watching(store) as (_, watch):
        await store.delete("s")
        agent.cancel()
        assert await brief_changes(watch, 2) == [
            ("ended", "s", "deleted"),
            ("ended", "t", "cancelled"),
        ]
        await nothing_more(store, watch)


@law("The memory of ends says how the last session of an id ended, and when.", guarantee=1)
async def the_last_end_of_an_id_is_remembered(store: StoreUnderTest) -> None:
    for reason in (ExitReason.exited(1), ExitReason.exited(2)):
        agent = FakeAgent()
        session = await store.create("s", agent)
        async with watching(store) as (_, watch):
            agent.end(reason)
            (end,) = await changes(watch, 1)
        ended = await store.ended("s")
        assert (ended.reason, ended.session, ended.revision) == (
            reason,
            session.metadata,
            end.revision,
        )
        assert ended.ended_at >= session.created_at


@law("A finished agent is in no lookup and no listing, even before its callback ran.", guarantee=2)
async def a_finished_agent_is_never_returned(store: StoreUnderTest) -> None:
    finished, living = pending(), pending()
    await store.create("finished", finished, tenant_id="t", api_key="k")
    await store.create("living", living, tenant_id="t", api_key="k")
    finished.set_result(None)
    await refusal(store.get("finished"), SessionNotFound)
    await refusal(store.update("finished", model="m"), SessionNotFound)
    listings = (
        await store.list(),
        await store.list_by_tenant("t"),
        await store.list_by_api_key("k"),
    )
    assert [ids(listing) for listing in listings] == [["living"]] * 3
    assert await store.count() >= 1


@law("The id of a finished agent can be taken at once, and the old one ends first.", guarantee=2)
async def the_id_of_a_finished_agent_is_free(store: StoreUnderTest) -> None:
    old, new = pending(), pending()
    await store.create("s", old)
    async with watching(store) as (_, watch):
        old.set_result(None)
        await store.create("s", new)
        assert await brief_changes(watch, 2) == [("ended", "s", "normal"), ("created", "s", None)]
        assert (await store.get("s")).agent is new


@law("A finished agent never causes a refusal by a limit.", guarantee=2, limits=Limits(total=2))
async def a_finished_agent_fills_no_limit(store: StoreUnderTest) -> None:
    for round_number in range(3):
        agents = [pending(), pending()]
        for number, agent in enumerate(agents):
            await store.create(f"s{round_number}-{number}", agent)
        for agent in agents:
            agent.set_result(None)
    await store.create("last", FakeAgent())
    assert ids(await store.list()) == ["last"]


@law("Nor does one that fills it with several sessions.", guarantee=2, limits=Limits(per_tenant=2))
async def a_finished_agent_with_many_sessions_fills_no_limit(store: StoreUnderTest) -> None:
    agent = pending()
    await store.create("a", agent)
    await store.create("b", agent)
    agent.set_result(None)
    await store.create("c", FakeAgent())
    assert ids(await store.list()) == ["c"]
    assert (await store.ended("b")).reason == ExitReason.of("normal")


@law("Who deletes a finished agent's session finds it ended, with its own reason.", guarantee=2)
async def a_delete_keeps_the_reason_of_the_finished(store: StoreUnderTest) -> None:
    agent = pending()
    await store.create("s", agent)
    async with watching(store) as (_, watch):
        agent.set_exception(Crash("first"))
        await store.delete("s")
        assert (await store.ended("s")).reason == ExitReason.crashed(Crash("first"))
        assert await brief_changes(watch, 1) == [("ended", "s", "crashed")]
        await nothing_more(store, watch)


@law("The memory of ends knows a finished agent's end before its callback ran.", guarantee=2)
async def a_finished_agent_has_ended_before_it_told(store: StoreUnderTest) -> None:
    agent = pending()
    await store.create("s", agent)
    agent.cancel()
    assert (await store.ended("s")).reason == ExitReason.of("cancelled")


@law("The late end of the old agent leaves the new one alone.", guarantee=3)
async def the_late_end_of_the_old_leaves_the_new_alone(store: StoreUnderTest) -> None:
    old, new = FakeAgent("old"), FakeAgent("new")
    await store.create("s", old, tenant_id="t", api_key="k")
    old.die()
    session = await store.create("s", new, tenant_id="t", api_key="k")
    async with watching(store) as (_, watch):
        old.notify()
        await nothing_more(store, watch)
    assert (await store.get("s")).fence == session.fence
    assert ids(await store.list_by_tenant("t")) == ids(await store.list_by_api_key("k")) == ["s"]


@law("An end that comes after a delete leaves the id's next holder alone.", guarantee=3)
async def an_end_after_a_delete_leaves_the_new_alone(store: StoreUnderTest) -> None:
    old, new = pending(), FakeAgent("new")
    await store.create("s", old)
    await store.delete("s")
    session = await store.create("s", new)
    async with watching(store) as (_, watch):
        old.set_result(None)
        await nothing_more(store, watch)
    assert (await store.get("s")).fence == session.fence


@law(
    "The same agent under the same id again is a new session, and its end ends that one.",
    guarantee=3,
)
async def the_same_agent_again_ends_once(store: StoreUnderTest) -> None:
    agent = pending()
    await store.create("s", agent)
    await store.delete("s")
    again = await store.create("s", agent)
    async with watching(store) as (_, watch):
        agent.set_result(None)
        (end,) = await ends(watch, 1)
        assert (end.session.fence, end.reason) == (again.fence, ExitReason.of("normal"))
        await nothing_more(store, watch)
    assert await is_gone(store, "s")


@law("Registering a dead agent returns its session and leaves nothing behind.", guarantee=4)
async def a_dead_agent_leaves_nothing_behind(store: StoreUnderTest) -> None:
    dead = pending()
    dead.set_result(None)
    async with watching(store) as (snapshot, watch):
        session = await store.create("s", dead, tenant_id="t", api_key="k")
        assert (session.session_id, session.agent) == ("s", dead)
        (created,), (ended,) = await changes(watch, 1), await ends(watch, 1)
        assert (created.kind, created.revision) == ("created", session.fence)
        assert ended.reason == ExitReason.of("not_alive")
        assert created.revision == store.next_revision(snapshot.revision)
        assert ended.revision == store.next_revision(created.revision)
        await nothing_more(store, watch)
    assert await is_gone(store, "s")
    assert await is_empty(store, tenant_id="t", api_key="k")
    assert (await store.ended("s")).reason == ExitReason.of("not_alive")


@law("A dead agent keeps no callback of the store's.", guarantee=4)
async def a_dead_agent_keeps_no_callback(store: StoreUnderTest) -> None:
    dead = FakeAgent(dead=True)
    await store.create("s", dead)
    assert dead.watched_by == 0
    assert await is_gone(store, "s")


ENDS = (
    an_end_removes_every_entry_of_the_agent,
    a_task_ends_with_its_reason,
    each_end_takes_its_own_entries_only,
    a_session_ends_once,
    the_last_end_of_an_id_is_remembered,
    a_finished_agent_is_never_returned,
    the_id_of_a_finished_agent_is_free,
    a_finished_agent_fills_no_limit,
    a_finished_agent_with_many_sessions_fills_no_limit,
    a_delete_keeps_the_reason_of_the_finished,
    a_finished_agent_has_ended_before_it_told,
    the_late_end_of_the_old_leaves_the_new_alone,
    an_end_after_a_delete_leaves_the_new_alone,
    the_same_agent_again_ends_once,
    a_dead_agent_leaves_nothing_behind,
    a_dead_agent_keeps_no_callback,
)
