"""Monitors of tasks, futures and concurrent futures."""

import asyncio
import concurrent.futures
import contextvars
import gc
import logging
import sys
import threading
import weakref

import pytest

from conftest import passes
from frontdesk import ExitKind, ExitReason, monitor
from frontdesk.monitors import exit_reason_of
from frontdesk.monitors.futures import add_callback
from support.exits import PATIENCE_S, Exits

NORMAL = ExitReason.of("normal")
CANCELLED = ExitReason.of("cancelled")


async def returns():
    return 1


async def raises(error):
    raise error


async def never():
    await asyncio.get_running_loop().create_future()


class LoopInThread:
    """An event loop that runs in a thread of its own."""

    def __init__(self, make=asyncio.new_event_loop, *, debug=False):
        self.loop = make()
        self.loop.set_debug(debug)
        self._thread = threading.Thread(target=self.loop.run_forever)

    def __enter__(self):
        self._thread.start()
        return self

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_S)

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.close()


async def make_task(coroutine):
    return asyncio.get_running_loop().create_task(coroutine)


async def make_future():
    return asyncio.get_running_loop().create_future()


# -- how they end ------------------------------------------------------------------------------


def test_a_task_that_returns_is_normal():
    async def main():
        exits = Exits()
        watched = monitor(asyncio.create_task(returns()), exits)
        assert watched.alive
        assert watched.exit_reason() is None
        await passes()
        assert exits.reasons == [NORMAL]
        assert not watched.alive
        assert watched.exit_reason() == NORMAL

    asyncio.run(main())


def test_a_task_that_raises_is_crashed_with_type_and_text():
    async def main():
        exits = Exits()
        monitor(asyncio.create_task(raises(ValueError("no such model"))), exits)
        await passes()
        assert exits.reasons == [
            ExitReason(ExitKind.CRASHED, error="ValueError", text="no such model")
        ]

    asyncio.run(main())


def test_a_cancelled_task_is_cancelled():
    async def main():
        exits = Exits()
        task = asyncio.create_task(never())
        monitor(task, exits)
        await passes()
        task.cancel()
        await passes()
        assert exits.reasons == [CANCELLED]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("finish", "kind"),
    [
        (lambda future: future.set_result(1), "normal"),
        (lambda future: future.set_exception(OSError("gone")), "crashed"),
        (lambda future: future.cancel(), "cancelled"),
    ],
)
def test_an_asyncio_future_ends_as_it_was_finished(finish, kind):
    async def main():
        exits = Exits()
        future = asyncio.get_running_loop().create_future()
        monitor(future, exits)
        finish(future)
        await passes()
        assert [reason.kind for reason in exits.reasons] == [kind]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("finish", "kind"),
    [
        (lambda future: future.set_result(1), "normal"),
        (lambda future: future.set_exception(OSError("gone")), "crashed"),
        (lambda future: future.cancel(), "cancelled"),
    ],
)
def test_a_concurrent_future_ends_as_it_was_finished(finish, kind):
    exits = Exits()
    future = concurrent.futures.Future()
    watched = monitor(future, exits)
    assert watched.alive
    assert watched.loop is None
    finish(future)
    assert [reason.kind for reason in exits.reasons] == [kind]
    assert not watched.alive


def test_a_future_of_a_pool_is_told_from_the_thread_that_finished_it():
    exits, go = Exits(), threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        monitor(pool.submit(go.wait), exits)
        go.set()
        assert exits.next() == NORMAL
    assert exits.threads != [threading.current_thread()]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_whole_loop_is_told_as_a_crash(error):
    exits = Exits()
    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(raises(error("stop")))
        monitor(task, exits)
        with pytest.raises(error):
            loop.run_until_complete(never())
        loop.run_until_complete(passes())
        assert exits.reasons == [ExitReason(ExitKind.CRASHED, error=error.__name__, text="stop")]
    finally:
        for left in asyncio.all_tasks(loop):
            left.cancel()
        loop.run_until_complete(passes())
        loop.close()


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("cannot be printed")


class Exiting(Exception):
    def __str__(self):
        raise SystemExit(3)


@pytest.mark.parametrize("error", [Unprintable(), Exiting()])
def test_an_exception_that_cannot_be_printed_is_a_crash_without_text(error):
    future = concurrent.futures.Future()
    future.set_exception(error)
    reason = exit_reason_of(future)
    assert reason.kind == "crashed"
    assert reason.error == type(error).__name__
    assert not reason.text


class Unaskable(concurrent.futures.Future):
    def exception(self, timeout=None):
        raise KeyboardInterrupt


def test_a_subclass_that_cannot_be_asked_has_ended_all_the_same():
    exits, future = Exits(), Unaskable()
    monitor(future, exits)
    future.set_result(1)
    assert exits.reasons == [ExitReason.of("unknown")]


def test_a_future_given_the_cancellation_as_an_exception_is_cancelled():
    future = concurrent.futures.Future()
    future.set_exception(asyncio.CancelledError())
    assert exit_reason_of(future) == CANCELLED


# -- when, and how often -----------------------------------------------------------------------


def test_a_finished_future_is_known_to_be_dead_and_tells_nobody():
    async def main():
        exits = Exits()
        future = asyncio.get_running_loop().create_future()
        future.set_result(1)
        watched = monitor(future, exits)
        assert not watched.alive
        assert watched.exit_reason() == NORMAL
        await passes()
        assert exits.reasons == []

    asyncio.run(main())


def test_liveness_is_read_before_the_callback_ran():
    async def main():
        exits = Exits()
        future = asyncio.get_running_loop().create_future()
        watched = monitor(future, exits)
        future.set_result(1)
        assert not watched.alive
        assert exits.reasons == []
        await passes()
        assert exits.reasons == [NORMAL]

    asyncio.run(main())


class FinishesWhileArmed(concurrent.futures.Future):
    def add_done_callback(self, fn):
        self.set_result(1)
        super().add_done_callback(fn)


def test_a_future_that_finishes_while_it_is_armed_calls_nobody_inside_monitor():
    exits = Exits()
    watched = monitor(FinishesWhileArmed(), exits)
    assert exits.reasons == []
    assert not watched.alive
    assert watched.exit_reason() == NORMAL


def test_every_future_finished_in_a_race_is_told_once_or_found_dead(eager_switches):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for _ in range(500):
            exits = Exits()
            future = pool.submit(int)
            watched = monitor(future, exits)
            dead = not watched.alive
            future.result(PATIENCE_S)
            if not dead:
                assert exits.next() == NORMAL
            assert len(exits.reasons) <= 1


def test_after_cancel_nobody_is_told():
    async def main():
        exits = Exits()
        task = asyncio.create_task(returns())
        watched = monitor(task, exits)
        watched.cancel()
        watched.cancel()
        await passes()
        assert exits.reasons == []
        assert not watched.alive

    asyncio.run(main())


def test_a_monitor_that_nobody_keeps_goes_on_watching():
    async def main():
        exits = Exits()
        future = asyncio.get_running_loop().create_future()
        monitor(future, exits)
        gc.collect()
        future.set_result(1)
        await passes()
        assert exits.reasons == [NORMAL]

    asyncio.run(main())


def test_a_callback_that_raises_is_logged_once_and_harms_nobody(caplog):
    async def main():
        def bad(reason):
            raise RuntimeError("bad callback")

        exits = Exits()
        future = asyncio.get_running_loop().create_future()
        monitor(future, bad)
        monitor(future, exits)
        future.set_result(1)
        await passes()
        assert exits.reasons == [NORMAL]

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert [record.name for record in caplog.records] == ["frontdesk"]


# -- disarmed and armed again ------------------------------------------------------------------


def test_a_disarmed_monitor_holds_neither_the_future_nor_the_callback():
    async def main():
        exits = Exits()
        future = asyncio.get_running_loop().create_future()
        watched = monitor(future, exits)
        watched.cancel()
        assert watched.alive
        callback, agent = weakref.ref(exits), weakref.ref(future)
        del exits, future
        gc.collect()
        assert callback() is None
        assert agent() is None
        assert not watched.alive
        assert watched.exit_reason() == ExitReason.of("unknown")
        assert watched.loop is None

    asyncio.run(main())


def test_a_disarmed_monitor_leaves_the_exception_to_be_reported_by_asyncio():
    reports = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        task = asyncio.create_task(raises(ValueError("nobody looks")))
        monitor(task, Exits()).cancel()
        await passes()
        del task
        gc.collect()

    asyncio.run(main())
    assert [str(report["exception"]) for report in reports] == ["nobody looks"]


# -- other loops and threads -------------------------------------------------------------------


def loops():
    found = [pytest.param(asyncio.new_event_loop, id="asyncio")]
    try:
        import uvloop
    except ImportError:
        return found
    # libuv opens a pipe for the life of the process with its first loop: no leak of a test's.
    uvloop.new_event_loop().close()
    return [*found, pytest.param(uvloop.new_event_loop, id="uvloop")]


@pytest.mark.parametrize("new_loop", loops())
@pytest.mark.parametrize("debug", [False, True])
def test_a_task_is_monitored_from_outside_its_loop(new_loop, debug):
    with LoopInThread(new_loop, debug=debug) as other:
        exits = Exits()
        task = other.run(make_task(never()))
        watched = monitor(task, exits)
        assert watched.alive
        assert watched.loop is other.loop
        other.loop.call_soon_threadsafe(task.cancel)
        assert exits.next() == CANCELLED
        assert exits.threads != [threading.current_thread()]


@pytest.mark.parametrize("new_loop", loops())
def test_a_task_is_monitored_inside_its_loop(new_loop):
    async def inside(exits):
        watched = monitor(asyncio.create_task(returns()), exits)
        await passes()
        return watched

    with LoopInThread(new_loop, debug=True) as other:
        exits = Exits()
        assert not other.run(inside(exits)).alive
        assert exits.reasons == [NORMAL]


def test_a_task_that_finishes_before_its_loop_could_be_asked_is_told():
    exits = Exits()
    with LoopInThread() as other:
        holding, go = threading.Event(), threading.Event()

        def hold():
            holding.set()
            go.wait(PATIENCE_S)

        future = other.run(make_future())
        other.loop.call_soon_threadsafe(hold)
        assert holding.wait(PATIENCE_S)
        other.loop.call_soon_threadsafe(future.set_result, 1)
        watched = monitor(future, exits)
        assert watched.alive
        go.set()
        assert exits.next() == NORMAL
        assert exits.reasons == [NORMAL]


def test_a_callback_that_waits_for_its_loop_does_not_keep_the_future():
    with LoopInThread() as other:
        holding, go = threading.Event(), threading.Event()

        def hold():
            holding.set()
            go.wait(PATIENCE_S)

        future = other.run(make_future())
        other.loop.call_soon_threadsafe(hold)
        assert holding.wait(PATIENCE_S)
        called = []
        assert add_callback(future, called.append)
        gone = weakref.ref(future)
        del future
        gc.collect()
        assert gone() is None
        go.set()
        other.run(passes())
        assert called == []


def test_a_callback_on_a_closed_loop_is_refused():
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    assert not add_callback(future, [].append)


def test_a_task_pending_on_a_closed_loop_is_lost():
    exits = Exits()
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    before = monitor(future, exits)
    loop.close()
    after = monitor(future, exits)
    for watched in (before, after):
        assert not watched.alive
        assert watched.exit_reason() == ExitReason.of("lost")
        assert watched.loop is loop
    assert exits.reasons == []


def test_a_future_finished_before_its_loop_was_closed_keeps_its_own_reason():
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    watched = monitor(future, Exits())
    future.cancel()
    loop.close()
    assert watched.exit_reason() == CANCELLED


# -- what they cost ----------------------------------------------------------------------------


def test_a_monitor_is_at_most_72_bytes():
    watched = monitor(concurrent.futures.Future(), Exits())
    assert sys.getsizeof(watched) <= 72


def test_one_empty_context_serves_all_futures_of_a_loop():
    variable = contextvars.ContextVar("variable", default="empty")
    seen = []

    async def main():
        variable.set("of the task")
        shared = contextvars.Context()
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(3)]
        for future in futures:
            assert add_callback(future, lambda _: seen.append(variable.get()), shared)
            future.set_result(1)
        await passes()

    asyncio.run(main())
    assert seen == ["empty"] * 3
