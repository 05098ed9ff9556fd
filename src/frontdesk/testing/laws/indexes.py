"""Laws of the indexes and limits: what is counted and listed where, and how many there may be.

Every law compares the indexes with a filter over the whole list.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any

from frontdesk.errors import SessionAlreadyExists, SessionLimitExceeded
from frontdesk.records import Session
from frontdesk.store import Limits
from frontdesk.testing.agents import FakeAgent
from frontdesk.testing.law import law
from frontdesk.testing.laws.reading import ids, is_empty, only, passes, pending, refusal, watching
from frontdesk.testing.subject import StoreUnderTest

TENANTS = ("red", "green", "blue")
API_KEYS = (None, "k1", "k2")
RACERS = 32


async def assert_indexes_equal_a_filter(store: StoreUnderTest) -> None:
    """Compare every index and count with what a look at each entry says."""
    everything = await store.list()
    assert await store.count() == len(everything)
    for tenant_id in TENANTS:
        expected = [one for one in everything if one.tenant_id == tenant_id]
        assert await store.list_by_tenant(tenant_id) == expected
        assert await store.count_by_tenant(tenant_id) == len(expected)
    for api_key in API_KEYS[1:]:
        expected = [one for one in everything if one.api_key == api_key]
        assert await store.list_by_api_key(str(api_key)) == expected
        assert await store.count_by_api_key(str(api_key)) == len(expected)


@law("Indexes and counts equal a filter over all entries after every operation.", guarantee=6)
async def indexes_equal_a_filter_after_every_operation(store: StoreUnderTest) -> None:
    choice = random.Random(6)  # noqa: S311 - repeatable operations, no secret
    agents: dict[str, FakeAgent] = {}
    for number in range(200):
        name = f"s{choice.randrange(20)}"
        await _any_operation(store, agents, name, choice)
        await assert_indexes_equal_a_filter(store)
        assert set(ids(await store.list())) == set(agents), f"after operation {number} on {name}"


async def _any_operation(
    store: StoreUnderTest, agents: dict[str, FakeAgent], name: str, choice: random.Random
) -> None:
    if name not in agents:
        agents[name] = FakeAgent(name)
        attributes = {"tenant_id": choice.choice(TENANTS), "api_key": choice.choice(API_KEYS)}
        await store.create(name, agents[name], **attributes)
    elif choice.random() < 0.3:
        await store.update(name, model=f"m{choice.randrange(3)}")
    elif choice.random() < 0.5:
        await store.delete(name)
        del agents[name]
    else:
        async with watching(store) as (_, watch):
            agents.pop(name).end()
            await watch.next()


@law("An index forgets nobody but who went.", guarantee=6)
async def an_index_forgets_nobody_else(store: StoreUnderTest) -> None:
    for name in ("a", "b", "c"):
        await store.create(name, FakeAgent(), tenant_id="red", api_key="k1")
    await store.delete("b")
    await store.update("a", model="changed")
    assert ids(await store.list_by_tenant("red")) == ["a", "c"]
    assert ids(await store.list_by_api_key("k1")) == ["a", "c"]
    await assert_indexes_equal_a_filter(store)


@law("A name that takes another tenant and key leaves its former ones.", guarantee=6)
async def a_name_that_moves_leaves_its_former_tenant(store: StoreUnderTest) -> None:
    old = pending()
    await store.create("s", old, tenant_id="red", api_key="k1")
    old.set_result(None)
    await store.create("s", FakeAgent(), tenant_id="blue", api_key="k2")
    await assert_indexes_equal_a_filter(store)
    assert await store.count_by_tenant("red") == await store.count_by_api_key("k1") == 0
    await passes()
    await assert_indexes_equal_a_filter(store)
    assert ids(await store.list_by_tenant("blue")) == ["s"]


@law("Counting never says less than a listing shows.", guarantee=2)
async def a_count_is_never_less_than_the_list(store: StoreUnderTest) -> None:
    agents = [pending() for _ in range(10)]
    for number, agent in enumerate(agents):
        await store.create(f"s{number}", agent)
    for agent in agents:
        assert await store.count() >= len(await store.list())
        agent.set_result(None)
        assert await store.count() >= len(await store.list())
        await passes()
    assert await store.count() == 0


@law("Of many racers for one id one wins, and the others are told who.", guarantee=9)
async def one_racer_wins(store: StoreUnderTest) -> None:
    agents = [FakeAgent(str(number)) for number in range(RACERS)]
    results = await store.together([_create(store, "s", agent) for agent in agents])
    (winner,) = only(results, SessionAlreadyExists)
    refusals = [result for result in results if isinstance(result, SessionAlreadyExists)]
    assert {refused.holder and refused.holder.fence for refused in refusals} == {winner.fence}
    assert (await store.get("s")).agent is winner.agent
    assert [agent for agent in agents if agent.watched_by] == [winner.agent]


def _create(
    store: StoreUnderTest, session_id: str, agent: Any, **attributes: Any
) -> Callable[[], Coroutine[Any, Any, Session]]:
    return lambda: store.create(session_id, agent, **attributes)


@law(
    "A limit holds exactly, whoever races for the last place.", guarantee=9, limits=Limits(total=5)
)
async def the_limit_of_all_holds_in_a_race(store: StoreUnderTest) -> None:
    await _race_for_places(store, places=5, scope="total")


@law("A tenant's limit holds exactly in a race.", guarantee=9, limits=Limits(per_tenant=3))
async def the_limit_of_a_tenant_holds_in_a_race(store: StoreUnderTest) -> None:
    await _race_for_places(store, places=3, scope="per_tenant")


@law("A key's limit holds exactly in a race.", guarantee=9, limits=Limits(per_api_key=4))
async def the_limit_of_a_key_holds_in_a_race(store: StoreUnderTest) -> None:
    await _race_for_places(store, places=4, scope="per_api_key")


async def _race_for_places(store: StoreUnderTest, *, places: int, scope: str) -> None:
    agents = [FakeAgent(str(number)) for number in range(RACERS)]
    scoped = {"tenant_id": "t", "api_key": "k"}
    racing = [_create(store, agent.name, agent, **scoped) for agent in agents]
    results = await store.together(racing)
    assert len(only(results, SessionLimitExceeded)) == places == await store.count()
    for refused in results:
        if isinstance(refused, SessionLimitExceeded):
            assert (refused.scope, refused.limit) == (scope, places)
    assert sum(agent.watched_by for agent in agents) == places


@law("A place that becomes free can be taken.", guarantee=9, limits=Limits(per_tenant=1))
async def a_freed_place_can_be_taken(store: StoreUnderTest) -> None:
    for number in range(3):
        agent = FakeAgent()
        await store.create(f"s{number}", agent)
        await refusal(store.create("too-many", FakeAgent()), SessionLimitExceeded)
        await store.create(f"elsewhere{number}", FakeAgent(), tenant_id=f"t{number}")
        if number % 2:
            await store.delete(f"s{number}")
        else:
            async with watching(store) as (_, watch):
                agent.end()
                await watch.next()


@law("Sessions without a key are not limited by one.", guarantee=9, limits=Limits(per_api_key=1))
async def no_key_is_not_limited(store: StoreUnderTest) -> None:
    for number in range(3):
        await store.create(f"s{number}", FakeAgent())
    await store.create("with", FakeAgent(), api_key="k")
    error = await refusal(store.create("more", FakeAgent(), api_key="k"), SessionLimitExceeded)
    assert (error.scope, error.limit) == ("per_api_key", 1)


@law("A refused create leaves no entry, no index, no monitor and no change.", guarantee=5)
async def a_refused_create_leaves_nothing(store: StoreUnderTest) -> None:
    async with watching(store) as (snapshot, watch):
        holder = await store.create("s", FakeAgent())
        refused = FakeAgent()
        await refusal(store.create("s", refused, tenant_id="t", api_key="k"), SessionAlreadyExists)
        assert refused.watched_by == 0
        await store.delete("s", fence=holder.fence)
        assert await is_empty(store, tenant_id="t", api_key="k")
        revision = snapshot.revision
        for kind in ("created", "ended"):
            change = await watch.next()
            revision = store.next_revision(revision)
            assert (getattr(change, "kind", None), change.revision) == (kind, revision)


@law(
    "A create refused by a limit leaves no entry, no index, no monitor and no change.",
    guarantee=5,
    limits=Limits(per_tenant=1),
)
async def a_create_refused_by_a_limit_leaves_nothing(store: StoreUnderTest) -> None:
    holder = await store.create("s", FakeAgent(), tenant_id="t")
    refused = FakeAgent()
    async with watching(store) as (snapshot, watch):
        await refusal(
            store.create("new", refused, tenant_id="t", api_key="k"), SessionLimitExceeded
        )
        assert refused.watched_by == 0
        assert await store.count_by_api_key("k") == 0
        await store.delete("s", fence=holder.fence)
        assert (await watch.next()).revision == store.next_revision(snapshot.revision)
    assert await is_empty(store, tenant_id="t", api_key="k")


INDEXES = (
    indexes_equal_a_filter_after_every_operation,
    an_index_forgets_nobody_else,
    a_name_that_moves_leaves_its_former_tenant,
    a_count_is_never_less_than_the_list,
    one_racer_wins,
    the_limit_of_all_holds_in_a_race,
    the_limit_of_a_tenant_holds_in_a_race,
    the_limit_of_a_key_holds_in_a_race,
    a_freed_place_can_be_taken,
    no_key_is_not_limited,
    a_refused_create_leaves_nothing,
    a_create_refused_by_a_limit_leaves_nothing,
)
