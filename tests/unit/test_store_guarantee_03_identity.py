"""Guarantee 3: the late clean-up of one agent never touches an entry created since under the same
id, whether by another agent, the same agent, a thread with a reused ident, or a process with a
reused pid (tests/chaos has the pid that the kernel really gives out twice).
"""

import asyncio
import concurrent.futures
import threading

import pytest

from conftest import new_watcher
from frontdesk import ExitReason, ProcessRef, monitor
from frontdesk.testing import FakeAgent
from support.agents import BOUND_S, end_of, parked_thread, process, start_time, told
from support.leftovers import collected, nothing_left


def test_the_late_exit_of_the_old_agent_leaves_the_new_one_alone(store):
    old, new = FakeAgent("old"), FakeAgent("new")
    store.create("s", old)
    old.die()
    session = store.create("s", new)
    with store.watch() as watch:
        old.notify()
        assert told(watch) == []
    assert store.get("s") is session


def test_an_exit_told_by_another_thread_in_the_middle_leaves_the_new_one_alone(store):
    """The old agent's callback is under way, and suspended, while its id is taken again."""
    for _ in range(50):
        old = concurrent.futures.Future()
        store.create("s", old)
        ending = threading.Thread(target=old.set_result, args=(None,))
        ending.start()
        concurrent.futures.wait([old])
        new = store.create("s", FakeAgent())
        ending.join()
        assert store.get("s") is new
        store.delete("s")


def test_a_new_future_at_the_address_of_a_dead_one_is_an_agent_of_its_own(store):
    async def main():
        loop = asyncio.get_running_loop()
        reused = 0
        for number in range(200):
            old = loop.create_future()
            store.create("s", old)
            store.delete("s")
            address = id(old)
            del old
            new = loop.create_future()
            reused += id(new) == address
            store.create("s", new)
            new.set_exception(LookupError(str(number)))
            await asyncio.sleep(0)
            assert store.ended("s").reason == ExitReason.crashed(LookupError(str(number)))
            del new
        assert reused, "no address was used again: the test shows nothing"
        collected()
        assert nothing_left(store)

    asyncio.run(main())


def test_the_same_agent_under_the_same_id_again_ends_once_as_the_second(store):
    agent = concurrent.futures.Future()
    first = store.create("s", agent)
    store.delete("s")
    second = store.create("s", agent)
    with store.watch() as watch:
        agent.set_result(None)
        assert told(watch) == [("ended", "s", "normal")]
    assert store.ended("s").session.fence == second.fence != first.fence


def test_a_deleted_agent_that_is_registered_again_elsewhere_ends_there_only(store):
    agent, other = concurrent.futures.Future(), FakeAgent("other")
    store.create("s", agent)
    store.delete("s")
    store.create("t", agent)
    holder = store.create("s", other)
    agent.cancel()
    assert store.get("s") is holder
    assert store.ended("t").reason == ExitReason.of("cancelled")


def test_a_delete_with_the_fence_of_the_old_leaves_the_new_alone(store):
    old = store.create("s", FakeAgent())
    store.delete("s")
    new = store.create("s", FakeAgent())
    store.delete("s", fence=old.fence)
    assert store.get("s") is new


def test_the_end_of_a_thread_leaves_a_thread_of_the_same_ident_alone(make_store):
    """The watcher is held up, so that the end of the old thread is told late."""
    with new_watcher() as watcher:
        store, reused = make_store(watcher=watcher), 0
        # On a busy machine another thread may take the ident first.
        for _ in range(500):
            if reused >= 5:
                break
            with held_up(watcher):
                with parked_thread() as old:
                    store.create("s", old)
                new = parked_thread()
                thread = new.__enter__()
                reused += thread.ident == old.ident
                session = store.create("s", thread)
            with store.watch() as watch:
                watch.next(timeout_s=0)
                settle(watcher)
                assert told(watch) == []
                assert store.get("s") is session
                new.__exit__(None, None, None)
                assert end_of(watch, "s").session.fence == session.fence
        store.close()
    assert reused, "no ident was given out twice: the test shows nothing"


class held_up:  # noqa: N801 - reads as what it does, in a `with`
    """Keep the thread of a watcher from telling anybody of anything."""

    def __init__(self, watcher):
        self._watcher, self._release, self._blocked = watcher, threading.Event(), threading.Event()

    def __enter__(self):
        with parked_thread() as thread:
            self._monitor = monitor(thread, self._block, watcher=self._watcher)
        assert self._blocked.wait(BOUND_S)

    def _block(self, _):
        self._blocked.set()
        self._release.wait(BOUND_S)

    def __exit__(self, *_):
        self._release.set()


def settle(watcher):
    """Wait until a watcher has told of everything that had ended by now."""
    told_of = threading.Event()
    with parked_thread() as thread:
        watching = monitor(thread, lambda _: told_of.set(), watcher=watcher)
    assert told_of.wait(BOUND_S)
    watching.cancel()


def test_a_pid_with_another_start_time_is_another_process(store):
    with process() as child:
        wrong = ProcessRef(child.pid, start_time(child.pid) - 1)
        session = store.create("s", wrong)
        assert "s" not in store
        assert store.ended("s").reason == ExitReason.of("not_alive")
        right = store.create("s", ProcessRef(child.pid, start_time(child.pid)))
        assert (session.pid, right.pid) == (child.pid, child.pid)
        assert store.get("s") is right


def test_one_process_under_two_names_ends_under_both_and_once_each(store):
    with process() as child, store.watch() as watch:
        watch.next(timeout_s=0)
        store.create("a", child)
        store.create("b", ProcessRef(child.pid, start_time(child.pid)))
        child.kill()
        ends = sorted([end_of_any(watch), end_of_any(watch)])
        assert ends == [("a", 9), ("b", 9)]
        child.wait()
        assert told(watch) == []


def end_of_any(watch):
    while True:
        change = watch.next(timeout_s=BOUND_S)
        if change.kind == "ended":
            return change.session.session_id, change.reason.signal


@pytest.mark.parametrize("number", range(5))
def test_races_for_an_id_between_ends_and_creates_lose_nobody(store, eager_switches, number):
    """One thread ends agents late while another takes their id: the last one taken stays."""
    agents = [FakeAgent(str(one)) for one in range(200)]
    ready = threading.Semaphore(0)

    def tell():
        for agent in agents[:-1]:
            ready.acquire()
            agent.notify()

    teller = threading.Thread(target=tell)
    teller.start()
    for agent in agents:
        store.create("s", agent)
        if agent is not agents[-1]:
            agent.die()
            ready.release()
    teller.join()
    assert store.get("s").agent is agents[-1]
    assert store.count() == 1
