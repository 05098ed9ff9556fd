"""Whose event loop is it: asyncio's, trio's, or trio's as a guest of asyncio's or of another's."""

import asyncio
import queue
import threading

import pytest
import trio
import trio.testing

from frontdesk import SessionBusy, SessionStore
from frontdesk.testing import FakeAgent
from frontdesk.waiting import running_library
from support.agents import BOUND_S


async def on_asyncio(function, *args):
    return await function(*args)


def run_on_asyncio(function, *args):
    return asyncio.run(on_asyncio(function, *args))


def run_as_guest_of_asyncio(function, *args):
    """Run trio inside asyncio's loop."""

    async def main():
        loop, over = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
        trio.lowlevel.start_guest_run(
            function,
            *args,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=over.set_result,
        )
        return (await over).unwrap()

    return asyncio.run(main())


def run_as_guest_of_another(function, *args):
    """Run trio inside a loop of nobody's: that of a graphical program, say."""
    due, over = queue.SimpleQueue(), []
    trio.lowlevel.start_guest_run(
        function, *args, run_sync_soon_threadsafe=due.put, done_callback=over.append
    )
    while not over:
        due.get(timeout=BOUND_S)()
    return over[0].unwrap()


def run_asyncio_inside_trio(function, *args):
    """Run asyncio's loop in a task of trio's, which it blocks meanwhile."""

    async def main():
        return run_on_asyncio(function, *args)

    return trio.run(main)


RUNNERS = {
    "asyncio": run_on_asyncio,
    "trio": trio.run,
    "guest of asyncio": run_as_guest_of_asyncio,
    "guest of another": run_as_guest_of_another,
    "asyncio inside trio": run_asyncio_inside_trio,
}


@pytest.fixture(params=RUNNERS)
def run(request):
    """Run an async function on each constellation of event loops."""
    return RUNNERS[request.param]


@pytest.mark.parametrize(
    ("where", "library"),
    [
        ("asyncio", "asyncio"),
        ("trio", "trio"),
        ("guest of asyncio", "trio"),
        ("guest of another", "trio"),
        ("asyncio inside trio", "asyncio"),
    ],
)
def test_it_is_the_library_that_runs_the_caller(where, library):
    async def ask():
        return running_library()

    assert RUNNERS[where](ask) == library


def test_where_no_loop_runs_it_is_nobodys(run):
    assert running_library() is None

    async def ask():
        found = []
        thread = threading.Thread(target=lambda: found.append(running_library()))
        thread.start()
        thread.join(BOUND_S)
        return found

    assert run(ask) == [None]


def test_the_host_of_a_guest_is_still_asyncio():
    async def trios():
        await trio.lowlevel.checkpoint()

    async def main():
        loop, over = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
        trio.lowlevel.start_guest_run(
            trios, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=over.set_result
        )
        called_back = loop.create_future()
        loop.call_soon(lambda: called_back.set_result(running_library()))
        found = [running_library(), await called_back]
        (await over).unwrap()
        return found

    assert asyncio.run(main()) == ["asyncio", "asyncio"]


@pytest.fixture
def being_created(store):
    """An id whose agent a thread is just making."""
    making, go = threading.Event(), threading.Event()

    def factory():
        making.set()
        assert go.wait(BOUND_S)
        return FakeAgent()

    thread = threading.Thread(target=store.get_or_create, args=("s-1", factory))
    thread.start()
    assert making.wait(BOUND_S)
    yield "s-1"
    go.set()
    thread.join(BOUND_S)


def test_get_or_create_blocks_no_loop(store, being_created, run):
    async def ask():
        with pytest.raises(SessionBusy) as caught:
            store.get_or_create(being_created, FakeAgent, timeout_s=BOUND_S)
        return caught.value.waited_s

    assert run(ask) == 0


def test_get_or_create_blocks_no_loop_in_what_trio_calls_from_threads(store, being_created):
    def ask():
        with pytest.raises(SessionBusy):
            store.get_or_create(being_created, FakeAgent, timeout_s=BOUND_S)

    async def main():
        await trio.to_thread.run_sync(trio.from_thread.run_sync, ask)
        # A thread of trio's is a thread, and may wait.
        with pytest.raises(SessionBusy) as caught:
            await trio.to_thread.run_sync(
                lambda: store.get_or_create(being_created, FakeAgent, timeout_s=0.01)
            )
        return caught.value.waited_s

    assert trio.run(main) == 0.01


def test_a_watch_follows_on_every_loop(run):
    async def follow():
        kinds, store = [], SessionStore()
        # Changed in a thread, each time when the watch waits already, or is about to.
        steps = [lambda: store.create("s-1", FakeAgent()), lambda: store.delete("s-1"), store.close]
        async with store.watch() as watch:
            async for item in watch:
                kinds.append(getattr(item, "kind", "snapshot"))
                if steps:
                    threading.Thread(target=steps.pop(0)).start()
        return kinds

    assert run(follow) == ["snapshot", "created", "ended"]


def test_a_watch_follows_what_its_own_loop_changes(run):
    async def follow():
        store = SessionStore()
        async with store.watch() as watch:
            await watch.__anext__()
            store.create("s-1", FakeAgent())
            change = await watch.__anext__()
            store.close()
            return change.kind

    assert run(follow) == "created"


@pytest.mark.parametrize("where", ["trio", "guest of asyncio", "guest of another"])
def test_a_store_is_served_in_a_nursery_and_ends_with_it(where):
    async def host():
        async with trio.open_nursery() as nursery:
            cancelled = await nursery.start(SessionStore().serve)
            assert not cancelled.closed
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            closed = await nursery.start(SessionStore().serve)
            await trio.testing.wait_all_tasks_blocked()
            threading.Thread(target=closed.close).start()
        return cancelled.closed

    assert RUNNERS[where](host)
