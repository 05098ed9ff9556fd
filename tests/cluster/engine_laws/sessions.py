"""Laws of sessions: who has an id, how many there may be, how they change and end."""

import asyncio
from functools import partial

from cluster.engine_laws.law import law
from cluster.engine_laws.members import (
    ENDED_AT,
    EVERYTHING,
    TERMS,
    changes_after,
    entries,
    head,
    ids,
    member,
    members,
    pass_time,
    raises,
    recover,
    token,
)
from frontdesk.cluster.errors import LeaseLost, OwnerSuspect
from frontdesk.cluster.records import IndexLimits, LoggedChange, Selection
from frontdesk.errors import SessionAlreadyExists, SessionLimitExceeded
from frontdesk.records import Created, Ended, ExitReason, Metadata, Updated

RACERS = 16


@law("A session that one node creates is found by every other, with its metadata and its fence.")
async def what_one_creates_every_other_finds(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    fence = await one.create("acme/a", pid=7)
    found = await other.engine.read("acme/a")
    assert found.entry == one.entry("acme/a", pid=7)
    assert (found.fence, found.version) == (fence, fence)
    assert found.metadata == Metadata(
        "acme/a", 7, "key", "acme", one.entry("acme/a").created_at, "writer", "m1", fence
    )


@law("A fence is the revision at which its session was created, above every earlier one.")
async def fences_are_the_revisions_of_creations(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    start = await head(one.engine)
    fences = [await each.create(f"acme/{n}") for n, each in enumerate((one, other, one))]
    assert fences == [start[0] + 1, start[0] + 2, start[0] + 3]
    created = [one.change for one in await changes_after(other.engine, start)]
    assert [(type(each), each.revision, each.session.fence) for each in created] == [
        (Created, fence, fence) for fence in fences
    ]


@law("A create that is asked again with its token returns the same fence, and happened once.")
async def the_same_token_gets_the_same_fence(cluster):
    one = await member(cluster)
    await recover(cluster, one)
    fence = await one.create("acme/a")
    place = await head(one.engine)
    assert await one.create("acme/a") == fence
    await one.reserve("acme/a")
    assert await changes_after(one.engine, place) == []
    assert await ids(one.engine) == ["acme/a"]
    await one.end("acme/a", fence)
    assert await one.engine.read("acme/a") is None


@law("An id that a live node has is refused to everybody, with whoever holds it, untouched.")
async def a_live_owner_keeps_its_id(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    await one.create("acme/a")
    before, place = await one.engine.read("acme/a"), await head(one.engine)
    for asked in (other.create, other.reserve, one.create, one.reserve):
        async with raises(SessionAlreadyExists) as caught:
            await asked("acme/a", token=token(), model="m2")
        assert (caught[0].session_id, caught[0].holder) == ("acme/a", before.metadata)
    assert await one.engine.read("acme/a") == before
    assert await changes_after(one.engine, place) == []


@law("The id of a suspect node is neither given away nor forgotten, until its hold is over.")
async def a_suspect_owner_keeps_its_id(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    await one.create("acme/a")
    await pass_time(cluster, TERMS.lease_s, other)
    for asked in (other.create, other.reserve):
        async with raises(OwnerSuspect) as caught:
            await asked("acme/a")
        assert caught[0].session_id == "acme/a"
        assert 0 < caught[0].retry_after_s <= TERMS.hold_s
    assert (await other.engine.read("acme/a")).entry == one.entry("acme/a")
    assert await ids(other.engine) == ["acme/a"]


@law("A dead node's id is free: what it had under it ends with `lost`, completely, and first.")
async def a_dead_owner_is_displaced(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    old = await one.create("acme/a", tenant_id="acme", api_key="k1", blueprint="b1")
    await one.create("acme/b")
    place = await head(other.engine)
    await pass_time(cluster, TERMS.lease_s + TERMS.hold_s, other)
    new = await other.create("acme/a", tenant_id="acme", api_key="k2", blueprint="b2")
    ended, created = await changes_after(other.engine, place)
    assert (type(ended.change), ended.change.reason.kind) == (Ended, "lost")
    assert (ended.incarnation, ended.token) == (one.incarnation, one.tokens["acme/a"])
    assert (ended.change.session.fence, ended.change.revision) == (old, new - 1)
    assert (type(created.change), created.change.session.fence) == (Created, new)
    assert await ids(other.engine, Selection(api_key="k1")) == []
    assert await ids(other.engine, Selection(api_key="k2")) == ["acme/a"]
    assert await ids(other.engine, Selection(incarnation=one.incarnation)) == ["acme/b"]


@law("A node whose id was given away is dead for good: it renews nothing, and the rest ends.")
async def a_displaced_owner_is_dead(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    await one.create("acme/a")
    await one.create("acme/b")
    await pass_time(cluster, TERMS.lease_s + TERMS.hold_s, other)
    await other.create("acme/a")
    async with raises(LeaseLost):
        await one.renew()
    assert await other.bury(one, proven=False) == 1
    assert await ids(other.engine) == ["acme/a"]


@law("A node creates, reserves and claims only while its lease holds, and again once renewed.")
async def a_lease_is_needed_to_create(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    await pass_time(cluster, TERMS.lease_s, other)
    claim = partial(one.engine.claim, one.incarnation, "slot", digest="d", ttl_s=60.0)
    for asked in (partial(one.create, "a"), partial(one.reserve, "b"), claim):
        async with raises(LeaseLost) as caught:
            await asked()
        assert caught[0].incarnation == one.incarnation
    await one.renew()
    await one.create("a")
    assert await ids(other.engine) == ["a"]


@law("Of many nodes that create one id at a time, one has it.")
async def one_of_many_has_the_id(cluster):
    racers = [await member(cluster, f"h/{n}") for n in range(RACERS)]
    await recover(cluster, *racers)
    results = await asyncio.gather(*(one.create("a") for one in racers), return_exceptions=True)
    won = [one for one, result in zip(racers, results, strict=True) if isinstance(result, int)]
    assert len(won) == 1
    assert sum(isinstance(one, SessionAlreadyExists) for one in results) == RACERS - 1
    assert (await racers[0].engine.read("a")).entry.incarnation == won[0].incarnation


@law("Limits by tenant, by key and by blueprint hold over all nodes; the first one is named.")
async def limits_hold_over_all_nodes(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    await one.create("a", blueprint="b1")
    await other.create("b", blueprint="b1")
    await other.create("c", api_key="k2", blueprint="b2")
    for limits, scope, limit in (
        (IndexLimits(per_tenant=3, per_api_key=2, per_blueprint=2), "per_tenant", 3),
        (IndexLimits(per_tenant=4, per_api_key=2, per_blueprint=2), "per_api_key", 2),
        (IndexLimits(per_tenant=4, per_api_key=3, per_blueprint=2), "per_blueprint", 2),
    ):
        async with raises(SessionLimitExceeded) as caught:
            await one.create("d", blueprint="b1", limits=limits)
        assert (caught[0].scope, caught[0].limit) == (scope, limit)
    limits = IndexLimits(per_tenant=4, per_api_key=3, per_blueprint=3)
    await one.create("d", blueprint="b1", limits=limits)
    # Another tenant's, without a key or a blueprint, is counted under neither.
    limits = IndexLimits(per_tenant=1, per_api_key=0, per_blueprint=0)
    await one.create("e", tenant_id="other", api_key=None, blueprint=None, limits=limits)


@law("However many ask at a time, a limit is never exceeded, and is reached.")
async def limits_hold_under_a_crowd(cluster):
    crowd = [await member(cluster, f"h/{n}") for n in range(4)]
    await recover(cluster, *crowd)
    limits = IndexLimits(per_tenant=10)
    creates = [
        one.create(f"{n}/{k}", limits=limits) for n, one in enumerate(crowd) for k in range(8)
    ]
    results = await asyncio.gather(*creates, return_exceptions=True)
    assert sum(isinstance(one, int) for one in results) == 10
    assert sum(isinstance(one, SessionLimitExceeded) for one in results) == 22
    assert await crowd[0].engine.count(Selection(tenant_id="acme")) == 10


@law("What an entry was counted under is free once it has ended.")
async def an_end_frees_its_place(cluster):
    one = await member(cluster)
    await recover(cluster, one)
    limits = IndexLimits(per_tenant=1, per_api_key=1, per_blueprint=1)
    for name in "abc":
        fence = await one.create(name, limits=limits)
        await one.end(name, fence)
    await one.create("d", limits=limits)


@law("An update changes what it names, is told, and counts under the new blueprint.")
async def an_update_changes_what_it_names(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    fence = await one.create("a")
    place = await head(one.engine)
    revision = await one.engine.update(one.incarnation, "a", fence=fence, model="m2")
    assert revision == fence + 1
    second = await one.engine.update(one.incarnation, "a", fence=fence, blueprint=None)
    found = await other.engine.read("a")
    assert found.entry == one.entry("a", model="m2", blueprint=None)
    assert (found.fence, found.version) == (fence, second)
    told = await changes_after(other.engine, place)
    assert [(type(each.change), each.change.session.blueprint) for each in told] == [
        (Updated, "writer"),
        (Updated, None),
    ]
    await other.create("b", limits=IndexLimits(per_blueprint=1))
    async with raises(SessionLimitExceeded):
        await other.create("c", limits=IndexLimits(per_blueprint=1))


@law("An update or an end of another node, or with another fence, changes nothing.")
async def only_the_matching_entry_changes(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    fence = await one.create("a")
    before, place = await one.engine.read("a"), await head(one.engine)
    for node, given in ((other, fence), (one, fence - 1), (one, fence + 1)):
        assert await node.engine.update(node.incarnation, "a", fence=given, model="m2") is None
        await node.end("a", given, next_token=token())
    assert await one.engine.update(one.incarnation, "none", fence=fence, model="m2") is None
    assert await one.engine.read("a") == before
    assert await changes_after(one.engine, place) == []


@law("An end is told with its reason and its time, and takes the entry out of every list.")
async def an_end_is_told(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    fence = await one.create("a")
    place = await head(one.engine)
    reason = ExitReason.crashed(ValueError("no such model"))
    await one.end("a", fence, reason=reason)
    metadata = Metadata("a", 1000, "key", "acme", one.entry("a").created_at, "writer", "m1", fence)
    ended = Ended(fence + 1, metadata, reason, ENDED_AT)
    assert await changes_after(other.engine, place) == [
        LoggedChange(ended, one.incarnation, one.tokens["a"])
    ]
    assert await other.engine.read("a") is None
    for selection in (EVERYTHING, Selection(tenant_id="acme"), Selection(api_key="key")):
        assert await ids(other.engine, selection) == []
        assert await other.engine.count(selection) == 0


@law("An end with a next token keeps the id for its node, for as long as the node lives.")
async def the_next_token_keeps_the_id(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    fence, following = await one.create("a"), token()
    await one.end("a", fence, next_token=following)
    await pass_time(cluster, 100, one, other)
    assert await ids(one.engine) == []
    async with raises(SessionAlreadyExists) as caught:
        await other.create("a")
    assert caught[0].holder is None
    limits = IndexLimits(per_tenant=1)
    async with raises(SessionLimitExceeded):
        await other.create("b", limits=limits)
    assert await one.create("a", token=following, limits=limits) > fence
    second = await one.engine.read("a")
    await one.end("a", second.fence, next_token=token())
    await other.bury(one)
    await other.create("a", limits=limits)


@law("Lists go by fence, page by page without a gap, and count what they have.")
async def lists_go_by_fence(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    for n in range(25):
        node = (one, other)[n % 2]
        tenant, key = f"t{n % 3}", (None, "k1")[n % 2]
        await node.create(f"s{n}", tenant_id=tenant, api_key=key)
    everything = await entries(one.engine)
    assert [each.entry.session_id for each in everything] == [f"s{n}" for n in range(25)]
    for selection, chosen in (
        (EVERYTHING, lambda entry: True),
        (Selection(tenant_id="t1"), lambda entry: entry.tenant_id == "t1"),
        (Selection(api_key="k1"), lambda entry: entry.api_key == "k1"),
        (Selection(incarnation=one.incarnation), lambda e: e.incarnation == one.incarnation),
        (Selection(tenant_id="nobody"), lambda entry: False),
    ):
        expected = [each for each in everything if chosen(each.entry)]
        for limit in (1, 4, 1000):
            assert await entries(other.engine, selection, limit=limit) == expected
        assert await other.engine.count(selection) == len(expected)
    page = await one.engine.list(EVERYTHING, after=everything[4].fence, limit=5)
    assert (list(page.entries), page.more) == (everything[5:10], True)
    page = await one.engine.list(EVERYTHING, after=everything[19].fence, limit=5)
    assert (list(page.entries), page.more) == (everything[20:], False)
