"""Guarantee 4: registering a dead agent returns its Session and leaves nothing behind; the change
feed shows it created and ended with `not_alive`, and lookups never see it. A process that died but
was not yet waited for is dead.
"""

import asyncio
import concurrent.futures
import contextlib
import multiprocessing
import subprocess
import threading

import pytest

from frontdesk import ExitReason, Limits, ProcessRef, SessionAlreadyExists
from frontdesk.testing import FakeAgent
from support.agents import parked_thread, process, start_time, told, zombie_of
from support.leftovers import descriptors, nothing_left

NOT_ALIVE = ExitReason.of("not_alive")


@contextlib.contextmanager
def returned_future():
    future = concurrent.futures.Future()
    future.set_result(None)
    yield future


@contextlib.contextmanager
def crashed_future():
    future = concurrent.futures.Future()
    future.set_exception(LookupError("why"))
    yield future


@contextlib.contextmanager
def cancelled_asyncio_future():
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    future.cancel()
    yield future
    loop.close()


@contextlib.contextmanager
def future_of_a_closed_loop():
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    yield future


@contextlib.contextmanager
def finished_thread():
    with parked_thread() as thread:
        thread.release()
        yield thread


@contextlib.contextmanager
def zombie():
    with process() as child:
        yield zombie_of(child)


@contextlib.contextmanager
def zombie_by_pid():
    with process() as child:
        started = start_time(child.pid)
        zombie_of(child)
        yield ProcessRef(child.pid, started)


@contextlib.contextmanager
def reaped_process():
    with process() as child:
        child.kill()
        child.wait()
        yield child


@contextlib.contextmanager
def reaped_process_by_pid():
    with process() as child:
        reference = ProcessRef(child.pid, start_time(child.pid))
        child.kill()
        child.wait()
        yield reference


@contextlib.contextmanager
def joined_multiprocessing_process():
    child = multiprocessing.get_context("spawn").Process(target=int)
    child.start()
    child.join()
    yield child
    child.close()


@contextlib.contextmanager
def dead_agent_of_a_kind_of_the_users():
    yield FakeAgent(dead=True)


class Found:
    """An agent that calls nobody: that it is dead is found by asking it."""

    alive = False

    def __init__(self):
        self.callbacks = []

    def add_exit_callback(self, callback):
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def exit_reason(self):
        return ExitReason.exited(3)


@contextlib.contextmanager
def agent_that_is_found_dead():
    agent = Found()
    yield agent
    assert agent.callbacks == []


DEAD = [
    returned_future,
    crashed_future,
    cancelled_asyncio_future,
    future_of_a_closed_loop,
    finished_thread,
    zombie,
    zombie_by_pid,
    reaped_process,
    reaped_process_by_pid,
    joined_multiprocessing_process,
    dead_agent_of_a_kind_of_the_users,
    agent_that_is_found_dead,
]


@pytest.mark.parametrize("kind", DEAD, ids=lambda kind: kind.__name__)
class TestRegisteringADeadAgent:
    def test_returns_its_session_and_leaves_nothing_behind(self, store, kind):
        with kind() as agent:
            store.create("warm-up", agent)  # starts the watcher's thread, if it needs one
            before = descriptors()
            session = store.create("s", agent, tenant_id="t", api_key="k")
            assert (session.session_id, session.agent) == ("s", agent)
            assert "s" not in store
            assert store.list() == store.list_by_tenant("t") == store.list_by_api_key("k") == []
            assert store.count() == 0
            assert store.ended("s").reason == NOT_ALIVE
            assert nothing_left(store)
            assert descriptors() == before

    def test_is_in_the_feed_as_created_and_ended(self, store, kind):
        with kind() as agent, store.watch() as watch:
            snapshot = watch.next(timeout_s=0)
            session = store.create("s", agent)
            created, ended = watch.next(timeout_s=0), watch.next(timeout_s=0)
            assert (created.kind, created.revision) == ("created", session.fence)
            assert (ended.kind, ended.reason) == ("ended", NOT_ALIVE)
            assert [created.revision, ended.revision] == [
                snapshot.revision + 1,
                snapshot.revision + 2,
            ]
            assert told(watch) == []

    def test_leaves_the_id_free(self, store, kind):
        with kind() as agent:
            store.create("s", agent)
            living = store.create("s", FakeAgent())
            assert store.get("s") is living

    def test_under_an_id_that_is_held_is_refused(self, store, kind):
        holder = store.create("s", FakeAgent())
        with kind() as agent, pytest.raises(SessionAlreadyExists) as refused:
            store.create("s", agent)
        assert refused.value.holder is holder

    def test_takes_no_place(self, make_store, kind):
        store = make_store(limits=Limits(total=1))
        with kind() as agent:
            store.create("a", agent)
            store.create("b", agent)
        store.create("c", FakeAgent())


def test_no_lookup_ever_sees_a_dead_agent(store, eager_switches):
    over, seen = threading.Event(), []

    def look():
        while not over.is_set():
            seen.extend(store.list())
            if "s" in store:
                seen.append("s")

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    with returned_future() as dead:
        for _ in range(2000):
            store.create("s", dead)
    over.set()
    for reader in readers:
        reader.join()
    assert seen == []


def test_a_finished_agent_that_is_registered_again_ends_first_and_then_is_dead(store):
    loop = asyncio.new_event_loop()
    agent = loop.create_future()
    store.create("a", agent)
    with store.watch() as watch:
        agent.set_result(None)
        store.create("b", agent)
        assert told(watch) == [
            ("ended", "a", "normal"),
            ("created", "b", None),
            ("ended", "b", "not_alive"),
        ]
    loop.close()


def test_a_released_agent_whose_loop_was_closed_since_is_dead(store):
    loop = asyncio.new_event_loop()
    agent = loop.create_future()
    store.create("a", agent)
    store.delete("a")
    loop.close()
    assert store.count() == 0
    store.create("b", agent)
    assert "b" not in store
    assert store.count() == 0
    assert store.ended("b").reason == NOT_ALIVE


def test_a_process_that_ends_while_it_is_registered_is_dead_or_ends(store):
    for number in range(20):
        with store.watch() as watch:
            watch.next(timeout_s=0)
            child = subprocess.Popen(["true"])
            store.create(f"s{number}", child)
            assert watch.next(timeout_s=30).kind == "created"
            end = watch.next(timeout_s=30)
            assert end.kind == "ended"
            assert str(end.reason) in {"normal", "not_alive"}
            child.wait()
    assert nothing_left(store)


def test_an_agent_that_dies_while_it_is_registered_keeps_no_monitor(store):
    class Dying(FakeAgent):
        def add_exit_callback(self, callback):
            cancel = super().add_exit_callback(callback)
            self.die()
            return cancel

    agent = Dying()
    store.create("s", agent)
    assert agent.watched_by == 0
    assert store.ended("s").reason == NOT_ALIVE
    assert nothing_left(store)


def test_a_registered_agent_that_vanishes_between_two_looks_is_monitored_anew(store):
    """Another thread deletes its only session while it is being registered under a second id."""

    class Busy(FakeAgent):
        asked = 0

        @property
        def alive(self):
            self.asked += 1
            if self.asked == self.vanish_at:
                store.delete("first")
            return super().alive

    for vanish_at in range(1, 12):
        agent = Busy()
        agent.vanish_at = 0
        store.create("first", agent)
        agent.vanish_at = agent.asked + vanish_at
        session = store.create("second", agent)
        assert store.get("second") is session
        assert agent.watched_by == 1
        agent.vanish_at = 0
        agent.end()
        assert nothing_left(store)


def test_the_monitor_of_a_dead_agent_knows_how_it_ended(store):
    assert store.create("s", Found()).monitor.exit_reason() == ExitReason.exited(3)
