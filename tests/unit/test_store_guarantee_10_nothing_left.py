"""Guarantee 10: after a million create/exit cycles there are no leftover entries, buckets,
callbacks, threads or descriptors. The million is part of `make test-all`; a fiftieth of it runs
every time.
"""

import asyncio
import concurrent.futures
import os
import subprocess
import sys
import weakref

import pytest

from conftest import new_watcher
from frontdesk import SessionStore
from frontdesk.testing import FakeAgent
from support.agents import end_of, parked_thread, process
from support.leftovers import collected, descriptors, nothing_left, watcher_threads

SPARE_BLOCKS = 5000
"""What a run may hold in the end: the memory of ends, and caches of the interpreter."""


@pytest.fixture(autouse=True)
def quiet():
    """Let what earlier tests have left to the collector and to closed watchers come to its end."""
    collected()
    for thread in watcher_threads():
        thread.join(30)


def cycles_of_tasks(store, number):
    async def main():
        for start in range(0, number, 1000):
            tasks = [asyncio.create_task(brief()) for _ in range(1000)]
            for offset, task in enumerate(tasks):
                count = start + offset
                store.create(
                    f"s{count}", task, tenant_id=f"t{count % 1013}", api_key=f"k{count % 211}"
                )
                if count % 5 == 0:
                    store.delete(f"s{count}")
            await asyncio.wait(tasks)
            await asyncio.sleep(0)

    asyncio.run(main())


async def brief():
    await asyncio.sleep(0)


def cycles_of_one_agent(store, number):
    """One agent that outlives all its sessions."""
    agent, future = FakeAgent(), concurrent.futures.Future()
    for count in range(number // 2):
        store.create(f"s{count}", agent, tenant_id=f"t{count % 1013}")
        store.delete(f"s{count}")
        store.create(f"f{count}", future, api_key=f"k{count % 211}")
        store.delete(f"f{count}")
    assert agent.watched_by == 0
    assert len(future._done_callbacks) == 1
    future.set_result(None)


def cycles_of_refusals(store, number):
    agent = FakeAgent()
    store.create("s", agent)
    for count in range(number):
        try:
            store.create("s", FakeAgent(), tenant_id=f"t{count}", api_key=f"k{count}")
        except ValueError:
            continue
    agent.end()


def cycles_of_the_dead(store, number):
    dead = FakeAgent(dead=True)
    for count in range(number):
        store.create(f"s{count}", dead, tenant_id=f"t{count}", api_key=f"k{count}")


def cycles_of_watches(store, number):
    for count in range(number // 5):
        with store.watch() as watch:
            watch.next(timeout_s=0)
            agent = FakeAgent()
            store.create(f"s{count}", agent)
            agent.end()
            assert end_of(watch, f"s{count}")


CYCLES = [
    cycles_of_tasks,
    cycles_of_one_agent,
    cycles_of_refusals,
    cycles_of_the_dead,
    cycles_of_watches,
]


def run_and_measure(make_store, cycles, number):
    store = make_store(ends_capacity=100, feed_capacity=64)
    cycles(store, 5000)  # fills what is bounded
    collected()
    before = descriptors(), len(watcher_threads()), sys.getallocatedblocks()
    cycles(store, number)
    collected()
    assert nothing_left(store)
    assert (descriptors(), len(watcher_threads())) == before[:2]
    assert len(store._core.changes.ends) <= 2 * 100
    assert sys.getallocatedblocks() - before[2] < SPARE_BLOCKS


@pytest.mark.parametrize("cycles", CYCLES, ids=lambda one: one.__name__)
def test_after_many_cycles_nothing_is_left(make_store, cycles):
    run_and_measure(make_store, cycles, 20_000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("cycles", CYCLES, ids=lambda one: one.__name__)
def test_after_a_million_cycles_nothing_is_left(make_store, cycles):
    run_and_measure(make_store, cycles, 1_000_000)


def test_after_many_threads_nothing_is_left(store):
    with parked_thread() as warm_up:
        store.create("warm-up", warm_up)
        store.delete("warm-up")
    before = descriptors()
    with store.watch() as watch:
        watch.next(timeout_s=0)
        for number in range(200):
            with parked_thread() as thread:
                store.create(f"s{number}", thread)
            end_of(watch, f"s{number}")
    assert nothing_left(store)
    assert descriptors() == before


def test_after_many_processes_nothing_is_left(store):
    with process() as warm_up:
        store.create("warm-up", warm_up)
        store.delete("warm-up")
    before = descriptors()
    with store.watch() as watch:
        watch.next(timeout_s=0)
        for number in range(100):
            child = subprocess.Popen(["true"])
            store.create(f"s{number}", child)
            end_of(watch, f"s{number}")
            child.wait()
    assert nothing_left(store)
    assert descriptors() == before


def test_a_closed_store_leaves_no_thread_and_no_descriptor():
    before, numbers = set(watcher_threads()), descriptors()
    for _ in range(20):
        store, loop = SessionStore(), asyncio.new_event_loop()
        with parked_thread() as thread:
            store.create("s", thread)
            store.create("f", loop.create_future())
            (new,) = set(watcher_threads()) - before
            store.close()
            loop.close()
            new.join(30)
            assert not new.is_alive()
    assert set(watcher_threads()) <= before
    assert descriptors() == numbers


def test_a_watcher_that_was_given_outlives_the_store_and_knows_nothing_of_it():
    with new_watcher() as watcher, parked_thread() as thread:
        with SessionStore(watcher=watcher) as store, SessionStore(watcher=watcher) as other:
            store.create("s", thread)
            other.create("s", thread)
            assert len(watcher) == 2
            store.close()
            assert len(watcher) == 1
            assert not watcher.closed
            with other.watch() as watch:
                watch.next(timeout_s=0)
                thread.release()
                assert end_of(watch, "s")
        assert len(watcher) == 0


def test_a_store_that_was_forgotten_leaves_no_thread_and_no_agent_monitored():
    before = set(watcher_threads())
    store = SessionStore()
    agent, loop = FakeAgent(), asyncio.new_event_loop()
    future = loop.create_future()
    store.create("s", agent)
    store.create("f", future)
    with parked_thread() as thread:
        store.create("t", thread)
        (watcher,) = set(watcher_threads()) - before
        del store
        collected()
        watcher.join(30)
        assert not watcher.is_alive()
        agent.end()
        future.set_result(None)
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_a_forgotten_store_lets_go_of_its_agents():
    store, agent = SessionStore(), FakeAgent()
    store.create("s", agent)
    reference = weakref.ref(agent)
    del store, agent
    collected()
    assert reference() is None


def test_agents_that_outlive_their_sessions_are_not_remembered_after_their_own_end(store):
    async def main():
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(1000)]
        for number, future in enumerate(futures):
            store.create(f"s{number}", future)
            store.delete(f"s{number}")
        for future in futures:
            future.set_result(None)
        del future
        futures.clear()
        await asyncio.sleep(0)

    asyncio.run(main())
    collected()
    assert nothing_left(store)


def test_a_future_that_is_registered_over_and_over_has_one_callback(store):
    async def main():
        loop = asyncio.get_running_loop()
        here, pool = loop.create_future(), concurrent.futures.Future()
        for number in range(100):
            for agent in (here, pool):
                store.create(f"s{number}", agent)
                store.delete(f"s{number}")
                await asyncio.to_thread(store.create, f"s{number}", agent)
                await asyncio.to_thread(store.delete, f"s{number}")
        assert len(here._callbacks) == len(pool._done_callbacks) == 1
        store.create("here", here)
        store.create("pool", pool)
        here.set_result(None)
        pool.set_result(None)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert {str(store.ended(one).reason) for one in ("here", "pool")} == {"normal"}
    assert nothing_left(store)


def test_the_store_starts_no_thread_for_agents_that_need_none(make_store):
    before = set(watcher_threads())
    store = make_store()
    store.create("a", FakeAgent())
    store.create("b", concurrent.futures.Future())
    assert set(watcher_threads()) == before
    assert os.getpid() == store.get("a").pid
