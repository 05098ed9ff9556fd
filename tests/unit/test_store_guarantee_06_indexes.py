"""Guarantee 6: indexes and counts equal a filter over all entries after every operation; lists
equal it over the unfinished ones. (tests/property compares after every one of many random
operations.)
"""

import random
import threading

import pytest

from frontdesk import FrontdeskError, Session
from frontdesk.testing import FakeAgent, ManualClock
from support.agents import in_threads
from support.leftovers import assert_indexes_agree, nothing_left

TENANTS, API_KEYS = ("red", "green", "blue"), (None, "k1", "k2")


def test_the_indexes_agree_after_every_operation_of_a_long_life(store):
    choice = random.Random(6)
    agents = {}
    for _ in range(2000):
        one_operation(store, agents, choice)
        assert_indexes_agree(store)
    for session in [*store._core.index.entries.values()]:
        session.agent.end()
    assert nothing_left(store)


def one_operation(store, agents, choice):
    session_id = f"s{choice.randrange(30)}"
    agent = agents.get(session_id)
    if agent is None:
        agents[session_id] = agent = FakeAgent()
        store.create(
            session_id,
            agent,
            tenant_id=choice.choice(TENANTS),
            api_key=choice.choice(API_KEYS),
        )
        return
    what = choice.randrange(4)
    if what == 0:
        store.update(session_id, model=str(choice.random()))
    elif what == 1:
        agents.pop(session_id).end()
    elif what == 2:
        agents.pop(session_id).die()
    else:
        store.delete(session_id)
        del agents[session_id]


@pytest.mark.parametrize("seed", range(3))
def test_the_indexes_agree_when_threads_have_done_their_worst(store, eager_switches, seed):
    def worker(number):
        choice, agents = random.Random(seed * 100 + number), {}
        for _ in range(400):
            try:
                one_operation(store, agents, choice)
            except (FrontdeskError, RuntimeError):
                agents.clear()  # another thread has the id

    in_threads(*(lambda number=number: worker(number) for number in range(4)))
    assert_indexes_agree(store)
    everything = store.list()
    for tenant_id in TENANTS:
        assert store.list_by_tenant(tenant_id) == [
            one for one in everything if one.tenant_id == tenant_id
        ]
    for session in everything:
        store.delete(session.session_id)
    assert store.list() == []


def test_reading_threads_see_whole_buckets_while_others_write(store, eager_switches):
    over = threading.Event()

    def write():
        try:
            for _ in range(20):
                for number in range(50):
                    store.create(f"s{number}", FakeAgent(), tenant_id="t", api_key="k")
                for number in range(50):
                    store.delete(f"s{number}")
        finally:
            over.set()

    def read():
        while not over.is_set():
            for listed in (store.list(), store.list_by_tenant("t"), store.list_by_api_key("k")):
                assert all(isinstance(one, Session) for one in listed)
                fences = [one.fence for one in listed]
                assert fences == sorted(set(fences))

    in_threads(write, read, read)


def test_lists_are_in_fence_order_whatever_is_updated(store):
    for name in ("c", "a", "b"):
        store.create(name, FakeAgent(), tenant_id="t", api_key="k")
    store.update("c", model="m")
    store.update("a", blueprint="b")
    for listed in (store.list(), store.list_by_tenant("t"), store.list_by_api_key("k")):
        assert [one.session_id for one in listed] == ["c", "a", "b"]


def test_an_updated_session_is_the_same_in_every_index(store):
    store.create("s", FakeAgent(), tenant_id="t", api_key="k", model="old", blueprint="b")
    updated = store.update("s", model="new")
    (listed,), (of_tenant,), (of_key,) = (
        store.list(),
        store.list_by_tenant("t"),
        store.list_by_api_key("k"),
    )
    assert listed is of_tenant is of_key is store.get("s") is updated
    assert (updated.model, updated.blueprint) == ("new", "b")


def test_an_update_of_nothing_is_a_change_all_the_same(store):
    session = store.create("s", FakeAgent())
    revision = store.revision
    assert store.update("s").metadata == session.metadata
    assert store.revision == revision + 1


def test_the_times_of_a_session_are_of_the_wall_clock_in_milliseconds(make_store):
    clock = ManualClock(wall_ms=1_000)
    store = make_store(clock=clock)
    session = store.create("s", FakeAgent())
    clock.advance(2.5)
    store.update("s", model="m")
    assert store.get("s").created_at == session.created_at == 1_000
    store.delete("s")
    assert store.ended("s").ended_at == 3_500


def test_length_membership_and_iteration_are_those_of_the_sessions(store):
    store.create("a", FakeAgent())
    store.create("b", FakeAgent())
    assert len(store) == store.count() == 2
    assert [one.session_id for one in store] == ["a", "b"]
    assert "a" in store
    assert "c" not in store
    assert 7 not in store
    assert store


def test_an_empty_store_is_still_a_store(store):
    assert len(store) == 0
    assert store
    assert list(store) == store.list() == store.list_by_tenant("t") == []


def test_iteration_is_over_a_snapshot(store):
    for name in ("a", "b", "c"):
        store.create(name, FakeAgent())
    for session in store:
        store.delete(session.session_id)
        store.create(f"{session.session_id}2", FakeAgent())
    assert [one.session_id for one in store] == ["a2", "b2", "c2"]


def test_a_key_of_none_is_neither_indexed_nor_counted(store):
    store.create("s", FakeAgent(), api_key=None)
    assert_indexes_agree(store)
    assert store._core.index.api_keys == {}
    assert (store.list_by_api_key(None), store.count_by_api_key(None)) == ([], 0)
