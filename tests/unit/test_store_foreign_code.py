"""Nothing foreign is called under the lock of a store: an agent, clock, loop, id or watcher of the
user's own type may take a lock of its own, which somebody may hold who waits for the store's.

Random operations run over types of which every method looks whether the store's lock is held.
`test_store_locks_of_others` has the deadlock itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frontdesk import ExitReason, FrontdeskError, Limits, SessionStore, SystemClock, Watcher
from support.agents import StillWatcher
from support.leftovers import assert_indexes_agree


class Eye:
    """Sees who is called while the store's lock is held by this thread."""

    def __init__(self):
        self.store, self.seen, self.looked = None, [], 0

    def look(self, where):
        self.looked += 1
        if self.store is not None and self.store._core.lock.interrupting():
            self.seen.append(where)


EYE = Eye()


def watched(*names):
    """Make a class's methods look first; also those that it inherits."""

    def decorate(cls):
        for name in names:
            setattr(cls, name, looking(f"{cls.__name__}.{name}", getattr(cls, name)))
        return cls

    return decorate


def looking(where, method):
    def call(self, *arguments, **more):
        EYE.look(where)
        return method(self, *arguments, **more)

    return call


FUTURE = ("done", "add_done_callback", "exception", "cancelled", "__eq__", "__hash__", "__repr__")


@watched(*FUTURE, "running", "result")
class WatchedPoolFuture(concurrent.futures.Future):
    pass


@watched(*FUTURE, "get_loop", "result")
class WatchedLoopFuture(asyncio.Future):
    pass


@watched(*FUTURE, "get_loop", "result")
class WatchedPythonFuture(asyncio.futures._PyFuture):
    pass


@watched("is_closed", "call_soon_threadsafe", "call_soon", "get_debug", "__eq__", "__hash__")
class WatchedLoop(asyncio.SelectorEventLoop):
    pass


@watched("__eq__", "__hash__", "__len__", "isprintable", "__str__", "__repr__", "__format__")
class WatchedStr(str):
    __slots__ = ()


@watched("__eq__", "__hash__", "__lt__", "__le__", "__gt__", "__ge__", "__index__", "__repr__")
class WatchedInt(int):
    __slots__ = ()


@watched("__eq__", "__hash__")
class WatchedReason(ExitReason):
    __slots__ = ()

    def __bool__(self):
        EYE.look("WatchedReason.__bool__")
        return True


@watched("__str__", "__repr__")
class WatchedError(Exception):
    pass


@watched("wall_ms", "monotonic")
class WatchedClock(SystemClock):
    __slots__ = ()


@watched("every_second")
class WatchedWatcher(StillWatcher):
    pass


class WatchedLimits(Limits):
    def __getattribute__(self, name):
        EYE.look(f"WatchedLimits.{name}")
        return super().__getattribute__(name)


class WatchedAgent:
    """An agent of the user's own: whatever it is asked, it looks."""

    def __init__(self):
        self.callbacks, self.reason = [], None

    @property
    def alive(self):
        EYE.look("WatchedAgent.alive")
        return self.reason is None

    @property
    def pid(self):
        EYE.look("WatchedAgent.pid")
        return 1

    def exit_reason(self):
        EYE.look("WatchedAgent.exit_reason")
        return self.reason

    def add_exit_callback(self, callback):
        EYE.look("WatchedAgent.add_exit_callback")
        self.callbacks.append(callback)
        return lambda: EYE.look("WatchedAgent's callback taken back")

    def __eq__(self, other):
        EYE.look("WatchedAgent.__eq__")
        return self is other

    def __hash__(self):
        EYE.look("WatchedAgent.__hash__")
        return 7

    def __del__(self):
        EYE.look("WatchedAgent.__del__")


class World:
    """A store, two event loops and some agents of every kind, for random operations."""

    def __init__(self, limits):
        # Finalizers that the collector runs may come anywhere: those of former worlds, here.
        gc.collect()
        gc.disable()
        EYE.store, EYE.seen, EYE.looked = None, [], 0
        self.store = EYE.store = SessionStore(
            limits=limits, clock=WatchedClock(), watcher=WatchedWatcher()
        )
        self.loops = [WatchedLoop(), WatchedLoop()]
        self.agents = [
            make(loop)
            for loop in self.loops
            for make in (
                lambda loop: WatchedPoolFuture(),
                lambda loop: WatchedLoopFuture(loop=loop),
                lambda loop: WatchedPythonFuture(loop=loop),
                lambda loop: loop.create_future(),
                lambda loop: concurrent.futures.Future(),
                lambda loop: WatchedAgent(),
            )
        ]

    def close(self):
        self.store.close()
        for loop in self.loops:
            loop.close()
        EYE.store = None
        gc.enable()

    def finish(self, agent, how):
        """End an agent, of which the store may not have been told yet."""
        if isinstance(agent, WatchedAgent):
            agent.reason = WatchedReason(kind="normal")
            for callback in agent.callbacks if how else ():
                callback(agent.reason)
        elif not agent.done():
            with contextlib.suppress(RuntimeError):  # its loop is closed
                agent.set_exception(WatchedError("text")) if how else agent.cancel()

    def here(self, loop, act):
        """Act inside a running loop, or where it is closed or None, outside of any."""
        if loop is None or self.loops[loop].is_closed():
            return act()

        async def run():
            return act()

        return self.loops[loop].run_until_complete(run())


ids = st.sampled_from(["a", "b", "c"]).map(WatchedStr)
agents = st.integers(0, 11)
where = st.sampled_from([None, 0, 1])
operations = st.one_of(
    st.tuples(st.just("create"), ids, agents, where),
    st.tuples(st.just("get_or_create"), ids, agents, where),
    st.tuples(st.just("delete"), ids, st.none() | st.integers(1, 9).map(WatchedInt), where),
    st.tuples(st.just("update"), ids, agents, where),
    st.tuples(st.just("ended"), ids, agents, where),
    st.tuples(st.just("finish"), st.booleans(), agents, where),
    st.tuples(st.just("ask"), ids, agents, where),
    st.tuples(st.just("run"), ids, agents, where),
    st.tuples(st.just("close loop"), ids, agents, st.sampled_from([0, 1])),
)


def act(world, what, name, more):
    store = world.store
    if what == "create":
        store.create(name, world.agents[more], tenant_id=WatchedStr("t"), api_key=WatchedStr("k"))
    elif what == "get_or_create":
        store.get_or_create(name, lambda: world.agents[more], tenant_id=WatchedStr("t"))
    elif what == "delete":
        store.delete(name, fence=more, reason=WatchedReason(kind="deleted"))
    elif what == "update":
        store.update(name, model=WatchedStr("m"), blueprint=WatchedStr("b"))
    elif what == "ended":
        store.ended(name)
    elif what == "finish":
        world.finish(world.agents[more], name)
    elif what == "ask":
        store.count(), store.list(), store.list_by_tenant(WatchedStr("t"))
        store.count_by_api_key(WatchedStr("k")), name in store
        with store.watch(tenant_id=WatchedStr("t"), api_key=WatchedStr("k")) as watch:
            watch.next(timeout_s=0)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    limits=st.sampled_from([None, WatchedLimits(total=WatchedInt(3), per_tenant=WatchedInt(2))]),
    steps=st.lists(operations, max_size=25),
)
def test_nothing_foreign_is_called_under_the_lock_of_a_store(limits, steps):
    with contextlib.closing(World(limits)) as world:
        for what, name, more, loop in steps:
            if what == "close loop":
                world.loops[loop].close()
            elif what == "run":
                world.here(loop, lambda: None)
            else:
                with contextlib.suppress(FrontdeskError):
                    world.here(loop, lambda: act(world, what, name, more))  # noqa: B023
            assert EYE.seen == [], f"under the lock, by {what}"
            assert_indexes_agree(world.store)
        world.store.close()
        assert EYE.seen == []


def test_the_eye_sees_what_is_called_under_the_lock(make_store):
    """Else the test above would show nothing."""
    with contextlib.closing(World(None)) as world:
        with world.store._core.lock.held:
            world.agents[0].done()
        world.agents[0].done()
        assert EYE.seen == ["WatchedPoolFuture.done"]


def test_a_watcher_of_the_users_own_is_asked_for_one_tick_only(make_store):
    asked = []

    class Counting(Watcher):
        def every_second(self, callback):
            asked.append(callback)
            return super().every_second(callback)

    with Counting() as watcher:
        store, loop = make_store(watcher=watcher), asyncio.new_event_loop()
        for number in range(3):
            store.create(f"s{number}", loop.create_future())
        assert len(asked) == 1
        loop.close()
