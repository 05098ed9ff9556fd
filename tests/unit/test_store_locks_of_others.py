"""Nothing foreign is called under the lock of a store: two threads meet where it would be.

An agent or clock of the user's own type takes a lock of its own, and whoever holds it calls the
store, while the store asks that agent or clock. `test_store_foreign_code` shows it for every call.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading

import pytest

from frontdesk import ExitReason, FrontdeskError, Limits, SystemClock
from support.agents import BOUND_S, StillWatcher, in_threads


class Meeting:
    """A lock of the user's own: who holds it in `ending` waits until the other wants it."""

    def __init__(self):
        self.lock = threading.RLock()
        self._wanted = threading.Event()
        self._ender = None

    @contextlib.contextmanager
    def ending(self):
        with self.lock:
            self._ender = threading.get_ident()
            self._wanted.wait(BOUND_S)
            yield

    @contextlib.contextmanager
    def asked(self):
        if self._ender not in (None, threading.get_ident()):
            self._wanted.set()
        with self.lock:
            yield

    def over(self):
        self._wanted.set()

    def begun(self):
        return self._ender is not None


class PoolFuture(concurrent.futures.Future):
    """The example: it finishes under its own condition, and tells its callbacks there."""

    def __init__(self, meeting):
        super().__init__()
        self.meeting = meeting

    def done(self):
        with self.meeting.asked():
            return super().done()

    def exception(self, timeout=None):
        with self.meeting.asked():
            return super().exception(timeout)

    def add_done_callback(self, fn):
        with self.meeting.asked():
            super().add_done_callback(fn)

    def end(self):
        with self.meeting.ending():
            self.set_result(None)


class LoopFuture(asyncio.Future):
    """An asyncio future of the user's own type, which tells its callbacks under its own lock."""

    def __init__(self, meeting):
        self.loop = asyncio.new_event_loop()
        self.meeting, self.mine = meeting, []
        super().__init__(loop=self.loop)
        self.loop.close()

    def get_loop(self):
        with self.meeting.asked():
            return Open()

    def done(self):
        with self.meeting.asked():
            return super().done()

    def add_done_callback(self, fn, *, context=None):
        with self.meeting.asked():
            self.mine.append(fn)

    def end(self):
        with self.meeting.ending():
            self.set_result(None)
            for callback in self.mine:
                callback(self)


class Open:
    """An event loop as far as the store asks one: what it is given to call, it calls at once."""

    def is_closed(self):
        return False

    def call_soon_threadsafe(self, function, *arguments, context=None):
        function(*arguments)


class Connection:
    """An agent with `add_exit_callback`, which takes its lock for whatever it is asked."""

    def __init__(self, meeting):
        self.meeting, self.callbacks, self.ended = meeting, [], False

    @property
    def alive(self):
        with self.meeting.asked():
            return not self.ended

    def exit_reason(self):
        with self.meeting.asked():
            return ExitReason.of("normal") if self.ended else None

    def add_exit_callback(self, callback):
        with self.meeting.asked():
            self.callbacks.append(callback)
        return self.take_back

    def take_back(self):
        with self.meeting.asked():
            self.callbacks.clear()

    def end(self):
        with self.meeting.ending():
            self.ended = True
            for callback in list(self.callbacks):
                callback(ExitReason.of("normal"))


class Unprintable(Exception):
    """An exception whose text is behind a lock."""

    def __init__(self, meeting):
        super().__init__(meeting)
        self.meeting = meeting

    def __str__(self):
        with self.meeting.asked():
            return "its text"


class Crashing(PoolFuture):
    """A future that ends with such an exception."""

    def end(self):
        with self.meeting.ending():
            self.set_exception(Unprintable(self.meeting))


ACTS = {
    "create with its id": lambda store, agent: store.create("s", concurrent.futures.Future()),
    "create with its place": lambda store, agent: store.create("t", concurrent.futures.Future()),
    "create with itself": lambda store, agent: store.create("t", agent, tenant_id="other"),
    "get or create": lambda store, agent: store.get_or_create("s", concurrent.futures.Future),
    "delete": lambda store, agent: store.delete("s"),
    "update": lambda store, agent: store.update("s", model="m"),
    "ended": lambda store, agent: store.ended("s"),
    "list": lambda store, agent: store.list(),
    "watch": lambda store, agent: store.watch().close(),
    "close": lambda store, agent: store.close(),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
@pytest.mark.parametrize("kind", [PoolFuture, LoopFuture, Connection, Crashing])
def test_an_agent_that_ends_under_its_own_lock_wedges_no_store(make_store, kind, act):
    meeting = Meeting()
    agent = kind(meeting)
    store = make_store(limits=Limits(per_tenant=1), watcher=StillWatcher())
    store.create("s", agent)

    def ask():
        while not meeting.begun():
            pass
        try:
            with contextlib.suppress(FrontdeskError):
                act(store, agent)
        finally:
            meeting.over()

    in_threads(agent.end, ask)
    if not store.closed:
        assert all(session.agent is not agent for session in store)
        assert all(session.agent is not agent for session in store._core.entries.values()), (
            "its end was not taken"
        )


@pytest.mark.parametrize("act", ["create", "end", "delete", "close"])
def test_a_clock_with_a_lock_wedges_no_store(make_store, act):
    """Whoever holds the clock's lock calls the store, while the store asks the clock."""
    meeting = Meeting()

    class Clock(SystemClock):
        def wall_ms(self):
            with meeting.asked():
                return super().wall_ms()

    store = make_store(clock=Clock())
    future = concurrent.futures.Future()
    store.create("s", future)

    def call_the_store():
        with meeting.ending():
            store.delete("nobody")
            store.update("s", model="m")

    def ask():
        while not meeting.begun():
            pass
        try:
            if act == "create":
                done = concurrent.futures.Future()
                done.set_result(None)
                store.create("dead", done)
            elif act == "end":
                future.set_result(None)
            elif act == "delete":
                store.delete("s")
            else:
                store.close()
        finally:
            meeting.over()

    with contextlib.suppress(FrontdeskError):
        in_threads(call_the_store, ask)


def test_a_monitor_of_the_users_own_that_is_asked_for_its_methods_wedges_no_store(make_store):
    """Its `cancel` is behind a lock, under which its agent ends just then."""
    meeting, given = Meeting(), []

    class Guarded:
        alive = True

        @property
        def cancel(self):
            with meeting.asked():
                return lambda: None

    def watch(agent, on_exit):
        given.append(on_exit)
        while not meeting.begun():
            pass
        return Guarded()

    def end():
        while not given:
            pass
        with meeting.ending():
            given[0](ExitReason.of("normal"))

    store = make_store(monitors={Unprintable: watch})
    in_threads(end, lambda: store.create("s", Unprintable(meeting)))
    assert store.list() == []


def test_a_future_that_finishes_while_it_gets_its_callback_is_not_kept(make_store):
    """It calls back for nothing: before there is an entry."""

    class Hasty(concurrent.futures.Future):
        def add_done_callback(self, fn):
            super().add_done_callback(fn)
            self.set_result(None)

    store = make_store()
    with store.watch() as watch:
        watch.next(timeout_s=BOUND_S)
        store.create("s", Hasty())
        assert [watch.next(timeout_s=0).kind for _ in range(2)] == ["created", "ended"]
    assert "s" not in store
    assert str(store.ended("s").reason) == "normal"
    assert not store._core.entries
    assert not store._core.agents


def test_refusing_a_future_again_and_again_adds_no_callback(make_store):
    store = make_store(limits=Limits(total=1))
    store.create("s", concurrent.futures.Future())
    refused = concurrent.futures.Future()
    for name in ("s", "t") * 10:
        with pytest.raises(FrontdeskError):
            store.create(name, refused)
    assert refused._done_callbacks == []
