"""Finalizers that call the store: of an agent whose last reference a write drops, of garbage that
the collector finds in the middle of a write, of a coroutine that is collected with its task.
"""

import asyncio
import contextlib
import gc

import pytest

from frontdesk import FrontdeskError, ReentrantWrite, StoreClosed
from frontdesk.testing import FakeAgent
from support.agents import told
from support.leftovers import assert_indexes_agree, leftovers


class Mortal(FakeAgent):
    """Does something when it is finalized: when the last reference to it is dropped."""

    def __init__(self, last_words):
        super().__init__()
        self._last_words = last_words

    def __del__(self):
        self._last_words()


def drop_by_delete(store, agents):
    agents.clear()
    store.delete("s")


def drop_by_end(store, agents):
    agents.pop().end()


def drop_by_reaping(store, agents):
    agents.pop().die()
    store.ended("s")


def drop_by_successor(store, agents):
    agents.pop().die()
    # The last words may close the store before the successor is in.
    with contextlib.suppress(StoreClosed):
        store.create("s", FakeAgent())
        store.delete("s")


def drop_by_close(store, agents):
    agents.clear()
    store.close()


@pytest.mark.parametrize(
    "drop",
    [drop_by_delete, drop_by_end, drop_by_reaping, drop_by_successor, drop_by_close],
    ids=lambda one: one.__name__,
)
@pytest.mark.parametrize("words", ["write", "close", "ask"])
def test_the_finalizer_of_a_dropped_agent_may_call_the_store(make_store, drop, words):
    store, spoken = make_store(), []

    def last_words():
        if words == "close":
            store.close()
        elif not store.closed:
            if words == "write":
                store.delete("other")
                store.create("left-behind", FakeAgent())
            else:
                store.count(), store.list(), store.get("other")
        spoken.append(words)

    store.create("other", FakeAgent())
    agents = [Mortal(last_words)]
    store.create("s", agents[0])
    drop(store, agents)
    gc.collect()
    assert spoken == [words]
    if not store.closed:
        names = {one.session_id for one in store.list()}
        assert names == ({"left-behind"} if words == "write" else {"other"})
        assert_indexes_agree(store)


class Garbage:
    """A cycle that only the collector frees, and that calls the store when it does."""

    def __init__(self, last_words):
        self.me, self._last_words = self, last_words

    def __del__(self):
        self._last_words()


@pytest.fixture
def eager_collector():
    """Let the collector run at every few allocations, so also inside the store."""
    threshold = gc.get_threshold()
    gc.collect()
    gc.freeze()  # what the rest of the suite holds need not be looked through each time
    gc.set_threshold(3, 1, 1)
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


def test_finalizers_run_by_the_collector_in_the_middle_of_writes_do_no_harm(store, eager_collector):
    counted = {"deleted": 0, "refused": 0, "asked": 0}
    watch = store.watch()
    watch.next(timeout_s=0)

    def last_words():
        store.delete(f"s{counted['deleted'] % 5}")
        counted["deleted"] += 1
        counted["asked"] += store.count() >= 0
        agent = FakeAgent()
        try:
            store.create(f"x{counted['deleted'] % 5}", agent)
        except ReentrantWrite:
            counted["refused"] += 1
            assert agent.watched_by == 0
        except FrontdeskError:
            pass

    for number in range(1500):
        Garbage(last_words)
        name = f"s{number % 5}"
        with contextlib.suppress(FrontdeskError):
            store.create(name, FakeAgent(), tenant_id="t", api_key="k")
        with contextlib.suppress(FrontdeskError):
            store.update(name, model="m")
        store.delete(f"x{number % 5}")
        if number % 3 == 0:
            told(watch)
    gc.collect()
    assert counted["deleted"] >= 1500
    assert_indexes_agree(store)
    assert leftovers(store)["deferred"] == 0
    watch.close()


def test_the_finally_of_a_collected_coroutine_may_delete_its_session(store):
    """A task pending on a loop that is gone is collected, and its `finally` runs somewhere."""

    async def live(name):
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            store.delete(name)

    loop = asyncio.new_event_loop()
    for number in range(20):
        task = loop.create_task(live(f"s{number}"))
        task._log_destroy_pending = False
        store.create(f"s{number}", task)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    del task
    store.count()  # lets go of all of them, and so runs all those `finally` blocks
    gc.collect()
    assert store.list() == []
    assert leftovers(store)["agents"] == 0
