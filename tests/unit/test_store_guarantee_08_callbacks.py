"""Guarantee 8: callbacks and watchers may call back into the store freely. One that raises or
blocks harms nobody else; the failure is logged once.
"""

import asyncio
import concurrent.futures
import logging
import threading

import pytest

from frontdesk import ExitReason, SessionNotFound, SessionStore
from frontdesk.testing import FakeAgent
from support.agents import BOUND_S, end_of, in_threads, next_change, parked_thread, told
from support.leftovers import nothing_left


def everything(store, name):
    """Do one of everything to a store."""
    store.create(name, FakeAgent(), tenant_id="re", api_key="re")
    store.get_or_create(name, FakeAgent)
    store.update(name, model="m")
    assert store.get(name) in store.list() + store.list_by_tenant("re")
    assert store.count() >= store.count_by_tenant("re") == store.count_by_api_key("re") == 1
    with store.watch(tenant_id="re") as watch:
        watch.next(timeout_s=0)
        store.delete(name)
        assert told(watch) == [("ended", name, "deleted")]
    store.ended(name)


def test_an_exit_callback_of_the_agents_may_do_everything(store):
    agents = [FakeAgent(str(number)) for number in range(5)]
    for agent in agents:
        agent.add_exit_callback(lambda _, name=agent.name: everything(store, f"re{name}"))
        store.create(agent.name, agent)
        agent.add_exit_callback(lambda _, name=agent.name: everything(store, f"re{name}"))
    for agent in agents:
        agent.end()
    assert nothing_left(store)


def test_a_done_callback_of_a_task_may_do_everything(store):
    async def main():
        task = asyncio.create_task(asyncio.sleep(0))
        task.add_done_callback(lambda _: everything(store, "before"))
        store.create("s", task)
        task.add_done_callback(lambda _: everything(store, "after"))
        await task
        await asyncio.sleep(0)

    asyncio.run(main())
    assert nothing_left(store)


def test_a_callback_may_take_the_id_that_becomes_free(store):
    generations = []

    def next_generation(_=None):
        if len(generations) < 50:
            agent = FakeAgent(str(len(generations)))
            generations.append(agent)
            store.create("s", agent)
            agent.add_exit_callback(next_generation)

    next_generation()
    for number in range(50):
        generations[number].end()
    assert len(generations) == 50
    assert "s" not in store


def test_a_watcher_may_do_everything_between_two_changes(store):
    def watch_and_act():
        with store.watch(tenant_id="default") as watch:
            watch.next(timeout_s=0)
            ready.set()
            for number in range(10):
                assert next_change(watch).session.session_id == f"s{number}"
                everything(store, f"re{number}")

    ready = threading.Event()
    watching = threading.Thread(target=watch_and_act)
    watching.start()
    assert ready.wait(BOUND_S)
    for number in range(10):
        store.create(f"s{number}", FakeAgent())
    watching.join(BOUND_S)
    assert not watching.is_alive()


def test_an_agents_callback_that_raises_keeps_no_session(store):
    def fail(_):
        raise ArithmeticError("somebody else's")

    agents = [FakeAgent(str(number)) for number in range(5)]
    for agent in agents:
        agent.add_exit_callback(fail)
        store.create(agent.name, agent)
    for agent in agents:
        with pytest.raises(ExceptionGroup):
            agent.end(ExitReason.exited(1))
    assert nothing_left(store)
    assert store.ended("0").reason == ExitReason.exited(1)


class Odd:
    """An agent of a kind of the user's own, whose monitor misbehaves as told."""

    def __init__(self, *, alive=True, cancel=None):
        self.is_alive, self.on_cancel = alive, cancel
        self.on_exit = None


class OddMonitor:
    def __init__(self, agent):
        self.agent = agent

    @property
    def alive(self):
        if isinstance(self.agent.is_alive, Exception):
            raise self.agent.is_alive
        return self.agent.is_alive

    def cancel(self):
        if self.agent.on_cancel is not None:
            self.agent.on_cancel()


def monitor_odd(agent, on_exit):
    agent.on_exit = on_exit
    return OddMonitor(agent)


@pytest.fixture
def odd_store(make_store):
    """A store that knows the agents of this file."""
    return make_store(monitors={Odd: monitor_odd})


def test_a_monitor_function_may_do_everything(make_store):
    def monitor(agent, on_exit):
        everything(store, "re")
        return monitor_odd(agent, on_exit)

    store = make_store(monitors={Odd: monitor})
    store.create("s", Odd())
    assert "s" in store


def test_a_monitor_function_that_takes_the_very_id_gets_it(make_store):
    from frontdesk import SessionAlreadyExists

    def monitor(agent, on_exit):
        store.create("s", inner)
        return monitor_odd(agent, on_exit)

    store, inner = make_store(monitors={Odd: monitor}), FakeAgent("inner")
    with pytest.raises(SessionAlreadyExists) as refused:
        store.create("s", Odd())
    assert refused.value.holder.agent is inner


def test_a_cancel_that_raises_keeps_no_session_and_is_logged_once(odd_store, caplog):
    def fail():
        raise ArithmeticError("cannot cancel")

    for number in range(3):
        odd_store.create(f"s{number}", Odd(cancel=fail))
    other = FakeAgent()
    odd_store.create("other", other)
    with odd_store.watch() as watch:
        watch.next(timeout_s=0)
        odd_store.delete("s0")
        assert told(watch) == [("ended", "s0", "deleted")]
        odd_store.close()
        assert len(told(watch)) == 3
    assert other.watched_by == 0
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 3


def test_a_cancel_that_does_everything_meets_no_lock(odd_store):
    odd_store.create("s", Odd(cancel=lambda: everything(odd_store, "re")))
    odd_store.delete("s")
    assert nothing_left(odd_store)


@pytest.mark.parametrize("operation", ["delete", "close"])
def test_a_blocked_cancel_keeps_no_watcher_waiting(odd_store, operation):
    release, woken = threading.Event(), threading.Event()
    odd_store.create("s", Odd(cancel=lambda: release.wait(BOUND_S)))
    ending = {"delete": lambda: odd_store.delete("s"), "close": odd_store.close}[operation]
    with odd_store.watch() as watch:
        watch.next(timeout_s=0)
        odd_store._core.changes.wakers.add("test", woken.set)
        writer = threading.Thread(target=ending)
        writer.start()
        try:
            assert woken.wait(BOUND_S / 2), "told only when the cancel was through"
            assert end_of(watch, "s")
        finally:
            release.set()
            writer.join(BOUND_S)


def test_an_agent_let_go_while_it_is_registered_again_is_monitored_without_a_lock():
    """Known at the first look, gone at the second: a monitor function may still do everything."""

    class Racing(SessionStore):
        racing = False

        def _armed_if_new(self, draft):
            armed = super()._armed_if_new(draft)
            if self.racing:
                self.racing = False
                self.delete("s")
            return armed

    def monitor(agent, on_exit):
        everything(store, "re")
        return monitor_odd(agent, on_exit)

    agent = Odd()
    with Racing(monitors={Odd: monitor}) as store:
        store.create("s", agent)
        store.racing = True
        store.create("again", agent)
        agent.on_exit(ExitReason.exited(3))
        assert store.ended("again").reason == ExitReason.exited(3)
        assert nothing_left(store)


def test_an_agent_that_cannot_be_asked_counts_as_alive_and_is_logged_once(odd_store, caplog):
    odd_store.create("s", Odd(alive=ArithmeticError("cannot say")))
    for _ in range(10):
        assert odd_store.get("s").session_id == "s"
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
    odd_store.delete("s")


def test_a_store_may_be_closed_by_an_exit_callback(make_store):
    store = make_store()
    agents = [FakeAgent("a"), FakeAgent("b")]
    agents[0].add_exit_callback(lambda _: store.close())
    for agent in agents:
        store.create(agent.name, agent)
    with store.watch() as watch:
        agents[0].end()
        reasons = {change.session.session_id: str(change.reason) for change in list(watch)[1:]}
    assert reasons["b"] == "shutdown"
    assert set(reasons) == {"a", "b"}
    assert store.closed
    assert agents[1].watched_by == 0


def test_a_store_may_be_closed_by_a_watcher(make_store):
    store = make_store()
    with store.watch() as watch:
        watch.next(timeout_s=0)
        store.create("s", FakeAgent())
        for change in watch:
            if change.kind == "created":
                store.close()
        assert change.reason == ExitReason.of("shutdown")


def test_a_store_may_be_closed_in_the_thread_that_watches_for_it(make_store):
    store = make_store()
    closed = threading.Event()

    with parked_thread() as thread:
        store.create("s", thread)
        # The end of the thread is told by the watcher's thread, and wakes us there.
        store._core.changes.wakers.add("test", lambda: (store.close(), closed.set()))
        with store.watch():
            thread.release()
            assert closed.wait(BOUND_S)
    assert store.closed


def test_a_blocked_watcher_keeps_nobody_waiting(store):
    """A reader that holds on to its watch, and one whose loop stands still, in a thread each."""
    release, entered = threading.Event(), threading.Barrier(3)

    def block_in_a_thread():
        with store.watch() as watch:
            watch.next(timeout_s=0)
            entered.wait(BOUND_S)
            release.wait(BOUND_S)

    def block_a_loop():
        async def main():
            async with store.watch() as watch:
                await anext(watch)
                waiting = asyncio.ensure_future(anext(watch))
                await asyncio.sleep(0)
                entered.wait(BOUND_S)
                release.wait(BOUND_S)  # the whole loop stands still
                assert (await waiting).kind == "created"

        asyncio.run(main())

    def go_on():
        try:
            entered.wait(BOUND_S)
            with store.watch() as watch:
                watch.next(timeout_s=0)
                for number in range(100):
                    agent = FakeAgent()
                    store.create(f"s{number}", agent)
                    agent.end()
                    assert end_of(watch, f"s{number}")
        finally:
            release.set()

    in_threads(block_in_a_thread, block_a_loop, go_on)


def test_a_blocked_callback_of_one_agent_holds_up_no_other(store):
    release, blocked = threading.Event(), threading.Event()

    def block(_):
        blocked.set()
        release.wait(BOUND_S)

    slow, quick = FakeAgent("slow"), concurrent.futures.Future()
    slow.add_exit_callback(block)
    store.create("slow", slow)
    store.create("quick", quick)
    ending = threading.Thread(target=slow.end)
    ending.start()
    assert blocked.wait(BOUND_S)
    quick.set_result(None)
    assert store.ended("quick").reason == ExitReason.of("normal")
    with pytest.raises(SessionNotFound):
        store.get("slow")
    everything(store, "re")
    release.set()
    ending.join()
    assert nothing_left(store)


def test_a_log_handler_may_ask_the_store_and_one_that_raises_harms_nobody(store, monkeypatch):
    log = logging.getLogger("frontdesk")
    calls = []

    class Asking(logging.Handler):
        def emit(self, record):
            everything(store, f"re{len(calls)}")
            calls.append(record)

    def refuse(record):
        raise ArithmeticError("a filter of the application's")

    handler = Asking()
    log.addHandler(handler)
    try:
        crash_a_task(store, "s")
        assert len(calls) == 1
        log.addFilter(refuse)
        with store.watch() as watch:
            watch.next(timeout_s=0)
            crash_a_task(store, "t", expect=watch)
    finally:
        log.removeHandler(handler)
        log.removeFilter(refuse)
    assert nothing_left(store)


def crash_a_task(store, name, *, expect=None):
    async def crash():
        raise LookupError("why")

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        waiting = None
        if expect is not None:
            waiting = asyncio.ensure_future(anext(expect))
            await asyncio.sleep(0)
        store.create(name, asyncio.create_task(crash()))
        if waiting is not None:
            assert (await asyncio.wait_for(waiting, BOUND_S)).kind == "created"
            assert (await asyncio.wait_for(anext(expect), BOUND_S)).kind == "ended"
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(main())


def test_an_exception_whose_text_raises_ends_its_session_all_the_same(store):
    class Unspeakable(Exception):
        def __str__(self):
            raise ArithmeticError("no text")

    agent = concurrent.futures.Future()
    store.create("s", agent)
    agent.set_exception(Unspeakable())
    assert store.ended("s").reason.error == "Unspeakable"
