"""Signal handlers in the middle of the store's writes: one that raises, as Control-C does, at every
moment when a handler may run, and real signals where they like.
"""

import asyncio
import contextlib
import itertools
import signal

import pytest

from frontdesk import (
    FrontdeskError,
    ReentrantWrite,
    SessionAlreadyExists,
    SessionLimitExceeded,
    SessionNotFound,
    StoreClosed,
)
from frontdesk.testing import FakeAgent
from support.agents import in_threads
from support.control_c import ControlC, interrupted_after
from support.interruptions import Scene, every_operation, of_the_library
from support.leftovers import assert_indexes_agree, leftovers, sessions_of


@every_operation
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a __del__
def test_a_handler_that_raises_in_the_middle_of_a_write_leaves_a_store_that_works(operation):
    """Control-C, for instance. What it broke off is made good by the ends of the agents, ids and
    places under limits become free, and nobody waits for ever.
    """
    for at in itertools.count(1):
        with contextlib.closing(Scene()) as scene:
            control_c = ControlC(at, inside=of_the_library)
            with contextlib.suppress(FrontdeskError, KeyboardInterrupt), control_c:
                operation(scene)
            assert not scene.store._core.lock.interrupting(), control_c.place
            if not scene.store.closed:
                end_everything(scene)
                assert not scene.store.list(), control_c.place
                fill_and_empty(scene)
                assert nothing_but_watches_left(scene.store), control_c.place
            if control_c.place is None:
                return


def end_everything(scene):
    """End every agent that the store may know, and those that the operation made."""
    for held in [
        *scene.store._core.index.agents.values(),
        *map(one_held, scene.store._core.entries.values()),
    ]:
        for session in sessions_of(held):
            end_agent(session.agent, scene)
    if not scene.loop.is_closed():
        scene.loop.run_until_complete(asyncio.sleep(0))
    scene.store.count()


def one_held(session):
    return {session.session_id: session}


def end_agent(agent, scene):
    if isinstance(agent, FakeAgent):
        agent.end()
    elif not agent.done() and not scene.loop.is_closed():
        agent.set_result(None)


def fill_and_empty(scene):
    """Take every place under the limit, one more being refused, and give all back.

    Who watches is told of each step: it has begun anew by then, if a change was broken off.
    """
    scene.store.create("new", FakeAgent())
    scene.store.delete("new")
    drained(scene.log)
    for number in range(50):
        scene.store.create(f"full-{number}", FakeAgent(), tenant_id="t", api_key="k")
    with pytest.raises(SessionLimitExceeded):
        scene.store.create("too-much", FakeAgent(), tenant_id="t", api_key="k")
    for number in range(50):
        scene.store.delete(f"full-{number}")
    for name in ("mine", "victim", "shared-1", "shared-2", "finished", "new"):
        scene.store.get_or_create(name, FakeAgent)
        scene.store.delete(name)
    told = [change.revision for change in drained(scene.log)]
    assert len(told) >= 112
    assert told == list(range(told[0], scene.store.revision + 1))


def drained(watch):
    """Return what a watch has to say by now."""
    items = []
    with contextlib.suppress(TimeoutError):
        while True:
            items.append(watch.next(timeout_s=0))
    return items


def nothing_but_watches_left(store):
    left = {kind: number for kind, number in leftovers(store).items() if number}
    # The scene's own two: one that could not be made is not published for.
    assert left == ({} if store.closed else {"watches": 2}), left
    return True


@pytest.mark.parametrize("closing", [False, True], ids=["writing", "closing"])
def test_signals_in_the_middle_of_writes_do_no_harm(make_store, closing):
    """A timer's signal handler writes to the store as often as it can, wherever the store is."""
    store = make_store()
    counted = {"handled": 0, "refused": 0}

    def handle(number, frame):
        counted["handled"] += 1
        if closing and counted["handled"] == 20:
            store.close()
        with contextlib.suppress(StoreClosed):
            store.delete("s0")
            store.delete(f"x{counted['handled'] - 1}")
        try:
            store.create(f"x{counted['handled']}", FakeAgent())
        except ReentrantWrite:
            counted["refused"] += 1
        except (StoreClosed, SessionAlreadyExists):
            pass  # the handler itself was interrupted by the next signal

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    try:
        for number in range(1_000_000):
            name = f"s{number % 5}"
            try:
                with contextlib.suppress(SessionNotFound, ValueError):
                    store.create(name, FakeAgent(), tenant_id="t")
                    store.update(name, model="m")
                store.delete(name)
            except StoreClosed:
                break
            if counted["handled"] >= 300:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert counted["handled"] >= 20
    assert leftovers(store)["deferred"] == 0
    assert_indexes_agree(store)
    assert store.closed == closing


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a __del__
def test_control_c_anywhere_leaves_a_store_that_works_and_can_be_closed(make_store):
    """Control-C at no chosen moment, in a program that writes as fast as it can."""
    store, loop = make_store(), asyncio.new_event_loop()
    future = loop.create_future()

    def write():
        with contextlib.suppress(FrontdeskError):
            store.create("future", future)
            store.create("s", FakeAgent(), tenant_id="t")
            store.update("s", model="m")
        with contextlib.suppress(FrontdeskError):
            store.get_or_create("made", FakeAgent)
            with store.watch() as watch:
                watch.next(timeout_s=0)
        for name in ("future", "s", "made"):
            store.delete(name)

    write()  # so that the watcher's thread, whose start Control-C may break off, is there
    for number in range(300):
        interrupted_after(0.0001 + 0.0000031 * number, write)
        assert not store._core.lock.interrupting()
    for name in ("future", "s", "made"):
        store.delete(name)
    assert store.list() == []
    in_threads(store.close)  # which would wait for ever for a lock that this thread holds
    loop.close()
