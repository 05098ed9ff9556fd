"""Guarantee 11: a registered task that nobody else references is not garbage-collected. After its
session is gone the store holds no reference to the agent: changes and the memory of ends carry
metadata only, no agent, monitor, exception or traceback.
"""

import asyncio
import concurrent.futures
import logging
import pickle
import weakref

import pytest

from frontdesk import Ended, ExitReason, Limits, SessionLimitExceeded
from frontdesk.testing import FakeAgent
from support.agents import BOUND_S, ParkedThread
from support.leftovers import collected


def test_a_task_that_nobody_else_references_is_kept_and_does_its_work(store):
    """asyncio holds tasks weakly: one that waits for what only it references is collected."""

    async def main():
        loop = asyncio.get_running_loop()

        async def lonely():
            gate = loop.create_future()
            gates.append(weakref.ref(gate))
            await gate
            return "done"

        gates = []
        reference = weakref.ref(store.create("s", loop.create_task(lonely())).agent)
        await asyncio.sleep(0)
        collected()
        assert reference() is store.get("s").agent
        gates[0]().set_result(None)
        await asyncio.wait_for(store.get("s").agent, BOUND_S)
        await asyncio.sleep(0)
        collected()
        assert reference() is None

    asyncio.run(main())


class Agent(FakeAgent):
    """Can be referred to weakly, and refers to something big of its own."""

    def __init__(self):
        super().__init__()
        self.belongings = Belongings()


class Belongings:
    """What an agent holds."""


def end_by_exit(store, agent):
    agent.end(ExitReason.exited(1))


def end_by_delete(store, agent):
    store.delete("s")


def end_by_reaping(store, agent):
    agent.die()
    store.ended("s")


def end_by_close(store, agent):
    store.close()


def end_by_successor(store, agent):
    agent.die()
    store.create("s", FakeAgent())


def refuse_by_id(store, agent):
    with pytest.raises(ValueError, match="exists"):
        store.create("s", FakeAgent())
    store.delete("s")


ENDS = [end_by_exit, end_by_delete, end_by_reaping, end_by_close, end_by_successor, refuse_by_id]


@pytest.mark.parametrize("end", ENDS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("watched", [False, True], ids=["unwatched", "watched"])
def test_after_its_session_is_gone_nothing_of_an_agent_is_held(make_store, end, watched):
    store = make_store()
    watch = store.watch() if watched else None
    agent = Agent()
    references = weakref.ref(agent), weakref.ref(agent.belongings)
    store.create("s", agent)
    store.update("s", model="m")
    end(store, agent)
    del agent
    collected()
    assert [reference() for reference in references] == [None, None]
    if watch is not None:
        assert len(list(told_now(watch))) >= 3
        watch.close()


def told_now(watch):
    while True:
        try:
            yield watch.next(timeout_s=0)
        except (TimeoutError, StopIteration):
            return


@pytest.mark.parametrize("found", [False, True], ids=["told", "found"])
def test_a_crashed_task_leaves_neither_exception_nor_traceback_in_the_store(store, request, found):
    class Crash(Exception):
        pass

    async def crash():
        belongings = Belongings()
        references.append(weakref.ref(belongings))
        error = Crash()
        references.append(weakref.ref(error))
        raise error

    async def main():
        task = asyncio.create_task(crash())
        references.append(weakref.ref(task))
        store.create("s", task)
        if found:
            task.add_done_callback(lambda _: store.ended("s"))
        await asyncio.wait([task])
        await asyncio.sleep(0)

    references = []
    logging.disable()  # pytest keeps the records of a log, and they their exceptions
    request.addfinalizer(lambda: logging.disable(logging.NOTSET))
    with store.watch() as watch:
        asyncio.run(main())
        collected()
        assert [reference() for reference in references] == [None, None, None]
        assert store.ended("s").reason.error == "Crash"
        assert [item.revision for item in told_now(watch)] == [0, 1, 2]


def test_a_finished_thread_is_not_held(store):
    thread = ParkedThread()
    thread.start()
    reference = weakref.ref(thread)
    with store.watch() as watch:
        watch.next(timeout_s=0)
        store.create("s", thread)
        thread.release()
        del thread
        assert watch.next(timeout_s=BOUND_S).kind == "created"
        assert watch.next(timeout_s=BOUND_S).kind == "ended"
    assert is_released(reference)


def is_released(reference):
    """The watcher's thread may be just about to return from telling."""
    for _ in range(1000):
        collected()
        if reference() is None:
            return True
        release_the_interpreter()
    return False


def release_the_interpreter():
    other = ParkedThread()
    other.start()
    other.release()


def test_a_refused_agent_is_not_held(make_store):
    store = make_store(limits=Limits(total=0))
    agent = Agent()
    reference = weakref.ref(agent)
    with pytest.raises(SessionLimitExceeded):
        store.create("s", agent)
    del agent
    collected()
    assert reference() is None


def test_an_agent_whose_session_was_deleted_may_be_collected_while_it_is_pending(store):
    async def main():
        future = asyncio.get_running_loop().create_future()
        reference = weakref.ref(future)
        store.create("s", future)
        store.delete("s")
        del future
        collected()
        assert reference() is None

    asyncio.run(main())


def test_a_concurrent_future_whose_session_was_deleted_may_be_collected(store):
    future = concurrent.futures.Future()
    reference = weakref.ref(future)
    store.create("s", future)
    store.delete("s")
    del future
    collected()
    assert reference() is None


def test_what_a_watch_and_the_memory_of_ends_give_can_be_pickled(store):
    with store.watch() as watch:
        store.create("s", FakeAgent(), api_key="k")
        store.update("s", model="m")
        store.delete("s")
        items = list(told_now(watch))
    kept = [*items, store.ended("s")]
    assert pickle.loads(pickle.dumps(kept)) == kept
    assert isinstance(kept[-1], Ended)


def test_a_session_itself_cannot_be_pickled_or_changed(store):
    session = store.create("s", FakeAgent())
    with pytest.raises(TypeError, match="metadata"):
        pickle.dumps(session)
    with pytest.raises(AttributeError):
        session.model = "m"
    with pytest.raises(AttributeError):
        del session.model
    assert not hasattr(session, "__dict__")


def test_no_repr_shows_a_key(store):
    with store.watch() as watch:
        session = store.create("s", FakeAgent(), api_key="key-id")
        store.delete("s")
        shown = [session, session.metadata, store.ended("s"), *told_now(watch)]
    assert "key-id" not in repr(shown)
    assert "key-id" not in str(session)
