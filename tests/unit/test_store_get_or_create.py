"""`get_or_create`: one factory runs however many callers race, outside the store's lock; if it
fails all are told and the next may try; nobody waits for ever, and no event loop is blocked.
"""

import asyncio
import sys
import threading

import pytest

from frontdesk import (
    AgentFactoryFailed,
    InvalidArgument,
    InvalidType,
    RecursiveCreate,
    SessionAlreadyExists,
    SessionBusy,
    SessionNotFound,
    StoreClosed,
)
from frontdesk.store.pending_create import PendingCreate
from frontdesk.testing import FakeAgent
from support.agents import BOUND_S, in_threads
from support.leftovers import leftovers, nothing_left


class Gate:
    """A factory that stands still until it is let through."""

    def __init__(self, make=FakeAgent):
        self._make = make
        self.entered, self.open = threading.Event(), threading.Event()
        self.calls = 0

    def __call__(self):
        self.calls += 1
        self.entered.set()
        assert self.open.wait(BOUND_S)
        return self._make()


def failing():
    raise ConnectionError("no such model")


class Caller(threading.Thread):
    """Call `get_or_create` in a thread; `answer` is the session or the error."""

    def __init__(self, store, session_id, factory, **given):
        super().__init__(daemon=True)
        self._call = lambda: store.get_or_create(session_id, factory, **given)
        self.answer = None
        self.start()

    def run(self):
        try:
            self.answer = self._call()
        except Exception as error:
            self.answer = error

    def answered(self):
        self.join(BOUND_S)
        assert not self.is_alive()
        return self.answer


def waiting_callers(store, gate, number):
    """Start callers while a factory runs, and wait until each of them is waiting for it."""
    callers = [Caller(store, "s", failing, timeout_s=BOUND_S) for _ in range(number)]
    while not all(is_waiting(caller) for caller in callers):
        assert all(caller.is_alive() for caller in callers)
    return callers


def is_waiting(caller):
    frame = sys._current_frames().get(caller.ident)
    return frame is not None and frame.f_code is PendingCreate._wait.__code__


def test_a_hundred_racers_get_one_session_and_the_factory_runs_once(store, eager_switches):
    made = []

    def factory():
        made.append(FakeAgent())
        return made[-1]

    asking = lambda: store.get_or_create("s", factory, tenant_id="t", api_key="k", model="m")  # noqa: E731
    sessions = in_threads(*[asking] * 100)
    assert len(made) == 1
    assert {session.fence for session in sessions} == {1}
    assert store.get("s").metadata.tenant_id == "t"
    assert made[0].watched_by == 1
    made[0].end()
    assert nothing_left(store)


def test_a_live_session_is_returned_and_no_factory_runs(store):
    holder = store.create("s", FakeAgent(), tenant_id="t")
    assert store.get_or_create("s", failing, tenant_id="other") is holder


def test_those_who_wait_share_what_the_factory_makes(store):
    gate = Gate()
    first = Caller(store, "s", gate)
    assert gate.entered.wait(BOUND_S)
    callers = waiting_callers(store, gate, 5)
    gate.open.set()
    session = first.answered()
    assert [caller.answered() for caller in callers] == [session] * 5
    assert gate.calls == 1
    assert leftovers(store)["builds"] == 0


def test_a_failure_is_told_to_all_and_the_next_may_try(store):
    gate = Gate(failing)
    first = Caller(store, "s", gate)
    assert gate.entered.wait(BOUND_S)
    callers = waiting_callers(store, gate, 5)
    gate.open.set()
    error = first.answered()
    assert isinstance(error, ConnectionError)
    for caller in callers:
        told = caller.answered()
        assert isinstance(told, AgentFactoryFailed)
        assert (told.session_id, told.error) == ("s", error)
    assert nothing_left(store)
    assert store.get_or_create("s", FakeAgent).session_id == "s"


def test_the_store_is_not_locked_while_a_factory_runs(store):
    gate = Gate()
    first = Caller(store, "s", gate)
    assert gate.entered.wait(BOUND_S)
    store.create("other", FakeAgent())
    store.delete("other")
    store.get_or_create("another", FakeAgent)
    with pytest.raises(SessionNotFound):
        store.get("s")
    gate.open.set()
    assert first.answered() is store.get("s")


def test_a_factory_may_use_the_store_for_other_ids(store):
    def factory():
        store.create("helper", FakeAgent())
        return store.get_or_create("inner", FakeAgent).agent

    session = store.get_or_create("s", factory)
    assert session.agent is store.get("inner").agent


def test_a_factory_that_asks_for_its_own_session_is_told(store):
    errors = []

    def factory():
        with pytest.raises(RecursiveCreate) as error:
            store.get_or_create("s", FakeAgent)
        errors.append(error.value)
        return FakeAgent()

    store.get_or_create("s", factory)
    assert errors[0].session_id == "s"
    assert isinstance(errors[0], RuntimeError)


def test_two_factories_that_ask_for_each_other_are_told(store):
    def outer():
        return store.get_or_create("inner", inner).agent

    def inner():
        return store.get_or_create("outer", outer).agent

    with pytest.raises(RecursiveCreate):
        store.get_or_create("outer", outer)
    assert nothing_left(store)


def test_a_factory_that_registers_the_id_itself_is_told_and_its_agent_is_handed_back(store):
    spare = FakeAgent("spare")

    def factory():
        store.create("s", FakeAgent("quicker"))
        return spare

    with pytest.raises(SessionAlreadyExists) as error:
        store.get_or_create("s", factory)
    assert error.value.agent is spare
    assert error.value.holder.agent.name == "quicker"
    assert spare.watched_by == 0


def test_somebody_else_may_take_the_id_while_the_factory_runs(store):
    gate = Gate()
    first = Caller(store, "s", gate)
    assert gate.entered.wait(BOUND_S)
    holder = store.create("s", FakeAgent())
    assert store.get_or_create("s", failing) is holder
    gate.open.set()
    error = first.answered()
    assert isinstance(error, SessionAlreadyExists)
    assert error.holder is holder
    assert error.agent.alive


def test_waiting_has_a_bound(store):
    gate = Gate()
    first = Caller(store, "s", gate)
    assert gate.entered.wait(BOUND_S)
    for timeout_s in (0, 0.01):
        with pytest.raises(SessionBusy) as busy:
            store.get_or_create("s", failing, timeout_s=timeout_s)
        assert (busy.value.session_id, busy.value.waited_s) == ("s", timeout_s)
    gate.open.set()
    first.answered()


def test_a_running_loop_is_told_to_try_again_and_never_blocked(store):
    gate = Gate()
    first = Caller(store, "s", gate)
    assert gate.entered.wait(BOUND_S)

    async def main():
        with pytest.raises(SessionBusy) as busy:
            store.get_or_create("s", failing, timeout_s=BOUND_S)
        assert busy.value.waited_s == 0
        gate.open.set()
        await asyncio.to_thread(first.answered)
        assert store.get_or_create("s", failing) is first.answer

    asyncio.run(main())


def test_on_a_loop_nobody_needs_to_wait_for_oneself(store):
    async def main():
        session = store.get_or_create("s", lambda: asyncio.ensure_future(asyncio.sleep(0)))
        assert store.get_or_create("s", failing) is session
        await session.agent

    asyncio.run(main())


def test_closing_the_store_in_the_middle_tells_everybody(make_store):
    store = make_store()
    gate = Gate()
    first = Caller(store, "s", gate)
    assert gate.entered.wait(BOUND_S)
    (second,) = waiting_callers(store, gate, 1)
    store.close()
    gate.open.set()
    assert isinstance(first.answered(), StoreClosed)
    told = second.answered()
    assert isinstance(told, AgentFactoryFailed)
    assert isinstance(told.error, StoreClosed)


def test_a_factory_may_close_the_store(make_store):
    store = make_store()
    agent = FakeAgent()

    def factory():
        store.close()
        return agent

    with pytest.raises(StoreClosed):
        store.get_or_create("s", factory)
    assert agent.watched_by == 0


def test_a_factory_that_makes_a_dead_agent_returns_its_session_and_the_next_may_try(store):
    session = store.get_or_create("s", lambda: FakeAgent(dead=True))
    assert not session.agent.alive
    assert store.get_or_create("s", FakeAgent).agent.alive


def test_a_factory_that_makes_no_agent_is_told(store):
    with pytest.raises(InvalidType):
        store.get_or_create("s", lambda: None)
    assert nothing_left(store)


def test_a_factory_interrupted_by_control_c_leaves_the_way_free(store):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.get_or_create("s", interrupted)
    assert nothing_left(store)
    store.get_or_create("s", FakeAgent)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"factory": FakeAgent()}, InvalidType),
        ({"session_id": ""}, InvalidArgument),
        ({"session_id": 7}, InvalidType),
        ({"timeout_s": "1"}, InvalidType),
        ({"timeout_s": -1}, InvalidArgument),
        ({"timeout_s": float("nan")}, InvalidArgument),
        ({"tenant_id": ""}, InvalidArgument),
        ({"api_key": 7}, InvalidType),
    ],
)
def test_what_is_impossible_is_refused_before_the_factory_runs(store, given, error):
    calls = []

    def factory():
        calls.append(1)
        return FakeAgent()

    with pytest.raises(error):
        store.get_or_create(**{"session_id": "s", "factory": factory, **given})
    assert calls == []
    assert nothing_left(store)


def test_racers_whose_factory_fails_half_of_the_time_all_get_in_in_the_end(store, eager_switches):
    turns = []

    def sometimes():
        turns.append(1)
        if len(turns) % 2:
            failing()
        return FakeAgent()

    def ask():
        while True:
            try:
                return store.get_or_create("s", sometimes)
            except (ConnectionError, AgentFactoryFailed):
                continue

    sessions = in_threads(*[ask] * 10)
    assert {session.fence for session in sessions} == {store.get("s").fence}
