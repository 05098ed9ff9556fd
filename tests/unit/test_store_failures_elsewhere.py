"""What has gone wrong in comparable software, as far as a registry can do it: each a test named
after what must not happen. Those of processes and gateways are in tests/chaos and tests/gateway.
"""

import asyncio
import concurrent.futures
import threading
import weakref

import pytest

from frontdesk import ExitReason, Limits, SessionLimitExceeded, SessionNotFound
from frontdesk.testing import FakeAgent, ManualClock
from support.agents import BOUND_S, end_of, in_threads, parked_thread
from support.leftovers import assert_indexes_agree, collected, nothing_left


def test_five_hundred_abandoned_sessions_do_not_stay_for_ever(store):
    """Sessions that clients abandon: their agents end, and so do the entries."""

    async def main():
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(500)]
        for number, task in enumerate(tasks):
            store.create(f"s{number}", task, tenant_id=f"t{number}", api_key=f"k{number}")
        await asyncio.wait(tasks)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert nothing_left(store)


def ends_by_delete(store, agent):
    store.delete("s")


def ends_by_return(store, agent):
    agent.end()


def ends_by_crash(store, agent):
    agent.end(ExitReason.crashed(LookupError("why")))


def ends_by_kill(store, agent):
    agent.end(ExitReason.signalled(9))


def ends_silently(store, agent):
    agent.die()
    with pytest.raises(SessionNotFound):
        store.get("s")
    store.ended("s")


def ends_with_its_successor(store, agent):
    agent.die()
    store.create("s", FakeAgent(dead=True))


def ends_twice(store, agent):
    store.delete("s")
    agent.end()
    store.delete("s")


@pytest.mark.parametrize(
    "end",
    [
        ends_by_delete,
        ends_by_return,
        ends_by_crash,
        ends_by_kill,
        ends_silently,
        ends_with_its_successor,
        ends_twice,
    ],
    ids=lambda one: one.__name__,
)
def test_no_way_to_end_leaves_a_session_behind(store, end):
    agent = FakeAgent()
    store.create("s", agent, tenant_id="t", api_key="k")
    end(store, agent)
    assert store.count() == store.count_by_tenant("t") == store.count_by_api_key("k") == 0
    assert nothing_left(store)


def test_a_session_refused_while_it_opens_is_not_left_behind(make_store):
    store = make_store(limits=Limits(total=1))
    holder = FakeAgent()
    store.create("holder", holder)
    for number in range(100):
        with pytest.raises(SessionLimitExceeded):
            store.create(f"s{number}", FakeAgent(), tenant_id=f"t{number}", api_key=f"k{number}")
    holder.end()
    assert nothing_left(store)


def test_a_create_that_is_cancelled_in_the_middle_is_not_left_behind(store):
    """The task that would be the agent is cancelled before its first step."""

    async def main():
        async def open_session():
            agent = asyncio.create_task(asyncio.Event().wait())
            store.create("s", agent)
            try:
                await asyncio.sleep(BOUND_S)
            finally:
                agent.cancel()

        opening = asyncio.create_task(open_session())
        await asyncio.sleep(0)
        assert "s" in store
        opening.cancel()
        await asyncio.wait([opening])
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert nothing_left(store)


def test_no_second_dictionary_is_forgotten_when_the_first_is_cleaned(store):
    agents = [FakeAgent() for _ in range(30)]
    for number, agent in enumerate(agents):
        store.create(f"s{number}", agent, tenant_id=f"t{number % 3}", api_key=f"k{number % 5}")
    for number, agent in enumerate(agents):
        agent.end() if number % 2 else store.delete(f"s{number}")
        assert_indexes_agree(store)
    assert nothing_left(store)


def test_one_error_in_the_cleaning_does_not_stop_it_for_the_life_of_the_process(make_store):
    class Broken(FakeAgent):
        def add_exit_callback(self, callback):
            super().add_exit_callback(callback)

            def cancel():
                raise ArithmeticError("cannot be taken back")

            return cancel

    store = make_store()
    broken = [Broken() for _ in range(3)]
    for number, agent in enumerate(broken):
        store.create(f"broken{number}", agent)
    store.delete("broken0")
    broken[1].end()
    loop = asyncio.new_event_loop()
    with store.watch() as watch:
        watch.next(timeout_s=0)
        for number in range(2):
            store.create(f"s{number}", loop.create_future())
            loop.close()
            assert end_of(watch, f"s{number}").reason == ExitReason.of("lost")
            loop = asyncio.new_event_loop()
        with parked_thread() as thread:
            store.create("thread", thread)
        assert end_of(watch, "thread")
    loop.close()


def test_cleaning_up_ten_thousand_sessions_does_not_freeze_a_loop(store):
    """Each end is a callback of its own: a loop gets to do other things in between."""
    between = []

    async def main():
        agents = [asyncio.get_running_loop().create_future() for _ in range(10_000)]
        for number, agent in enumerate(agents):
            store.create(f"s{number}", agent)
        loop = asyncio.get_running_loop()
        for agent in agents:
            loop.call_soon(agent.set_result, None)
            loop.call_soon(lambda: between.append(store.count()))
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert len(between) == 10_000
    assert nothing_left(store)


def test_no_entry_stays_of_an_agent_whose_start_failed(store):
    def start():
        raise ConnectionError("the model does not answer")

    with pytest.raises(ConnectionError):
        store.get_or_create("s", start)
    assert nothing_left(store)
    assert store.get_or_create("s", FakeAgent).agent.alive


def test_no_lookup_returns_a_dead_actor_and_its_name_can_be_taken_again(store):
    for number in range(100):
        actor = concurrent.futures.Future()
        store.create("actor", actor)
        assert store.get("actor").agent is actor
        actor.set_exception(ConnectionError(str(number)))
        with pytest.raises(SessionNotFound):
            store.get("actor")
    assert nothing_left(store)


def test_the_late_clean_up_of_the_old_actor_does_not_remove_the_new_ones_name(store):
    old = FakeAgent("old")
    store.create("actor", old)
    old.die()
    new = store.create("actor", FakeAgent("new"))
    old.notify()
    assert store.get("actor") is new


def test_a_session_in_use_is_not_evicted_as_the_oldest(make_store):
    """A full store refuses the newcomer; whoever is in stays in."""
    store = make_store(limits=Limits(total=10), ends_capacity=1, feed_capacity=1)
    sessions = [store.create(f"s{number}", FakeAgent()) for number in range(10)]
    for number in range(100):
        with pytest.raises(SessionLimitExceeded):
            store.create(f"new{number}", FakeAgent())
    assert store.list() == sessions


def test_no_eviction_drops_the_entry_and_leaves_the_agent_running(make_store):
    """The entry of a live agent goes by delete and close only, and both leave it to its owner."""
    store = make_store(ends_capacity=1, feed_capacity=1)
    agents = [FakeAgent() for _ in range(1000)]
    for number, agent in enumerate(agents):
        store.create(f"s{number}", agent)
    assert store.count() == 1000
    assert all(store.get(f"s{number}").agent is agent for number, agent in enumerate(agents))


def test_an_exit_handler_does_not_keep_a_session_alive(make_store):
    """Neither agent nor store is held by what is called at the end of one of them."""
    store = make_store()
    agent = FakeAgent()
    references = weakref.ref(agent), weakref.ref(store.create("s", agent))
    store.delete("s")
    del agent
    collected()
    assert [reference() for reference in references] == [None, None]


def test_a_blocked_clean_up_of_one_does_not_hang_the_requests_of_others(store):
    release, blocked = threading.Event(), threading.Event()

    class Stubborn(FakeAgent):
        def add_exit_callback(self, callback):
            super().add_exit_callback(callback)

            def cancel():
                blocked.set()
                assert release.wait(BOUND_S)

            return cancel

    store.create("stubborn", Stubborn())
    deleting = threading.Thread(target=store.delete, args=("stubborn",))
    deleting.start()
    assert blocked.wait(BOUND_S)
    assert "stubborn" not in store
    store.create("stubborn", FakeAgent())
    agent = FakeAgent()
    store.create("s", agent)
    agent.end()
    assert store.ended("s").reason == ExitReason.of("normal")
    release.set()
    deleting.join()
    assert [one.session_id for one in store.list()] == ["stubborn"]


def test_two_concurrent_revivals_do_not_make_two_owners(store, eager_switches):
    for number in range(50):
        store.create("s", FakeAgent(str(number))).agent.die()
        revived = in_threads(*[lambda: store.get_or_create("s", FakeAgent)] * 4)
        assert len({session.fence for session in revived}) == 1
        store.delete("s")


def test_a_lookup_by_a_tenant_shows_nobody_elses(store):
    for tenant_id in ("mine", "theirs"):
        store.create(f"s-{tenant_id}", FakeAgent(), tenant_id=tenant_id, api_key=tenant_id)
    assert [one.session_id for one in store.list_by_tenant("mine")] == ["s-mine"]
    assert [one.session_id for one in store.list_by_api_key("mine")] == ["s-mine"]
    with store.watch(tenant_id="mine") as watch:
        assert [one.session_id for one in watch.next(timeout_s=0).sessions] == ["s-mine"]
    assert store.list_by_tenant("") == store.list_by_tenant("nobody") == []


def test_two_hundred_changes_in_one_millisecond_have_two_hundred_revisions(make_store):
    """Numbers made from the clock collide in bursts."""
    store = make_store(clock=ManualClock())
    with store.watch() as watch:
        watch.next(timeout_s=0)
        for number in range(200):
            store.create(f"s{number}", FakeAgent())
        revisions = [watch.next(timeout_s=0).revision for _ in range(200)]
    assert revisions == list(range(1, 201))
    assert len({one.created_at for one in store.list()}) == 1


def test_a_full_subscriber_does_not_silently_lose_events(make_store):
    store = make_store(feed_capacity=4)
    with store.watch() as watch:
        watch.next(timeout_s=0)
        for number in range(100):
            store.create(f"s{number}", FakeAgent())
        snapshot = watch.next(timeout_s=0)
    assert snapshot.resync
    assert len(snapshot.sessions) == 100
