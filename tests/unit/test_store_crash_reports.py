"""Every end is heard, every crash is logged, and no agent's log is coloured by another's.

Also for tasks and futures that Python makes, in loops that are entered again, and at the recursion
limit.
"""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import inspect
import logging
import sys
import threading

import pytest

from conftest import passes
from frontdesk import SessionStore, Watcher, monitor
from frontdesk.monitors import watcher as watcher_module
from frontdesk.store import overlooked
from frontdesk.testing import FakeAgent
from support.exits import PATIENCE_S, Obedient, wait_until

TENANT = contextvars.ContextVar("tenant", default=None)


async def crash(text="no such model"):
    raise ValueError(text)


# -- what Python makes -------------------------------------------------------------------------


def python_task(loop, coroutine):
    return asyncio.tasks._PyTask(coroutine, loop=loop)


class OwnTask(asyncio.tasks._PyTask):
    """A task of a factory's own."""


class Awaitable(asyncio.futures._PyFuture):
    """A future of a library's own."""


def own_task(loop, coroutine):
    return OwnTask(coroutine, loop=loop)


def c_task(loop, coroutine):
    return asyncio.Task(coroutine, loop=loop)


@pytest.mark.parametrize("make", [python_task, own_task, c_task])
@pytest.mark.anyio
async def test_the_crash_of_a_task_is_logged_whoever_made_it(store, caplog, make):
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coroutine, **_: make(loop, coroutine))
    try:
        task = loop.create_task(crash())
    finally:
        loop.set_task_factory(None)
    store.create("s-1", task)
    await asyncio.wait([task])
    await passes()
    assert_logged_once(caplog, "s-1")


@pytest.mark.parametrize("kind", [asyncio.Future, asyncio.futures._PyFuture, Awaitable])
@pytest.mark.anyio
async def test_the_crash_of_a_future_is_logged_whoever_made_it(store, caplog, kind):
    future = kind(loop=asyncio.get_running_loop())
    store.create("s-1", future)
    future.set_exception(ValueError("no such model"))
    await passes()
    assert_logged_once(caplog, "s-1")


@pytest.mark.anyio
async def test_a_future_that_does_not_say_what_it_raised_is_logged_too(store, caplog):
    class Silent(asyncio.futures._PyFuture):
        asked = 0

        def exception(self):
            self.asked += 1
            if self.asked > 1:
                raise RuntimeError("said once")
            return super().exception()

    future = Silent(loop=asyncio.get_running_loop())
    store.create("s-1", future)
    future.set_exception(ValueError("no such model"))
    await passes()
    assert [record.getMessage() for record in caplog.records] == ["agent of session s-1 crashed"]


def assert_logged_once(caplog, session_id):
    (record,) = caplog.records
    assert record.getMessage() == f"agent of session {session_id} crashed"
    assert isinstance(record.exc_info[1], ValueError)


# -- the context of a record -------------------------------------------------------------------


class Colouring(logging.Handler):
    """A log handler that leaves something behind, as tracing does."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def emit(self, record):
        self.seen.append(TENANT.get())
        TENANT.set(record.getMessage())


@pytest.fixture
def colouring():
    handler, logger = Colouring(), logging.getLogger("frontdesk")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.mark.anyio
async def test_what_a_log_handler_sets_at_one_crash_is_not_on_the_next(store, colouring):
    for number in range(3):
        task = asyncio.ensure_future(crash())
        store.create(f"s-{number}", task)
        await asyncio.wait([task])
        await passes()
    assert colouring.seen == [None] * 3
    assert TENANT.get() is None


@pytest.mark.parametrize("hear", ["create", "delete", "ended", "close"])
@pytest.mark.anyio
async def test_a_crash_that_anothers_request_comes_upon_has_nothing_of_that_request(
    make_store, colouring, hear
):
    store = make_store()
    future = asyncio.get_running_loop().create_future()
    store.create("s-1", future)
    TENANT.set("globex")
    future.set_exception(ValueError("no such model"))
    if hear == "create":
        store.create("s-1", FakeAgent())
    elif hear == "close":
        store.close()
    else:
        getattr(store, hear)("s-1")
    assert colouring.seen == [None]
    assert TENANT.get() == "globex"


def test_what_a_callback_sets_in_the_watchers_thread_is_not_seen_by_the_next(monkeypatch):
    monkeypatch.setattr(watcher_module, "TICK_S", 0.005)
    seen, told = [], threading.Semaphore(0)

    def colour(*_):
        seen.append(TENANT.get())
        TENANT.set("acme")
        told.release()

    with Watcher() as watcher, Obedient() as first, Obedient() as second:
        for process in (first, second):
            monitor(process.popen, colour, watcher=watcher)
            process.go()
            assert told.acquire(timeout=PATIENCE_S)
        watcher.every_second(colour)
        for _ in range(2):
            assert told.acquire(timeout=PATIENCE_S)
    assert set(seen) == {None}


# -- loops that are entered again --------------------------------------------------------------


def run_some_more(loop):
    """Enter the running loop again, as `nest_asyncio` lets programs do."""
    asyncio._set_running_loop(None)
    try:
        handles, loop._ready = list(loop._ready), type(loop._ready)()
        for handle in handles:
            handle._run()
    finally:
        asyncio._set_running_loop(loop)


class Reentering(logging.Handler):
    """A log handler that waits for something in the loop that it is called from."""

    def __init__(self, loop):
        super().__init__()
        self.loop = loop

    def emit(self, record):
        run_some_more(self.loop)


@pytest.mark.parametrize("create", ["here", "elsewhere"])
@pytest.mark.anyio
async def test_ends_that_fall_into_a_loop_entered_again_are_heard(make_store, create):
    loop, store, problems = asyncio.get_running_loop(), make_store(), []
    loop.set_exception_handler(lambda _, context: problems.append(context))
    handler, logger = Reentering(loop), logging.getLogger("frontdesk")
    logger.addHandler(handler)
    futures = [loop.create_future() for _ in range(20)]
    try:
        for number, future in enumerate(futures):
            if create == "here":
                store.create(f"s-{number}", future)
            else:
                await asyncio.to_thread(store.create, f"s-{number}", future)
        await passes()
        for future in futures:
            future.set_exception(ValueError("no such model"))
        await passes(50)
    finally:
        logger.removeHandler(handler)
        loop.set_exception_handler(None)
    assert problems == []
    assert store.count() == 0
    assert {str(store.ended(f"s-{n}").reason) for n in range(20)} == {
        "crashed: ValueError: no such model"
    }


# -- the recursion limit -----------------------------------------------------------------------


def depth():
    return len(inspect.stack(0))


def at_depth(left, act):
    """Call `act` where that many calls are left, more or less."""

    def sink(levels):
        return act() if levels <= 0 else sink(levels - 1)

    sink(sys.getrecursionlimit() - depth() - left - 10)


@pytest.mark.parametrize("make", ["future", "task"])
def test_an_end_at_the_recursion_limit_is_heard_wherever_it_is_broken_off(
    make_store, caplog, monkeypatch, make
):
    monkeypatch.setattr(watcher_module, "TICK_S", 0.02)
    caplog.set_level(logging.CRITICAL)

    async def main():
        loop, store = asyncio.get_running_loop(), make_store()
        loop.set_exception_handler(lambda *_: None)
        for left in range(60):
            session_id = f"s-{left}"
            if make == "future":
                agent = loop.create_future()
                store.create(session_id, agent)
                agent.set_result(None)
            else:
                agent = loop.create_task(asyncio.sleep(0))
                store.create(session_id, agent)
                await agent
            handles = [handle for handle in loop._ready if "when_done" in repr(handle)]
            for handle in handles:
                loop._ready.remove(handle)
            with contextlib.suppress(RecursionError):
                at_depth(left, lambda handles=handles: [handle._run() for handle in handles])
        await asyncio.to_thread(wait_until, lambda: not store._entries)
        return {str(store.ended(f"s-{left}").reason) for left in range(60)}

    assert asyncio.run(main()) == {"normal"}


def test_a_concurrent_future_that_finishes_deep_down_is_heard_by_the_next_call(store, caplog):
    caplog.set_level(logging.CRITICAL)
    heard = []
    for left in range(60):
        future = concurrent.futures.Future()
        store.create("s-1", future)
        with contextlib.suppress(RecursionError):
            at_depth(left, lambda future=future: future.set_result(None))
        if future.done():
            store.list()
            store.delete("s-1")
            heard.append(str(store.ended("s-1").reason))
        store.delete("s-1")
        assert store.count() == 0
    assert set(heard) == {"normal"}


def test_the_look_goes_round_all_sessions_and_keeps_no_agent(monkeypatch):
    monkeypatch.setattr(overlooked, "AT_ONCE", 3)

    async def main():
        with SessionStore() as store:
            loop = asyncio.get_running_loop()
            futures = [loop.create_future() for _ in range(8)]
            for number, future in enumerate(futures):
                store.create(f"s-{number}", future)
            look = overlooked.OverlookedEnds(store._entries)
            assert look.next_finished() == []
            for future in futures[::2]:
                future.set_result(None)
            found = [one.session_id for _ in range(6) for one in look.next_finished()]
            assert set(found) == {"s-0", "s-2", "s-4", "s-6"}
            assert all(type(one) is str for one in look._to_come)

    asyncio.run(main())
