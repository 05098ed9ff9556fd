"""Guarantee 9: limits hold exactly under any race; the refusal is SessionLimitExceeded with the
limit and its scope. And the other race: of a thousand for one id, one wins.
"""

import concurrent.futures
import contextlib
import threading

import pytest

from frontdesk import (
    InvalidArgument,
    InvalidType,
    Limits,
    SessionAlreadyExists,
    SessionLimitExceeded,
)
from frontdesk.testing import FakeAgent
from support.agents import in_threads, process, told
from support.leftovers import assert_indexes_agree, nothing_left

RACERS = 1000


def test_of_a_thousand_racers_for_one_id_one_wins_and_the_others_are_told_the_holder(
    store, eager_switches
):
    agents = [FakeAgent(str(number)) for number in range(RACERS)]
    start = threading.Barrier(RACERS)
    won, refused = [], []

    def race(agent):
        start.wait(60)
        try:
            won.append(store.create("s", agent))
        except SessionAlreadyExists as error:
            refused.append(error)

    with small_stacks():
        threads = [threading.Thread(target=race, args=(agent,)) for agent in agents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    (winner,) = won
    assert len(refused) == RACERS - 1
    assert all(error.holder is winner for error in refused)
    assert store.get("s") is winner
    assert [agent for agent in agents if agent.watched_by] == [winner.agent]
    winner.agent.end()
    assert nothing_left(store)


@contextlib.contextmanager
def small_stacks():
    """Let a thousand threads fit."""
    size = threading.stack_size(256 * 1024)
    yield
    threading.stack_size(size)


def test_racers_with_real_processes_leave_one_monitored(store, eager_switches):
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(process()) for _ in range(8)]

        def race(child):
            with contextlib.suppress(SessionAlreadyExists):
                return store.create("s", child)

        results = in_threads(*(lambda child=child: race(child) for child in children))
        (winner,) = [result for result in results if result is not None]
        assert store.get("s") is winner
        assert len(store._core.listener.watcher) == 1


@pytest.mark.parametrize("scope", ["total", "per_tenant", "per_api_key"])
@pytest.mark.parametrize("limit", [1, 7])
def test_a_limit_holds_exactly_in_a_race(make_store, eager_switches, scope, limit):
    store = make_store(limits=Limits(**{scope: limit}))
    agents = [concurrent.futures.Future() for _ in range(40)]

    def race(number):
        try:
            return store.create(f"s{number}", agents[number], tenant_id="t", api_key="k")
        except SessionLimitExceeded as error:
            return error

    results = in_threads(*(lambda number=number: race(number) for number in range(40)))
    refused = [result for result in results if isinstance(result, SessionLimitExceeded)]
    assert len(results) - len(refused) == limit == store.count()
    assert {(error.scope, error.limit) for error in refused} == {(scope, limit)}
    assert_indexes_agree(store)


def test_a_limit_is_never_exceeded_while_sessions_come_and_go(make_store, eager_switches):
    store = make_store(limits=Limits(total=3, per_tenant=2))
    log = store.watch()
    entered = []

    def come_and_go(name):
        for number in range(300):
            agent = FakeAgent()
            try:
                store.create(f"{name}{number}", agent, tenant_id=f"t{number % 2}")
            except SessionLimitExceeded:
                continue
            entered.append(number)
            agent.end() if number % 3 else store.delete(f"{name}{number}")

    in_threads(*(lambda name=name: come_and_go(name) for name in "abcd"))
    store.close()
    living = {}
    for change in list(log)[1:]:
        if change.kind == "created":
            living[change.session.session_id] = change.session.tenant_id
        else:
            del living[change.session.session_id]
        assert len(living) <= 3
        assert list(living.values()).count("t0") <= 2
        assert list(living.values()).count("t1") <= 2
    assert entered


def test_every_freed_place_is_taken_in_the_end(make_store, eager_switches):
    """Nobody is refused while there is room: as many places, as many callers, all get in."""
    store = make_store(limits=Limits(total=4))

    def come_and_go(name):
        for number in range(200):
            store.create(f"{name}{number}", FakeAgent())
            store.delete(f"{name}{number}")

    in_threads(*(lambda name=name: come_and_go(name) for name in "abcd"))
    assert nothing_left(store)


def test_each_scope_is_counted_by_itself(make_store):
    store = make_store(limits=Limits(total=5, per_tenant=3, per_api_key=2))
    for number in range(2):
        store.create(f"a{number}", FakeAgent(), tenant_id="t", api_key="k")
    assert refusal(store, tenant_id="t", api_key="k") == ("per_api_key", 2)
    store.create("b", FakeAgent(), tenant_id="t")
    assert refusal(store, tenant_id="t", api_key="k") == ("per_tenant", 3)
    store.create("c", FakeAgent(), tenant_id="u", api_key="l")
    store.create("d", FakeAgent(), tenant_id="v")
    assert refusal(store, tenant_id="w") == ("total", 5)
    store.delete("d")
    store.create("e", FakeAgent(), tenant_id="w")


def refusal(store, **attributes):
    with pytest.raises(SessionLimitExceeded) as refused:
        store.create("refused", FakeAgent(), **attributes)
    return refused.value.scope, refused.value.limit


def test_no_key_is_not_limited(make_store):
    store = make_store(limits=Limits(per_api_key=0))
    for number in range(10):
        store.create(f"s{number}", FakeAgent())
    assert refusal(store, api_key="k") == ("per_api_key", 0)


def test_the_holder_of_an_id_is_named_before_any_limit(make_store):
    store = make_store(limits=Limits(total=1))
    holder = store.create("s", FakeAgent())
    with pytest.raises(SessionAlreadyExists) as refused:
        store.create("s", FakeAgent())
    assert refused.value.holder is holder


def test_an_update_is_not_limited(make_store):
    store = make_store(limits=Limits(total=1, per_tenant=1, per_api_key=1))
    store.create("s", FakeAgent(), api_key="k")
    assert store.update("s", model="m").model == "m"


def test_limits_are_checked_when_they_are_made():
    for scope in ("total", "per_tenant", "per_api_key"):
        with pytest.raises(InvalidArgument):
            Limits(**{scope: -1})
        for wrong in ("1", 1.5, True):
            with pytest.raises(InvalidType):
                Limits(**{scope: wrong})


def test_lowering_a_limit_ends_nobody_and_holds_from_then_on(make_store):
    store = make_store()
    for number in range(3):
        store.create(f"s{number}", FakeAgent())
    with store.watch() as watch:
        watch.next(timeout_s=0)
        store.limits = Limits(total=2)
        assert told(watch) == []
        assert refusal(store) == ("total", 2)
        store.delete("s0")
        store.delete("s1")
        store.create("new", FakeAgent())
    assert refusal(store) == ("total", 2)
