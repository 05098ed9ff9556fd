"""Guarantee 12: works from several threads and several event loops. After `fork()` the inherited
store raises StoreClosed in the child, no lock is stuck, and the parent is unaffected.
"""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import textwrap
import threading

import pytest

from frontdesk import ExitReason, FrontdeskError, SessionNotFound
from frontdesk.testing import FakeAgent
from support.agents import BOUND_S, end_of, in_threads, next_change, told
from support.leftovers import assert_indexes_agree, collected, nothing_left

LOST = ExitReason.of("lost")


def test_agents_of_several_loops_live_and_end_in_one_store(store, eager_switches):
    def run_a_loop(name):
        async def main():
            for round_number in range(20):
                tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(10)]
                for number, task in enumerate(tasks):
                    store.create(f"{name}-{round_number}-{number}", task, tenant_id=name)
                await asyncio.gather(*tasks)
                assert store.list_by_tenant(name) == []
                await asyncio.sleep(0)

        asyncio.run(main())

    in_threads(*(lambda name=name: run_a_loop(name) for name in ("a", "b", "c", "d")))
    assert nothing_left(store)


def test_a_task_is_registered_and_deleted_from_outside_its_loop(store):
    ready, over = threading.Event(), threading.Event()
    shared = {}

    def run_a_loop():
        async def main():
            loop = asyncio.get_running_loop()
            loop.set_debug(True)  # in debug mode a call from the wrong thread raises
            shared["loop"] = loop
            shared["release"] = asyncio.Event()
            shared["tasks"] = [asyncio.create_task(shared["release"].wait()) for _ in range(10)]
            ready.set()
            await asyncio.wait(shared["tasks"])
            await asyncio.sleep(0)

        asyncio.run(main())
        over.set()

    running = threading.Thread(target=run_a_loop)
    running.start()
    assert ready.wait(BOUND_S)
    with store.watch() as watch:
        watch.next(timeout_s=0)
        for number, task in enumerate(shared["tasks"]):
            store.create(f"s{number}", task)
            if number % 2:
                store.delete(f"s{number}")
        shared["loop"].call_soon_threadsafe(shared["release"].set)
        assert over.wait(BOUND_S)
        running.join()
        heard = told(watch)
    ends = [(name, reason) for kind, name, reason in heard if kind == "ended"]
    assert sorted(ends) == [
        (f"s{number}", "deleted" if number % 2 else "normal") for number in range(10)
    ]
    shared.clear()
    del task
    collected()
    assert nothing_left(store)


def test_a_task_that_finished_before_it_is_registered_from_outside_is_dead(store):
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    future.set_result(None)
    store.create("s", future)
    assert store.ended("s").reason == ExitReason.of("not_alive")
    loop.close()


def test_threads_and_loops_do_everything_at_once_and_leave_nothing(store, eager_switches):
    def in_a_thread(seed):
        choice = random.Random(seed)
        for number in range(300):
            name = f"s{choice.randrange(20)}"
            try:
                any_operation(store, name, FakeAgent(), choice)
            except FrontdeskError:
                continue
            assert number >= 0

    def in_a_loop(seed):
        async def main():
            choice = random.Random(seed)
            for _ in range(300):
                name = f"s{choice.randrange(20)}"
                task = asyncio.create_task(asyncio.sleep(0))
                try:
                    any_operation(store, name, task, choice)
                except FrontdeskError:
                    continue
                finally:
                    await task

        asyncio.run(main())

    in_threads(
        lambda: in_a_thread(1), lambda: in_a_thread(2), lambda: in_a_loop(3), lambda: in_a_loop(4)
    )
    assert_indexes_agree(store)
    for session in store.list():
        store.delete(session.session_id)
    assert nothing_left(store)


def any_operation(store, name, agent, choice):
    what = choice.randrange(6)
    if what < 2:
        store.create(name, agent, tenant_id=choice.choice("tu"), api_key=choice.choice([None, "k"]))
    elif what == 2:
        store.delete(name)
    elif what == 3:
        store.update(name, model=str(choice.random()))
    elif what == 4:
        found = store.get(name).agent
        if isinstance(found, FakeAgent):
            found.end()
    else:
        store.ended(name)


# -- loops that are closed -----------------------------------------------------------------------


@pytest.fixture
def abandoned(store):
    """A store with a task pending on a loop that was closed since."""
    loop = asyncio.new_event_loop()
    store.create("s", loop.create_future(), tenant_id="t", api_key="k")
    store.create("t", loop.create_future())
    loop.close()
    return store


@pytest.mark.parametrize(
    "look",
    [
        lambda store: store.list(),
        lambda store: store.list_by_tenant("t"),
        lambda store: store.list_by_api_key("k"),
        lambda store: store.count(),
        lambda store: store.count_by_tenant("t"),
        lambda store: store.count_by_api_key("k"),
        lambda store: list(store),
        lambda store: store.create("other", FakeAgent()),
        lambda store: store.create("s", FakeAgent()),
        lambda store: store.get_or_create("other", FakeAgent),
    ],
    ids=[
        "list",
        "tenant",
        "key",
        "count",
        "count-tenant",
        "count-key",
        "iter",
        "create",
        "id",
        "get",
    ],
)
def test_an_agent_of_a_closed_loop_is_lost_as_soon_as_somebody_looks(abandoned, look):
    look(abandoned)
    assert abandoned.ended("s").reason == abandoned.ended("t").reason == LOST
    assert {one.session_id for one in abandoned.list()} <= {"other", "s"}


def test_a_limit_is_not_filled_by_agents_of_a_closed_loop(make_store):
    from frontdesk import Limits

    store = make_store(limits=Limits(total=1))
    loop = asyncio.new_event_loop()
    store.create("s", loop.create_future())
    loop.close()
    store.create("t", FakeAgent())
    assert store.ended("s").reason == LOST


def test_an_agent_of_a_closed_loop_is_lost_within_a_second_though_nobody_looks(store):
    loop = asyncio.new_event_loop()
    store.create("s", loop.create_future())
    with store.watch() as watch:
        watch.next(timeout_s=0)
        loop.close()
        assert end_of(watch, "s").reason == LOST
    assert nothing_left(store)


def test_a_finished_agent_of_a_closed_loop_keeps_its_own_reason(store):
    loop = asyncio.new_event_loop()
    finished = loop.create_future()
    store.create("s", finished)
    finished.set_result(None)
    loop.close()
    assert store.count() == 0
    assert store.ended("s").reason == ExitReason.of("normal")


def test_other_loops_are_unaffected_by_one_that_is_closed(store):
    closed, open_one = asyncio.new_event_loop(), asyncio.new_event_loop()
    store.create("closed", closed.create_future())
    alive = open_one.create_future()
    store.create("open", alive)
    closed.close()
    assert [one.session_id for one in store.list()] == ["open"]
    alive.set_result(None)
    open_one.run_until_complete(asyncio.sleep(0))
    assert store.count() == 0
    open_one.close()


def test_a_thousand_loops_one_after_the_other_leave_nothing(store):
    async def main(number):
        store.create(f"s{number}", asyncio.get_running_loop().create_future())

    for number in range(1000):
        asyncio.run(main(number))
        assert store.count() == 0
    assert len(store._core.listener.loops._known) <= 1
    assert nothing_left(store)


# -- fork ----------------------------------------------------------------------------------------

FORK = """
    import asyncio, os, sys, threading, warnings
    sys.path.insert(0, {tests!r})
    warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: that is the case
    from conftest import new_watcher
    from frontdesk import SessionNotFound, SessionStore, StoreClosed
    from frontdesk.testing import FakeAgent
    from support.agents import ParkedThread, process, next_change

    def refused(call):
        try:
            call()
        except StoreClosed as error:
            return error.forked
        return False

    def in_child(check):
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if check() else 1)
            except BaseException as error:
                print("child:", repr(error), file=sys.stderr, flush=True)
                os._exit(2)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, status

    loop = asyncio.new_event_loop()
    store = SessionStore(watcher=new_watcher())
    agent, thread, future = FakeAgent(), ParkedThread(), loop.create_future()
    thread.start()
    store.create("a", agent)
    store.create("t", thread)
    store.create("f", future)
    watch = store.watch()
    watch.next(timeout_s=0)
    {body}
    store.close()
    print("fine")
"""

CHILD_IS_REFUSED = """
def check():
    calls = (
        lambda: store.get("a"), lambda: store.create("x", FakeAgent()), lambda: store.list(),
        lambda: store.count(), lambda: store.delete("a"), lambda: store.update("a", model="m"),
        lambda: store.ended("a"), lambda: store.watch(), lambda: "a" in store,
        lambda: store.get_or_create("x", FakeAgent), lambda: watch.next(timeout_s=0),
        lambda: list(store), lambda: store.list_by_tenant("default"), store.__enter__,
    )
    store.close()
    agent.end()
    return all(refused(call) for call in calls) and store.closed

in_child(check)
assert store.get("a").agent is agent
agent.end()
assert next_change(watch).session.session_id == "a"
thread.release()
assert next_change(watch).session.session_id == "t"
"""

LOCK_IS_HELD = """
entered, release = threading.Event(), threading.Event()

def hold():
    with store._core.lock.held:
        entered.set()
        release.wait(30)

holding = threading.Thread(target=hold)
holding.start()
assert entered.wait(30)

def check():
    store.close()
    return refused(lambda: store.create("x", FakeAgent())) and refused(store.list)

in_child(check)
release.set()
holding.join()
store.create("x", FakeAgent())
assert store.count() == 4
"""

WHILE_OTHERS_WRITE = """
over = threading.Event()

def write(name):
    while not over.is_set():
        store.create(name, FakeAgent())
        store.delete(name)

writers = [threading.Thread(target=write, args=(f"w{number}",)) for number in range(2)]
for writer in writers:
    writer.start()
for _ in range(30):
    in_child(lambda: refused(store.list) and refused(lambda: store.create("x", FakeAgent())))
over.set()
for writer in writers:
    writer.join()
assert store.count() == 3
"""

CHILD_MAKES_ITS_OWN = """
def check():
    with SessionStore(watcher=new_watcher()) as own, process() as child:
        own.create("c", child)
        with own.watch() as watching:
            watching.next(timeout_s=0)
            child.kill()
            change = next_change(watching)
        return change.reason.signal == 9 and refused(store.list)

in_child(check)
with process() as child:
    store.create("p", child)
    assert next_change(watch).kind == "created"
    in_child(check)
    child.kill()
    assert next_change(watch).reason.signal == 9
"""

CHILD_KEEPS_LIVING = """
# A child that goes on holds copies of every descriptor, and must not disturb the parent's.
reading, writing = os.pipe()
with process() as child:
    store.create("p", child)
    assert next_change(watch).kind == "created"
    forked = os.fork()
    if forked == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    child.kill()
    assert next_change(watch).reason.signal == 9
    for number in range(20):
        with process() as other:
            store.create(f"o{number}", other)
            assert next_change(watch).kind == "created"
            other.kill()
            assert next_change(watch).kind == "ended"
    os.close(writing)
    os.close(reading)
    os.waitpid(forked, 0)
"""

FORKED_BY_MULTIPROCESSING = """
import multiprocessing

def check():
    sys.exit(0 if refused(store.list) and store.closed else 1)

child = multiprocessing.get_context("fork").Process(target=check)
child.start()
store.create("p", child)
assert next_change(watch).kind == "created"
child.join()
assert str(next_change(watch).reason) in {"normal", "not_alive"}
assert child.exitcode == 0
"""

IN_THE_MIDDLE_OF_A_WRITE = """
# The very thread that writes forks: a finalizer or signal handler may do that.
class Forking:
    def __init__(self):
        self.on = False

    def wall_ms(self):
        if self.on:
            self.on = False
            in_child(lambda: refused(forking.list))
        return 0

    def monotonic(self):
        return 0.0

clock = Forking()
forking = SessionStore(clock=clock, watcher=new_watcher())
doomed = FakeAgent()
forking.create("s", doomed)
clock.on = True
forking.delete("s")
assert not clock.on
forking.create("s", FakeAgent())
assert forking.count() == 1
forking.close()
"""


@pytest.mark.parametrize(
    "body",
    [
        CHILD_IS_REFUSED,
        LOCK_IS_HELD,
        WHILE_OTHERS_WRITE,
        CHILD_MAKES_ITS_OWN,
        CHILD_KEEPS_LIVING,
        FORKED_BY_MULTIPROCESSING,
        IN_THE_MIDDLE_OF_A_WRITE,
    ],
    ids=[
        "the_child_is_refused_everything_and_the_parent_goes_on",
        "the_lock_was_held_by_another_thread",
        "other_threads_were_writing",
        "the_child_makes_a_store_of_its_own",
        "the_child_lives_on_with_copies_of_the_descriptors",
        "multiprocessing_forks",
        "the_writing_thread_itself_forks",
    ],
)
def test_after_fork_the_child_is_refused_and_the_parent_unaffected_when(body):
    tests = __file__.rpartition("/unit/")[0]
    program = textwrap.dedent(FORK).format(tests=tests, body=body)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout.split()) == (0, ["fine"]), done.stderr


def test_the_pid_of_a_session_is_that_of_the_process_it_runs_in(store):
    assert store.create("s", FakeAgent()).pid == os.getpid()


def test_a_get_races_with_everything_and_answers_one_way_or_the_other(store, eager_switches):
    over = threading.Event()

    def write():
        try:
            for _ in range(500):
                store.create("s", FakeAgent())
                store.delete("s")
        finally:
            over.set()

    def read():
        while not over.is_set():
            with contextlib.suppress(SessionNotFound):
                assert store.get("s").session_id == "s"

    in_threads(write, read, read)


def test_watching_from_another_thread_sees_what_a_loop_does(store):
    with store.watch() as watch:
        watch.next(timeout_s=0)

        async def main():
            store.create("s", asyncio.create_task(asyncio.sleep(0)))
            change = await asyncio.to_thread(next_change, watch)
            assert change.kind == "created"
            assert (await asyncio.to_thread(next_change, watch)).kind == "ended"

        asyncio.run(main())
