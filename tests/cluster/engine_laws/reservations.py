"""Laws of reservations: an id and a place under the limits, before there is an agent."""

from cluster.engine_laws.law import law
from cluster.engine_laws.members import (
    TERMS,
    changes_after,
    head,
    ids,
    member,
    members,
    pass_time,
    raises,
    recover,
    token,
)
from frontdesk.cluster.errors import OwnerSuspect
from frontdesk.cluster.records import IndexLimits, Selection
from frontdesk.errors import SessionAlreadyExists, SessionLimitExceeded

ONE = IndexLimits(per_tenant=1, per_api_key=1, per_blueprint=1)


@law("A reserved id is refused to others, is in no list and no count, and is told to nobody.")
async def a_reservation_holds_the_id_unlisted(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    place = await head(one.engine)
    await one.reserve("a")
    for asked in (other.create, other.reserve):
        async with raises(SessionAlreadyExists) as caught:
            await asked("a")
        assert caught[0].holder is None
    async with raises(SessionAlreadyExists):
        await one.create("a", token=token())
    assert await other.engine.read("a") is None
    assert await ids(other.engine) == []
    assert await other.engine.count(Selection(tenant_id="acme")) == 0
    assert await changes_after(other.engine, place) == []


@law("A reservation takes a place under the limits, and its create does not take another.")
async def a_reservation_is_counted_once(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    await one.reserve("a", limits=ONE)
    await one.reserve("a", limits=ONE)
    for asked in (other.create, other.reserve):
        async with raises(SessionLimitExceeded):
            await asked("b", limits=ONE)
    fence = await one.create("a", limits=ONE)
    async with raises(SessionLimitExceeded):
        await other.create("b", limits=ONE)
    await one.end("a", fence)
    await other.create("b", limits=ONE)


@law("A reservation that is given back frees the id and the place; only its own token does.")
async def a_reservation_is_given_back(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    await one.reserve("a", limits=ONE)
    await one.release("a", token=token())
    await other.release("a", token=one.tokens["a"])
    async with raises(SessionAlreadyExists):
        await other.create("a", limits=ONE)
    await one.release("a")
    await one.release("a")
    await other.create("a", limits=ONE)
    await one.release("a")
    assert await ids(one.engine) == ["a"]


@law("A reservation runs out, with its place; asked again with its token, it lasts on.")
async def a_reservation_runs_out(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    await one.reserve("a", limits=ONE, ttl_s=7.0)
    await pass_time(cluster, 5, one, other)
    await one.reserve("a", limits=ONE, ttl_s=7.0)
    await pass_time(cluster, 5, one, other)
    async with raises(SessionAlreadyExists):
        await other.reserve("a", limits=ONE)
    await pass_time(cluster, 2, one, other)
    await other.reserve("b", limits=ONE)
    await other.release("b")
    await other.reserve("a", limits=ONE)
    async with raises(SessionAlreadyExists):
        await one.create("a", limits=ONE)


@law("A reservation that ran out before its create holds the limits to it again.")
async def a_late_create_is_limited_again(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    await one.reserve("a", limits=ONE, ttl_s=1.0)
    await pass_time(cluster, 1, one, other)
    await other.create("b", limits=ONE)
    async with raises(SessionLimitExceeded):
        await one.create("a", limits=ONE)


@law("Many reservations that have run out free all their places.")
async def many_run_out_together(cluster):
    one = await member(cluster)
    await recover(cluster, one)
    for n in range(130):
        await one.reserve(f"r{n}", ttl_s=3.0)
    await pass_time(cluster, 3, one)
    # A hundred are given up at a time.
    await one.reserve("x", limits=IndexLimits(per_tenant=31))
    await one.reserve("y", limits=IndexLimits(per_tenant=2))


@law("A reservation goes with its node, and is held back as long as the node is suspect.")
async def a_reservation_goes_with_its_node(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    await one.reserve("a", ttl_s=600.0, limits=ONE)
    await pass_time(cluster, TERMS.lease_s, other)
    async with raises(OwnerSuspect):
        await other.create("a", limits=ONE)
    await pass_time(cluster, TERMS.hold_s, other)
    await other.create("a", limits=ONE)


@law("A node that is buried leaves no reservation behind.")
async def burying_takes_the_reservations(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    for n in range(150):
        await one.reserve(f"r{n}", ttl_s=600.0)
    await one.create("a")
    assert await other.bury(one) == 1
    await other.create("b", limits=ONE)
    await other.create("r149")


@law("A session is created as its create says, whatever its reservation said.")
async def the_create_has_the_last_word(cluster):
    one = await member(cluster)
    await recover(cluster, one)
    await one.reserve("a", blueprint="b1", model=None)
    await one.create("a", blueprint="b2", model="m2")
    assert (await one.engine.read("a")).entry == one.entry("a", blueprint="b2", model="m2")
    await one.create("b", blueprint="b1", limits=IndexLimits(per_blueprint=1))
    async with raises(SessionLimitExceeded):
        await one.create("c", blueprint="b2", limits=IndexLimits(per_blueprint=1))
