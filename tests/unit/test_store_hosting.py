"""Ways to run a store in a host: `with`, `async with`, ASGI lifespan, anyio task group, or plainly,
ended by `close()` from anywhere and in the middle of everything.
"""

import asyncio
import random
import threading
from contextlib import asynccontextmanager

import anyio
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from frontdesk import (
    FrontdeskError,
    InvalidArgument,
    InvalidType,
    SessionStore,
    StoreClosed,
    Watcher,
)
from frontdesk.testing import FakeAgent
from support.agents import BOUND_S, in_threads
from support.leftovers import leftovers


def test_with_closes_the_store_also_after_an_error():
    agent, store = FakeAgent(), SessionStore()

    def fail_inside():
        with store:
            store.create("s", agent)
            raise LookupError

    with pytest.raises(LookupError):
        fail_inside()
    assert store.closed
    assert agent.watched_by == 0


def test_async_with_closes_the_store():
    async def main():
        async with SessionStore() as store:
            store.create("s", FakeAgent())
        assert store.closed

    asyncio.run(main())


def test_the_lifespan_of_an_asgi_application_is_that_of_the_store():
    async def main():
        store = SessionStore()
        async with store.lifespan(object()) as state:
            assert state["sessions"] is store
            store.create("s", FakeAgent())
        assert store.closed
        with pytest.raises(LookupError):
            async with SessionStore().lifespan() as state:
                raise LookupError
        assert state["sessions"].closed

    asyncio.run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_store_lives_as_a_child_of_a_task_group(backend):
    async def main():
        async with anyio.create_task_group() as group:
            store = await group.start(SessionStore().serve)
            store.create("s", agent := FakeAgent())
            assert store.count() == 1
            group.cancel_scope.cancel()
        assert store.closed
        assert agent.watched_by == 0

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "in another thread"])
def test_the_task_of_a_store_ends_when_the_store_is_closed(backend, elsewhere):
    async def main():
        with anyio.fail_after(BOUND_S):
            async with anyio.create_task_group() as group:
                store = await group.start(SessionStore().serve)
                if elsewhere:
                    await anyio.to_thread.run_sync(store.close)
                else:
                    store.close()
        assert store.closed

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_watch_is_iterable_from_any_event_loop(backend):
    async def main():
        names = []
        with SessionStore() as store, anyio.fail_after(BOUND_S):
            async with anyio.create_task_group() as group, store.watch() as watch:
                assert (await anext(watch)).sessions == ()
                group.start_soon(anyio.to_thread.run_sync, store.create, "s", FakeAgent())
                async for change in watch:
                    names.append((change.session.session_id, change.kind))
                    if change.kind == "ended":
                        break
                    group.start_soon(anyio.to_thread.run_sync, store.delete, "s")
        assert names == [("s", "created"), ("s", "ended")]

    anyio.run(main, backend=backend)


def test_serve_may_be_awaited_without_a_task_group():
    async def main():
        store = SessionStore()
        serving = asyncio.create_task(store.serve())
        await asyncio.sleep(0)
        store.close()
        await asyncio.wait_for(serving, BOUND_S)
        await asyncio.wait_for(store.serve(), BOUND_S)

    asyncio.run(main())


def test_close_is_idempotent_from_many_threads_at_once(make_store, eager_switches):
    for _ in range(20):
        store = make_store()
        agents = [FakeAgent() for _ in range(10)]
        for number, agent in enumerate(agents):
            store.create(f"s{number}", agent)
        with store.watch() as watch:
            in_threads(*[store.close] * 5)
            ends = [item.session.session_id for item in list(watch)[1:]]
        assert ends == [f"s{number}" for number in range(10)]
        assert not any(agent.watched_by for agent in agents)


@pytest.mark.parametrize("seed", range(5))
def test_a_close_in_the_middle_of_everything_leaves_nobody_monitored(
    make_store, eager_switches, seed
):
    """Threads, loops and watchers at full speed, and the store is closed under them."""
    store = make_store(feed_capacity=16)
    agents, started = [], threading.Barrier(6)

    def write(number):
        choice = random.Random(seed * 10 + number)
        started.wait(BOUND_S)
        while True:
            name, agent = f"s{choice.randrange(10)}", FakeAgent()
            agents.append(agent)
            try:
                do_something(store, name, agent, choice)
            except StoreClosed:
                return
            except FrontdeskError:
                continue

    def run_a_loop():
        async def main():
            while True:
                task = asyncio.create_task(asyncio.sleep(0))
                try:
                    store.create(f"t{len(agents) % 10}", task)
                except StoreClosed:
                    return
                except FrontdeskError:
                    continue
                finally:
                    await task

        started.wait(BOUND_S)
        asyncio.run(main())

    def watch():
        started.wait(BOUND_S)
        try:
            with store.watch() as watching:
                for _ in watching:
                    pass
        except StoreClosed:
            return

    def close():
        started.wait(BOUND_S)
        while store.revision < 200:
            store.count()
        store.close()

    in_threads(lambda: write(1), lambda: write(2), run_a_loop, watch, watch, close)
    assert not [agent for agent in agents if agent.watched_by]
    left = leftovers(store)
    assert {kind: left[kind] for kind in ("entries", "tenants", "agents", "deferred")} == {
        "entries": 0,
        "tenants": 0,
        "agents": 0,
        "deferred": 0,
    }


def do_something(store, name, agent, choice):
    what = choice.randrange(5)
    if what < 2:
        store.create(name, agent)
    elif what == 2:
        store.get(name).agent.end()
    elif what == 3:
        store.delete(name)
    else:
        store.get_or_create(name, lambda: agent)


def test_a_reader_that_waits_in_a_thread_is_let_go_by_a_close(make_store):
    store = make_store()
    watch = store.watch()
    watch.next(timeout_s=0)
    items = []
    reading = threading.Thread(target=lambda: items.extend(watch))
    reading.start()
    store.create("s", FakeAgent())
    store.close()
    reading.join(BOUND_S)
    assert [item.kind for item in items] == ["created", "ended"]


def test_nothing_may_be_started_again_after_a_close(make_store):
    store = make_store()
    store.close()
    store.close()
    with pytest.raises(StoreClosed), store:
        store.create("s", FakeAgent())


# -- a closed store is not entered -----------------------------------------------------------------


def enter(store):
    with store:
        raise AssertionError("a closed store was entered")


def enter_async(store):
    async def main():
        async with store:
            raise AssertionError("a closed store was entered")

    asyncio.run(main())


def enter_lifespan(store):
    async def main():
        async with store.lifespan():
            raise AssertionError("a closed store was entered")

    asyncio.run(main())


def enter_application(store):
    with TestClient(Starlette(lifespan=store.lifespan)):
        raise AssertionError("a closed store was entered")


def start_in_a_task_group(store):
    async def main():
        # Outside, because a task group wraps what its child raises after it has started.
        async with anyio.create_task_group() as group:
            try:
                await group.start(store.serve)
            except StoreClosed as error:
                return error
        return None

    for backend in ("asyncio", "trio"):
        error = anyio.run(main, backend=backend)
        assert error is not None
    raise error


ENTRANCES = [enter, enter_async, enter_lifespan, enter_application, start_in_a_task_group]
every_entrance = pytest.mark.parametrize("entrance", ENTRANCES, ids=lambda one: one.__name__)


@every_entrance
def test_a_closed_store_is_refused_where_it_is_entered(make_store, entrance):
    store = make_store()
    store.close()
    with pytest.raises(StoreClosed, match="the session store is closed") as refused:
        entrance(store)
    assert not refused.value.forked


@every_entrance
def test_an_inherited_store_is_refused_where_it_is_entered(make_store, entrance):
    """As in the workers of a server that imports the application before it forks."""
    store = make_store()
    store._core._after_fork_in_child()
    with pytest.raises(StoreClosed, match="made in another process") as refused:
        entrance(store)
    assert refused.value.forked


def test_the_documented_lifespan_makes_a_store_at_each_start():
    stores = []

    @asynccontextmanager
    async def lifespan(app):
        async with SessionStore() as store:
            yield {"sessions": store}

    async def count(request):
        stores.append(request.state.sessions)
        return JSONResponse(request.state.sessions.count())

    app = Starlette(routes=[Route("/", count)], lifespan=lifespan)
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/").json() == 0
            assert not stores[-1].closed
        assert stores[-1].closed
    assert stores[0] is not stores[1]


def test_a_second_start_with_the_stores_own_lifespan_says_why_not(make_store):
    store = make_store()
    app = Starlette(lifespan=store.lifespan)
    with TestClient(app):
        pass
    with pytest.raises(StoreClosed), TestClient(app):
        raise AssertionError("it started")


def test_a_store_takes_no_closed_watcher():
    """It would be told of no end: each create of a thread or process would fail."""
    watcher = Watcher()
    watcher.close()
    with pytest.raises(InvalidArgument, match="watcher must be an open Watcher, got a closed one"):
        SessionStore(watcher=watcher)
    with pytest.raises(InvalidType, match="watcher"):
        SessionStore(watcher=object())
