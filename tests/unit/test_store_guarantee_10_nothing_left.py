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
from pathlib import Path

import pytest

from conftest import new_watcher
from frontdesk import SessionStore
from frontdesk.testing import FakeAgent
from support.agents import end_of, parked_thread, process
from support.leftovers import collected, descriptors, nothing_left, watcher_threads
from support.programs.many_cycles import CYCLES

TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def quiet():
    """Let what earlier tests have left to the collector and to closed watchers come to its end."""
    collected()
    for thread in watcher_threads():
        thread.join(30)


def run_and_measure(cycles, number):
    ran = subprocess.run(
        [sys.executable, "-m", "support.programs.many_cycles", cycles, str(number)],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("cycles", CYCLES)
def test_after_many_cycles_nothing_is_left(cycles):
    run_and_measure(cycles, 20_000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("cycles", CYCLES)
def test_after_a_million_cycles_nothing_is_left(cycles):
    run_and_measure(cycles, 1_000_000)


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
