"""Holds 8 and 12 at their hardest: code that comes in between two lines of the store's own writes,
in the same thread. A signal handler does, and so does a finalizer that the garbage collector runs.

`Interruption` puts it at every single line, or instruction, that an operation runs through, one
after the other, and `ControlC` raises at every moment when a signal handler may. Then real signals
and the real collector do it where they like.
"""

import asyncio
import contextlib
import gc
import itertools
import os
import signal
import sys

import pytest

import frontdesk
from frontdesk import (
    Change,
    FrontdeskError,
    Limits,
    ReentrantWrite,
    SessionAlreadyExists,
    SessionLimitExceeded,
    SessionNotFound,
    SessionStore,
    StoreClosed,
)
from frontdesk.testing import FakeAgent
from support.agents import StillWatcher, in_threads, told
from support.control_c import TOOL, ControlC, interrupted_after
from support.leftovers import assert_indexes_agree, leftovers, sessions_of

PACKAGE = os.path.dirname(frontdesk.__file__)


def of_the_library(code):
    name = code.co_filename
    return name.startswith(PACKAGE) and not name.startswith(f"{PACKAGE}/testing/")


class Interruption:
    """Run something in the middle of an operation: at its n-th line, or instruction, inside."""

    def __init__(self, at, what, event="line"):
        self._left, self._what, self._event = at, what, event
        self.happened = False
        self.place = self.error = None
        # Held here: CPython 3.11 calls a trace function that it has let go of, if the collector
        # runs a finalizer in which the function takes itself off (a TypeError at a `def`).
        self._on_frame, self._on_line = self._enter_frame, self._line

    def __enter__(self):
        if self._event == "opcode" and sys.version_info >= (3, 12):
            # From 3.12 on, not every frame that is asked for its instructions tells of them.
            monitoring, instruction = sys.monitoring, sys.monitoring.events.INSTRUCTION
            monitoring.use_tool_id(TOOL, "interruption")
            monitoring.register_callback(TOOL, instruction, self._instruction)
            monitoring.set_events(TOOL, instruction)
        else:
            sys.settrace(self._on_frame)
        return self

    def __exit__(self, *_):
        self._stop()

    def _stop(self):
        sys.settrace(None)
        if sys.version_info >= (3, 12) and sys.monitoring.get_tool(TOOL):
            sys.monitoring.set_events(TOOL, 0)
            sys.monitoring.free_tool_id(TOOL)

    def _instruction(self, code, offset):
        if of_the_library(code):
            self._count(f"{code.co_filename}:{code.co_qualname}, {offset}")

    def _enter_frame(self, frame, event, argument):
        if not of_the_library(frame.f_code):
            return None
        frame.f_trace_opcodes = self._event == "opcode"
        return self._on_line

    def _line(self, frame, event, argument):
        if event == self._event:
            self._count(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        return self._on_line

    def _count(self, place):
        if not self.happened:
            self._left -= 1
            if self._left == 0:
                self.happened, self.place = True, place
                self._interrupt()

    def _interrupt(self):
        self._stop()
        try:
            self._what()
        except StoreClosed:
            return  # the operation is a close(), and almost done
        except BaseException as error:
            self.error = error


class Scene:
    """A store in the middle of its life, with one of everything for an operation to touch."""

    def __init__(self):
        self.store = SessionStore(
            limits=Limits(per_tenant=50), feed_capacity=1000, watcher=StillWatcher()
        )
        self.loop = asyncio.new_event_loop()
        self.mine, self.victim = FakeAgent("mine"), FakeAgent("victim")
        self.shared, self.finished = self.loop.create_future(), self.loop.create_future()
        self.idle = self.loop.create_future()
        for name, agent in (
            ("mine", self.mine),
            ("victim", self.victim),
            ("shared-1", self.shared),
            ("shared-2", self.shared),
            ("finished", self.finished),
            ("idle", self.idle),
        ):
            self.store.create(name, agent, tenant_id="t", api_key="k")
        self.store.delete("idle")
        self.log = self.store.watch()
        self.log.next(timeout_s=0)
        self.slow = self.store.watch()
        self.finished.set_result(None)

    def close(self):
        self.log.close()
        self.slow.close()
        self.store.close()
        self.loop.close()


OPERATIONS = {
    "create": lambda scene: scene.store.create("new", FakeAgent(), api_key="k"),
    "create a future": lambda scene: scene.store.create("new", scene.loop.create_future()),
    "create with an idle agent": lambda scene: scene.store.create("new", scene.idle),
    "create with a registered agent": lambda scene: scene.store.create("new", scene.mine),
    "create with a dead agent": lambda scene: scene.store.create("new", FakeAgent(dead=True)),
    "create in the place of the finished": lambda scene: scene.store.create(
        "finished", FakeAgent()
    ),
    "create a held id": lambda scene: scene.store.create("mine", FakeAgent()),
    "create what nobody knows": lambda scene: scene.store.create("finished", object()),
    "get or create": lambda scene: scene.store.get_or_create("new", FakeAgent),
    "delete": lambda scene: scene.store.delete("mine"),
    "delete a future's": lambda scene: scene.store.delete("shared-1"),
    "delete the finished": lambda scene: scene.store.delete("finished"),
    "delete a missing id": lambda scene: scene.store.delete("nobody"),
    "delete with another fence": lambda scene: scene.store.delete("mine", fence=999),
    "update": lambda scene: scene.store.update("mine", model="m"),
    "update a missing id": lambda scene: scene.store.update("nobody", model="m"),
    "ended": lambda scene: scene.store.ended("finished"),
    "list": lambda scene: scene.store.list(),
    "count": lambda scene: scene.store.count(),
    "count after a loop was closed": lambda scene: (scene.loop.close(), scene.store.count()),
    "watch": lambda scene: scene.store.watch().close(),
    "read": lambda scene: scene.slow.next(timeout_s=0),
    "the end of an agent": lambda scene: scene.mine.end(),
    "the end of a future": lambda scene: (
        scene.shared.cancel(),
        scene.loop.run_until_complete(asyncio.sleep(0)),
    ),
    "close": lambda scene: scene.store.close(),
}


def interrupt_everywhere(operation, interrupt, check=lambda scene: None, *, event="line"):
    """Interrupt an operation at each of its lines in turn, and check the scene after each."""
    for at in itertools.count(1):
        with contextlib.closing(Scene()) as scene:
            interruption = Interruption(at, lambda scene=scene: interrupt(scene), event)
            try:
                with contextlib.suppress(FrontdeskError), interruption:
                    operation(scene)
                if not interruption.happened:
                    assert at > 1, "the operation was never inside the store"
                    return
                if interruption.error is not None:
                    raise interruption.error
                assert_in_order(scene)
                check(scene)
            except BaseException as error:
                error.add_note(f"interrupted at {interruption.place}")
                raise


def assert_in_order(scene):
    """Check that the indexes agree, and that the feed tells one whole and possible story."""
    assert leftovers(scene.store)["deferred"] == 0
    assert_indexes_agree(scene.store)
    living = {"mine", "victim", "shared-1", "shared-2", "finished"}
    revision = 7
    for change in heard(scene.log):
        assert change.revision == (revision := revision + 1)
        name = change.session.session_id
        assert (name in living) == (change.kind != "created"), change
        (living.discard if change.kind == "ended" else living.add)(name)
    assert revision == scene.store.revision
    assert living == set(scene.store._core.entries)


def heard(watch):
    while True:
        try:
            item = watch.next(timeout_s=0)
        except (TimeoutError, StopIteration):
            return
        assert isinstance(item, Change)
        yield item


every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


@every_operation
def test_a_delete_that_interrupts_is_carried_out(operation):
    def check(scene):
        assert scene.victim.watched_by == 0
        if not scene.store.closed:
            assert "victim" not in scene.store
            assert str(scene.store.ended("victim").reason) == "deleted"

    interrupt_everywhere(operation, lambda scene: scene.store.delete("victim"), check)


@every_operation
def test_deletes_and_ends_that_interrupt_between_two_instructions_are_carried_out(operation):
    def interrupt(scene):
        scene.store.delete("victim")
        scene.mine.end()

    def check(scene):
        assert "victim" not in scene.store._core.entries
        assert all(one.agent is not scene.mine for one in scene.store._core.entries.values())

    interrupt_everywhere(operation, interrupt, check, event="opcode")


@every_operation
def test_a_delete_of_the_very_session_is_carried_out_before_or_after(operation):
    def delete_all(scene):
        for name in ("mine", "new", "shared-1", "finished"):
            scene.store.delete(name)

    interrupt_everywhere(operation, delete_all)


@every_operation
def test_an_end_that_interrupts_is_taken(operation):
    def check(scene):
        assert "victim" not in scene.store._core.entries

    interrupt_everywhere(operation, lambda scene: scene.victim.end(), check)


@every_operation
def test_the_end_of_the_very_agent_is_taken(operation):
    def check(scene):
        assert all(one.agent is not scene.mine for one in scene.store._core.entries.values())

    interrupt_everywhere(operation, lambda scene: scene.mine.end(), check)


@every_operation
def test_a_close_that_interrupts_is_carried_out(operation):
    def check(scene):
        assert scene.store.closed
        assert scene.mine.watched_by == scene.victim.watched_by == 0
        with pytest.raises(StoreClosed):
            scene.store.list()

    interrupt_everywhere(operation, lambda scene: scene.store.close(), check)


@every_operation
def test_a_question_that_interrupts_is_answered(operation):
    def ask(scene):
        with contextlib.suppress(StoreClosed):
            assert scene.store.count() >= 0
            assert str(scene.store.ended("idle").reason) == "deleted"
            for one in (*scene.store.list(), *scene.store.list_by_tenant("t")):
                assert one.session_id
            assert scene.store.get("victim").agent is scene.victim
            assert "victim" in scene.store
            with pytest.raises(SessionNotFound):
                scene.store.get("nobody")

    def ask_politely(scene):
        with contextlib.suppress(SessionNotFound):  # in the middle of close(), it is gone
            ask(scene)

    closing = operation is OPERATIONS["close"]
    interrupt_everywhere(operation, ask_politely if closing else ask)


@every_operation
def test_a_write_that_has_to_answer_is_answered_or_refused(operation):
    def write(scene):
        agent = FakeAgent("interrupting")
        for asking in (
            lambda: scene.store.create("interrupting", agent),
            lambda: scene.store.update("victim", model="m"),
            lambda: scene.store.get_or_create("victim", FakeAgent),
            lambda: scene.store.watch().close(),
        ):
            try:
                asking()
            except (ReentrantWrite, StoreClosed):
                assert agent.watched_by <= 1

    interrupt_everywhere(operation, write)


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
    left.pop("watches", None)
    assert left == {}, left
    return True


def test_an_interruption_is_refused_only_where_a_write_is_under_way(store):
    """ReentrantWrite is for interruptions: no callback, watcher or thread ever sees it."""
    agent = FakeAgent()
    agent.add_exit_callback(lambda _: store.create("a", FakeAgent()))
    store.create("s", agent)
    agent.add_exit_callback(lambda _: store.create("b", FakeAgent()))
    agent.end()
    assert {one.session_id for one in store.list()} == {"a", "b"}


# -- finalizers ------------------------------------------------------------------------------------


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


# -- signals ---------------------------------------------------------------------------------------


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
