"""Laws of nodes: leases, their states, and what becomes of those that die or leave."""

from cluster.engine_laws.law import law
from cluster.engine_laws.members import (
    TERMS,
    changes_after,
    entries,
    head,
    ids,
    member,
    members,
    pass_time,
    raises,
    record,
    recover,
)
from frontdesk.cluster.errors import LeaseLost, SchemaRefused
from frontdesk.cluster.records import SCHEMA, Buried, IndexEntry, NodeState, Selection
from frontdesk.records import Ended, ExitReason


async def state_of(engine, one):
    """Return a node's state, None where it is not listed."""
    found = [each for each in await engine.nodes() if each.node == one.node]
    return found[0].state if found else None


@law("Every node is listed by name, with what it said, its lease and how many sessions it has.")
async def nodes_are_listed_by_name(cluster):
    two, one = await members(cluster, "h/2", "h/1")
    await one.create("a", minted=True)
    first, second = await two.engine.nodes()
    assert (first.node, second.node) == (one.node, two.node)
    assert (first.state, first.sessions, first.draining) == (NodeState.ALIVE, 1, False)
    assert (second.sessions, 0 < second.lease_left_s <= TERMS.lease_s) == (0, True)


@law("An incarnation joins once.")
async def an_incarnation_joins_once(cluster):
    one = await member(cluster)
    for era in (None, one.era):
        async with raises(LeaseLost):
            await one.engine.join(one.node, terms=TERMS, era=era)
    assert len(await one.engine.nodes()) == 1


@law("A node joins a cluster of its own schema or the one before, and no other.")
async def schemas_are_a_step_apart(cluster):
    one = await member(cluster)
    for schema in (SCHEMA - 1, SCHEMA + 2):
        async with raises(SchemaRefused) as caught:
            await one.engine.join(record("h/2", schema=schema), terms=TERMS)
        assert caught[0].found == SCHEMA
        assert SCHEMA not in caught[0].known
    await member(cluster, "h/3", schema=SCHEMA + 1)
    # The cluster's schema has not moved by that.
    await member(cluster, "h/4")


@law("A renewal says whether the node's entries, by count and by tokens, are the engine's.")
async def a_renewal_compares_the_entries(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    await one.create("a")
    fence = await one.create("b")
    await one.reserve("c")
    await other.create("d")
    tokens = {name: int(one.tokens[name], 16) for name in "ab"}
    both = tokens["a"] ^ tokens["b"]
    renewed = await one.renew(count=2, tokens=both)
    assert (renewed.matches, renewed.era) == (True, one.era)
    assert renewed.revision == (await head(one.engine))[0]
    assert not (await one.renew(count=3, tokens=both)).matches
    assert not (await one.renew(count=2, tokens=tokens["a"])).matches
    await one.end("b", fence)
    assert not (await one.renew(count=2, tokens=both)).matches
    assert (await one.renew(count=1, tokens=tokens["a"])).matches


@law("A node that has not renewed for a lease is suspect, and never before; renewing undoes it.")
async def who_does_not_renew_is_suspect(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    await pass_time(cluster, TERMS.lease_s - 0.5, other)
    assert await state_of(other.engine, one) == NodeState.ALIVE
    await pass_time(cluster, 0.5, other)
    assert await state_of(other.engine, one) == NodeState.SUSPECT
    # Also after the hold, where nobody has begun to bury it.
    await pass_time(cluster, TERMS.hold_s + 1, other)
    assert await state_of(other.engine, one) == NodeState.SUSPECT
    await one.renew()
    assert await state_of(other.engine, one) == NodeState.ALIVE
    await one.create("a")


@law("A node whose loop or listener has not moved for a lease is stalled, until it has.")
async def who_does_not_move_is_stalled(cluster):
    one = await member(cluster)
    for age in ("loop_age_s", "listener_age_s"):
        await one.renew(**{age: TERMS.lease_s})
        assert await state_of(one.engine, one) == NodeState.STALLED
        await one.renew(**{age: TERMS.lease_s - 0.1})
        assert await state_of(one.engine, one) == NodeState.ALIVE


@law("A node that drains is shown so, and keeps what it has.")
async def who_drains_is_shown_so(cluster):
    one = await member(cluster)
    await recover(cluster, one)
    await one.renew(draining=True)
    (shown,) = await one.engine.nodes()
    assert (shown.draining, shown.state) == (True, NodeState.ALIVE)
    await one.create("a")


@law("No lease is renewed that there is not.")
async def no_lease_is_renewed_that_there_is_not(cluster):
    one, other = await members(cluster)
    await other.bury(one)
    async with raises(LeaseLost) as caught:
        await one.renew()
    assert caught[0].incarnation == one.incarnation


@law("Without proof, a node is buried only when its lease and its hold are over.")
async def nobody_is_buried_alive(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    await one.create("a")
    bury = other.engine.bury
    assert await bury(one.incarnation, proven=False) == Buried(0, done=False)
    await pass_time(cluster, TERMS.lease_s + TERMS.hold_s - 0.5, other)
    assert await bury(one.incarnation, proven=False) == Buried(0, done=False)
    assert await ids(other.engine) == ["a"]
    await one.renew()
    await pass_time(cluster, TERMS.lease_s + TERMS.hold_s, other)
    assert await bury(one.incarnation, proven=False) == Buried(1, done=True)
    assert await bury(one.incarnation, proven=False) == Buried(0, done=True)
    assert await ids(other.engine) == []


@law("A dead node's entries end with `lost`, a hundred at a time, the oldest first.")
async def the_dead_are_buried_in_batches(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    for n in range(230):
        await one.create(f"s{n}")
    place = await head(other.engine)
    results = [await other.engine.bury(one.incarnation, proven=True) for _ in range(4)]
    assert results == [
        Buried(100, done=False),
        Buried(100, done=False),
        Buried(30, done=True),
        Buried(0, done=True),
    ]
    told = await changes_after(other.engine, place)
    assert [each.change.session.session_id for each in told] == [f"s{n}" for n in range(230)]
    assert {(type(each.change), each.change.reason.kind) for each in told} == {(Ended, "lost")}
    assert await ids(other.engine) == []


@law("Once begun, a node is dead: suspect, not renewed, its claims void; its lease goes last.")
async def once_begun_a_node_is_dead(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    for n in range(101):
        await one.create(f"s{n}")
    await one.engine.claim(one.incarnation, "slot", digest="d", ttl_s=60.0)
    await other.engine.bury(one.incarnation, proven=True)
    # Listed until nothing of it is left: somebody else may have to go on with it.
    assert await state_of(other.engine, one) == NodeState.SUSPECT
    async with raises(LeaseLost):
        await one.renew()
    async with raises(LeaseLost):
        await one.create("new")
    async with raises(LeaseLost):
        await one.engine.restore(one.incarnation, [], complete=True)
    for era in (None, one.era):
        async with raises(LeaseLost):
            await one.engine.join(one.node, terms=TERMS, era=era)
    claim = await other.engine.claim(other.incarnation, "slot", digest="e", ttl_s=60.0)
    assert claim.incarnation == other.incarnation
    # What is left of it is still listed, until it ends; whoever goes on needs no proof.
    assert await ids(other.engine) == ["s100"]
    assert await other.engine.bury(one.incarnation, proven=False) == Buried(1, done=True)
    assert await state_of(other.engine, one) is None
    # Dead is final.
    async with raises(LeaseLost):
        await one.engine.join(one.node, terms=TERMS, era=one.era)


@law("Who takes a dead node's id leaves the rest of it where others find and bury it.")
async def what_a_taker_leaves_is_buried(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    await one.create("a")
    await one.create("b")
    await pass_time(cluster, TERMS.lease_s + TERMS.hold_s + 1, other)
    await other.create("a")
    (dead,) = [each for each in await other.engine.nodes() if each.node == one.node]
    assert (dead.state, dead.sessions) == (NodeState.SUSPECT, 1)
    assert dead.lease_left_s <= -TERMS.hold_s
    assert await other.engine.bury(one.incarnation, proven=False) == Buried(1, done=True)
    assert await ids(other.engine) == ["a"]


@law("Others are not touched by a burial.")
async def a_burial_touches_nobody_else(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    await other.create("b")
    await other.reserve("c")
    await one.create("a")
    await other.bury(one)
    assert await ids(other.engine, Selection(tenant_id="acme")) == ["b"]
    tokens = int(other.tokens["b"], 16)
    assert (await other.renew(count=1, tokens=tokens)).matches
    await other.create("c")


@law("A node that leaves is gone at once; what is left of it ends with `shutdown`.")
async def who_leaves_is_gone_at_once(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    for n in range(120):
        await one.create(f"s{n}")
    await one.reserve("r")
    place = await head(other.engine)
    await one.engine.leave(one.incarnation)
    told = await changes_after(other.engine, place)
    assert [each.change.reason.kind for each in told] == ["shutdown"] * 120
    assert await state_of(other.engine, one) is None
    async with raises(LeaseLost):
        await one.renew()
    await other.create("s0")
    await other.create("r")
    # Nobody is gone twice.
    await one.engine.leave(one.incarnation)


@law("Every end with its node says that the node is gone, from the first on; no other end does.")
async def ends_with_their_node_say_so(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    place = await head(other.engine)
    for name in ("own", "lost", "taken", "left", "last"):
        await one.create(name)
    fences = {each.entry.session_id: each.fence for each in await entries(other.engine)}
    await one.end("own", fences["own"])
    # An agent that is lost is not its node.
    await one.end("lost", fences["lost"], reason=ExitReason.of("lost"))
    assert [each.node_gone for each in await changes_after(other.engine, place)] == [False] * 7
    place = await head(other.engine)
    await pass_time(cluster, TERMS.lease_s + TERMS.hold_s + 1, other)
    await other.create("taken")
    await other.bury(one)
    await other.engine.leave(other.incarnation)
    told = await changes_after(other.engine, place)
    assert [
        (type(each.change).__name__, each.change.session.session_id, each.node_gone)
        for each in told
    ] == [
        ("Ended", "taken", True),
        ("Created", "taken", False),
        ("Ended", "left", True),
        ("Ended", "last", True),
        ("Ended", "taken", True),
    ]


@law("A node that a newer one of its id supersedes is not gone.")
async def who_is_superseded_is_not_gone(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    fence = await one.create("a")
    newer = IndexEntry(other.entry("a"), fence + 1, fence + 1)
    await one.create("b")  # the engine knows that fence already
    place = await head(other.engine)
    assert not await other.engine.restore(other.incarnation, [newer], complete=True)
    ended, _ = await changes_after(other.engine, place)
    assert (str(ended.change.reason), ended.node_gone) == ("superseded", False)
