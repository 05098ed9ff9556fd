"""Guarantee 2: a finished agent is never returned by any lookup or listing, even before its
callback ran; its id can be taken again at once, and it never causes a refusal by a limit.

Futures on a loop that does not run are finished for as long as a test likes; a thread is, once it
was joined, whatever its watcher knows.
"""

import asyncio
import contextlib
import threading

import pytest

from frontdesk import ExitReason, Limits, SessionLimitExceeded, SessionNotFound
from frontdesk.testing import FakeAgent
from support.agents import in_threads, parked_thread


@pytest.fixture
def loop():
    """An event loop that runs only when a test lets it."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.fixture
def finished(store, loop):
    """A session `s` whose agent has finished, and whose callback has not run."""
    agent = loop.create_future()
    store.create("s", agent, tenant_id="t", api_key="k")
    store.create("living", FakeAgent(), tenant_id="t", api_key="k")
    agent.set_result(None)
    return agent


@pytest.mark.usefixtures("finished")
class TestAFinishedAgentWhoseCallbackHasNotRun:
    def test_is_not_returned_by_get(self, store):
        with pytest.raises(SessionNotFound):
            store.get("s")

    def test_is_not_in_the_store(self, store):
        assert "s" not in store
        assert "living" in store

    def test_is_in_no_listing(self, store):
        listings = [
            store.list(),
            store.list_by_tenant("t"),
            store.list_by_api_key("k"),
            list(store),
        ]
        assert [[one.session_id for one in listing] for listing in listings] == [["living"]] * 4

    def test_cannot_be_updated(self, store):
        with pytest.raises(SessionNotFound):
            store.update("s", model="m")

    def test_does_not_hold_its_id(self, store):
        new = FakeAgent("new")
        store.create("s", new)
        assert store.get("s").agent is new

    def test_has_its_factory_run_again(self, store):
        new = FakeAgent("new")
        assert store.get_or_create("s", lambda: new).agent is new

    def test_has_ended_for_who_asks(self, store):
        assert store.ended("s").reason == ExitReason.of("normal")

    def test_keeps_its_own_reason_when_it_is_deleted(self, store):
        store.delete("s")
        assert store.ended("s").reason == ExitReason.of("normal")

    def test_keeps_its_own_reason_when_the_store_is_closed(self, store):
        with store.watch() as watch:
            store.close()
            reasons = {
                item.session.session_id: item.reason for item in watch if hasattr(item, "kind")
            }
        assert reasons == {"s": ExitReason.of("normal"), "living": ExitReason.of("shutdown")}

    def test_is_counted_at_most_until_its_callback_ran(self, store, loop):
        assert store.count() >= len(store.list())
        loop.run_until_complete(asyncio.sleep(0))
        assert store.count() == store.count_by_tenant("t") == store.count_by_api_key("k") == 1


def test_a_callback_before_the_stores_own_sees_the_session_gone(store):
    seen = []

    async def main():
        task = asyncio.create_task(asyncio.sleep(0))
        task.add_done_callback(lambda _: seen.append(("s" in store, store.list())))
        store.create("s", task)
        await task

    asyncio.run(main())
    assert seen == [(False, [])]


def test_a_finished_thread_is_not_returned_however_late_its_watcher_is(store):
    for number in range(50):
        with parked_thread() as thread:
            store.create(f"s{number}", thread)
            assert store.get(f"s{number}").agent is thread
        with pytest.raises(SessionNotFound):
            store.get(f"s{number}")
        assert store.list() == []


def test_the_id_of_a_finished_thread_is_free_at_once(store):
    for _ in range(50):
        with parked_thread() as thread:
            store.create("s", thread)


def test_a_died_agent_of_a_kind_of_the_users_is_not_returned(store):
    agent = FakeAgent()
    store.create("s", agent)
    agent.die()
    assert "s" not in store
    assert store.list() == []


SCOPES = [
    ("total", Limits(total=2)),
    ("per_tenant", Limits(per_tenant=2)),
    ("per_api_key", Limits(per_api_key=2)),
]


@pytest.mark.parametrize(("scope", "limits"), SCOPES, ids=[scope for scope, _ in SCOPES])
class TestALimit:
    def test_is_not_filled_by_the_finished(self, make_store, loop, scope, limits):
        store = make_store(limits=limits)
        agents = [loop.create_future() for _ in range(2)]
        for number, agent in enumerate(agents):
            store.create(f"s{number}", agent, api_key="k")
        with pytest.raises(SessionLimitExceeded) as refused:
            store.create("one-more", FakeAgent(), api_key="k")
        assert (refused.value.scope, refused.value.limit) == (scope, 2)
        agents[1].set_result(None)
        store.create("one-more", FakeAgent(), api_key="k")
        assert {one.session_id for one in store.list()} == {"s0", "one-more"}

    def test_is_not_filled_by_the_many_sessions_of_a_finished_agent(
        self, make_store, loop, scope, limits
    ):
        store = make_store(limits=limits)
        agent = loop.create_future()
        store.create("a", agent, api_key="k")
        store.create("b", agent, api_key="k")
        agent.cancel()
        store.create("c", FakeAgent(), api_key="k")
        assert store.ended("a").reason == store.ended("b").reason == ExitReason.of("cancelled")

    def test_is_not_filled_by_finished_threads(self, make_store, scope, limits):
        store = make_store(limits=limits)
        for number in range(6):
            with parked_thread() as thread:
                store.create(f"s{number}", thread, api_key="k")
        store.create("last", FakeAgent(), api_key="k")

    def test_of_none_lets_nobody_in_but_says_so(self, make_store, loop, scope, limits):
        store = make_store(limits=Limits(**{scope: 0}))
        agent = FakeAgent()
        with pytest.raises(SessionLimitExceeded):
            store.create("s", agent, api_key="k")
        assert agent.watched_by == 0


def test_counts_are_never_below_the_listing_while_agents_come_and_go(store, eager_switches):
    over = threading.Event()

    def live():
        try:
            for number in range(300):
                agent = FakeAgent()
                store.create(f"{threading.get_ident()}-{number}", agent)
                agent.end()
        finally:
            over.set()

    def observe():
        while not over.is_set():
            for session in store.list():
                with contextlib.suppress(SessionNotFound):
                    assert store.get(session.session_id).session_id == session.session_id

    in_threads(live, live, observe)
    assert store.count() == 0
