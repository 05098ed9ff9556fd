"""Random operations and deaths, on the store and on a model that predicts every answer.

Hypothesis chooses the operations; `store_model.py` says what each has to answer, which error, and
which changes it makes. After every step every lookup, listing, count and the revision are compared.
Ends are held still between "finished" and "told": futures finish while their loop does not run,
fake agents die before they tell.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
from contextlib import contextmanager

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from frontdesk import ExitReason, Limits, SessionStore, Snapshot
from frontdesk.errors import (
    FrontdeskError,
    SessionAlreadyExists,
    SessionLimitExceeded,
    SessionNotFound,
    StoreClosed,
)
from frontdesk.testing import FakeAgent, ManualClock
from property.store_model import ModelAgent, StoreModel, WatchModel
from support.agents import StillWatcher

IDS = [f"s{number}" for number in range(4)]
TENANTS = ["red", "blue"]
API_KEYS = [None, "k1", "k2"]
TEXTS = [None, "small", "large"]
LOOPS = 2

ids = st.sampled_from(IDS)
picks = st.integers(0, 1000)
attributes = st.fixed_dictionaries(
    {
        "tenant_id": st.sampled_from(TENANTS),
        "api_key": st.sampled_from(API_KEYS),
        "blueprint": st.sampled_from(TEXTS),
        "model": st.sampled_from(TEXTS),
    }
)
scopes = st.tuples(st.sampled_from([None, *TENANTS]), st.sampled_from(API_KEYS))
endings = st.sampled_from(["normal", "cancelled", "crashed"])
limits = st.sampled_from([None, None, None, None, None, None, 2, 3])


class Crash(Exception):
    """What an agent of this test dies of."""


class StoreAgainstModel(RuleBasedStateMachine):
    """Do everything twice, and compare."""

    @initialize(
        total=limits, per_tenant=limits, per_api_key=limits, capacity=st.sampled_from([20, 500])
    )
    def open(self, total, per_tenant, per_api_key, capacity):
        limits = Limits(total=total, per_tenant=per_tenant, per_api_key=per_api_key)
        self.clock = ManualClock()
        self.store = SessionStore(
            limits=limits, feed_capacity=capacity, clock=self.clock, watcher=StillWatcher()
        )
        self.capacity = capacity
        self.model = StoreModel(limits, self.clock.wall_ms, os.getpid(), self._ended_revision)
        self.loops = [asyncio.new_event_loop() for _ in range(LOOPS)]
        self.agents: list[ModelAgent] = []
        self.watches: list[tuple[object, WatchModel]] = []

    def _ended_revision(self, session_id):
        return self.store.ended(session_id).revision

    # -- agents --------------------------------------------------------------------------------

    def make(self, kind, number=0):
        agent = ModelAgent(make_agent(kind, self.loops[number]), kind)
        agent.loop = number if kind == "asyncio" else None
        self.agents.append(agent)

    def agent(self, pick):
        """Choose among the latest agents."""
        if not self.agents:
            self.make("asyncio")
        return self.agents[-1 - pick % min(len(self.agents), 4)]

    @rule(pick=picks, ending=endings)
    def finish(self, pick, ending):
        agent = self.agent(pick)
        if agent.finished:
            return
        if agent.kind == "fake":
            agent.reason = reason_of(ending)
            agent.real.die(agent.reason)
        else:
            finish_future(agent.real, ending)
            agent.reason = reason_of(ending)
        if agent.kind == "concurrent":
            self.model.told(agent)

    @rule(pick=picks)
    def tell(self, pick):
        agent = self.agent(pick)
        if agent.kind == "fake" and agent.finished:
            agent.real.notify()
            self.model.told(agent)

    @rule(number=st.integers(0, LOOPS - 1))
    def let_a_loop_run(self, number):
        self.loops[number].run_until_complete(passes())
        self.model.end_group(
            agent for agent in self.agents if agent.loop == number and agent.finished
        )

    @rule(number=st.integers(0, LOOPS - 1))
    def close_a_loop(self, number):
        self.loops[number].close()
        self.loops[number] = asyncio.new_event_loop()
        self.store.count()
        closed = [agent for agent in self.agents if agent.loop == number]
        for agent in closed:
            agent.reason = agent.reason or ExitReason.of("lost")
            agent.loop = None
        self.model.end_group(closed)

    # -- operations ----------------------------------------------------------------------------

    @rule(
        session_id=ids,
        kind=st.sampled_from(["asyncio", "asyncio", "concurrent", "fake"]),
        number=st.integers(0, LOOPS - 1),
        given=attributes,
    )
    def create_with_a_new_agent(self, session_id, kind, number, given):
        self.make(kind, number)
        self.create(session_id=session_id, pick=0, given=given, inside=True)

    @rule(session_id=ids, pick=picks, given=attributes, inside=st.booleans())
    def create(self, session_id, pick, given, inside):
        agent = self.agent(pick)
        with running(self.loop_of(agent) if inside else None):
            real = outcome(self.store.create, session_id, agent.real, **given)
        predicted = outcome(self.model.create, session_id, agent, **given)
        self.compare(real, predicted)
        if isinstance(predicted, tuple):
            return
        assert real.agent is agent.real

    @rule(session_id=ids, pick=picks, given=attributes)
    def create_with_a_living_agent(self, session_id, pick, given):
        living = [agent for agent in self.agents if not agent.finished]
        if living:
            agent = living[-1 - pick % min(len(living), 3)]
            self.agents.remove(agent)
            self.agents.append(agent)
            self.create(session_id=session_id, pick=0, given=given, inside=pick % 2 == 0)

    @rule(session_id=ids, given=attributes, awaited=st.booleans())
    def get_or_create(self, session_id, given, awaited):
        fresh = ModelAgent(FakeAgent("fresh"), "fake")
        made = []

        def factory():
            made.append(fresh.real)
            return fresh.real

        async def async_factory():
            return factory()

        def awaiting(*asked, **given):
            return asyncio.run(self.store.get_or_create_async(*asked, **given))

        ask = (awaiting, async_factory) if awaited else (self.store.get_or_create, factory)
        real = outcome(ask[0], session_id, ask[1], **given)
        held = session_id in [one.metadata.session_id for one in self.model.listed()]
        predicted = outcome(self.model.get_or_create, session_id, fresh, **given)
        self.compare(real, predicted)
        assert len(made) == (0 if held else 1)
        if made:
            self.agents.append(fresh)

    @rule(session_id=ids, given=st.sampled_from(["none", "none", "right", "wrong"]))
    def delete(self, session_id, given):
        held = self.model.entries.get(session_id)
        fence = {"none": None, "wrong": self.model.revision + 7}.get(
            given, held.metadata.fence if held else 0
        )
        self.store.delete(session_id, fence=fence)
        self.model.delete(session_id, fence)

    @rule(
        session_id=ids,
        changed=st.dictionaries(st.sampled_from(["model", "blueprint"]), st.sampled_from(TEXTS)),
    )
    def update(self, session_id, changed):
        real = outcome(self.store.update, session_id, **changed)
        self.compare(real, outcome(self.model.update, session_id, **changed))

    @rule(session_id=ids)
    def ended(self, session_id):
        real = outcome(self.store.ended, session_id)
        predicted = outcome(self.model.ended, session_id)
        assert real == predicted

    @rule(session_id=st.sampled_from(["", "x" * 513, "a\nb", 7, None]))
    def create_with_an_impossible_id(self, session_id):
        with pytest.raises(FrontdeskError):
            self.store.create(session_id, FakeAgent())

    @rule(session_id=ids)
    def create_with_an_impossible_agent(self, session_id):
        with pytest.raises(FrontdeskError) as refused:
            self.store.create(session_id, object())
        # A holder or a limit may be in the way first; what is finished goes in either case.
        predicted = outcome(self.model._admit, session_id, "default", None)
        if isinstance(predicted, tuple):
            assert type(refused.value) is predicted[0]

    @rule(duration_s=st.integers(0, 100))
    def let_time_pass(self, duration_s):
        self.clock.advance(duration_s)

    # -- watches -------------------------------------------------------------------------------

    @rule(scope=scopes)
    @precondition(lambda self: len(self.watches) < 4)
    def open_a_watch(self, scope):
        watch = self.store.watch(tenant_id=scope[0], api_key=scope[1])
        assert watch.next(timeout_s=0) == self.model.snapshot(scope, resync=False)
        self.watches.append(
            (watch, WatchModel(self.model, scope, self.capacity, self.model.revision))
        )

    @rule(pick=picks, number=st.integers(1, 60))
    @precondition(lambda self: self.watches)
    def read_a_watch(self, pick, number):
        watch, modelled = self.watches[pick % len(self.watches)]
        for _ in range(number):
            try:
                modelled.accept(watch.next(timeout_s=0))
            except TimeoutError:
                modelled.accept_nothing()
                break

    @rule(pick=picks)
    @precondition(lambda self: self.watches)
    def close_a_watch(self, pick):
        watch, _ = self.watches.pop(pick % len(self.watches))
        watch.close()
        assert list(watch) == []

    # -- comparing -----------------------------------------------------------------------------

    def compare(self, real, predicted):
        if isinstance(predicted, tuple):
            assert real == predicted
        else:
            assert not isinstance(real, tuple), f"{real} instead of {predicted}"
            assert real.metadata == predicted

    def loop_of(self, agent):
        return None if agent.loop is None else self.loops[agent.loop]

    @invariant()
    def every_lookup_agrees(self):
        if not hasattr(self, "store"):
            return
        assert self.store.revision == self.model.revision
        for session_id in IDS:
            real = outcome(self.store.get, session_id)
            predicted = outcome(self.model.get, session_id)
            if isinstance(predicted, tuple):
                assert real == predicted
            else:
                assert (real.metadata, real.agent) == (predicted.metadata, predicted.agent.real)
            assert (session_id in self.store) == (not isinstance(predicted, tuple))

    @invariant()
    def every_listing_and_count_agrees(self):
        if not hasattr(self, "store"):
            return
        store, model = self.store, self.model
        compare_listing(store.list(), store.count(), model, None, None)
        compare_listing(list(store), len(store), model, None, None)
        for tenant_id in TENANTS:
            listed, counted = store.list_by_tenant(tenant_id), store.count_by_tenant(tenant_id)
            compare_listing(listed, counted, model, tenant_id, None)
        for api_key in API_KEYS[1:]:
            listed, counted = store.list_by_api_key(api_key), store.count_by_api_key(api_key)
            compare_listing(listed, counted, model, None, api_key)

    @invariant()
    def agents_that_live_are_watched_once_or_not_at_all(self):
        if not hasattr(self, "store"):
            return
        registry_agent = {id(one.agent) for one in self.model.entries.values()}
        for agent in self.agents:
            if agent.kind == "fake" and not agent.finished:
                assert agent.real.watched_by == (id(agent) in registry_agent)

    def teardown(self):
        if not hasattr(self, "store"):
            return
        with self.store.watch() as last:
            assert last.next(timeout_s=0) == self.model.snapshot((None, None), resync=False)
            self.store.close()
            order = {change.session.session_id: change.revision for change in last}
        self.model.close(order.__getitem__)
        for watch, modelled in self.watches:
            for item in watch:
                accept_last(modelled, item)
            modelled.accept_nothing()
        for asking in (self.store.list, self.store.count, lambda: self.store.get("s0")):
            with pytest.raises(StoreClosed):
                asking()
        for loop in self.loops:
            loop.close()


def accept_last(modelled, item):
    """Accept an item of a store that is closed; a resynchronised watch sees it empty."""
    if isinstance(item, Snapshot):
        assert (item.resync, item.sessions) == (True, ())
        assert modelled.may_have_fallen_behind()
        modelled.position = modelled.store.revision
    else:
        modelled.accept(item)


def compare_listing(listed, counted, model, tenant_id, api_key):
    predicted = [one.metadata for one in model.listed(tenant_id, api_key)]
    assert [one.metadata for one in listed] == predicted
    assert counted == len(model.held(tenant_id, api_key))


def outcome(call, *args, **kwargs):
    """Return the answer, or what distinguishes the error."""
    try:
        return call(*args, **kwargs)
    except SessionAlreadyExists as error:
        return SessionAlreadyExists, error.session_id, fence_of(error.holder)
    except SessionLimitExceeded as error:
        return SessionLimitExceeded, error.scope, error.limit
    except SessionNotFound as error:
        return SessionNotFound, error.session_id


def fence_of(holder):
    return getattr(holder, "metadata", holder).fence


def make_agent(kind, loop):
    if kind == "asyncio":
        return loop.create_future()
    return FakeAgent() if kind == "fake" else concurrent.futures.Future()


def reason_of(ending):
    return ExitReason.crashed(Crash("why")) if ending == "crashed" else ExitReason.of(ending)


def finish_future(future, ending):
    if ending == "normal":
        future.set_result(None)
    elif ending == "crashed":
        future.set_exception(Crash("why"))
        future.exception()  # retrieved: nobody else may ask, and asyncio would say so
    else:
        future.cancel()
        if isinstance(future, concurrent.futures.Future):
            future.set_running_or_notify_cancel()


@contextmanager
def running(loop):
    """Make a loop the running one of this thread without letting it run anything."""
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(None)


async def passes():
    for _ in range(5):
        await asyncio.sleep(0)


QUICK = settings(
    max_examples=120, stateful_step_count=50, deadline=None, derandomize=True, database=None
)
THOROUGH = settings(
    max_examples=2000, stateful_step_count=80, deadline=None, print_blob=True, database=None
)


def test_the_store_answers_as_the_model_predicts():
    run_state_machine_as_test(StoreAgainstModel, settings=QUICK)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_store_answers_as_the_model_predicts_at_length():
    run_state_machine_as_test(StoreAgainstModel, settings=THOROUGH)
