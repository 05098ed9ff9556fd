"""Laws of time and of eras: clocks that jump, servers that restart, engines that forget."""

from cluster.engine_laws.law import law, loss_law
from cluster.engine_laws.members import (
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
from cluster.engine_laws.nodes import state_of
from frontdesk.cluster.errors import LeaseLost, Recovering
from frontdesk.cluster.records import IndexEntry, NodeState, Selection
from frontdesk.errors import SessionAlreadyExists
from frontdesk.records import Created, Ended, Updated


@law("A clock that jumps, forward or back, makes nobody suspect at once.")
async def a_clock_that_jumps_makes_nobody_suspect(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    for jump in (1e6, -1e6, 1e6, -2e6):
        await cluster.jump(jump)
        assert await state_of(one.engine, other) == NodeState.ALIVE
        await one.renew()
        assert await state_of(one.engine, other) == NodeState.ALIVE
        await other.renew()
    await one.create("a")
    await other.create("b")


@law("Engine time goes on as the clock does after a jump.")
async def time_goes_on_after_a_jump(cluster):
    one, other = await members(cluster)
    await cluster.jump(-1e6)
    await one.renew()
    await pass_time(cluster, TERMS.lease_s, one)
    assert await state_of(one.engine, other) == NodeState.SUSPECT


@loss_law("An engine that has lost everything begins above every fence that it ever gave.")
async def fences_never_repeat(cluster):
    one = await member(cluster)
    await recover(cluster, one)
    last = await one.create("a")
    for jump in (0, -1e5, 1e5):
        await cluster.wipe()
        await cluster.jump(jump)
        again = await one.engine.join(one.node, terms=TERMS, era=one.era)
        assert again.era > last
        assert again.recovering_s > 0
        one.era = again.era
        last = await one.create(f"b{jump}", minted=True)
        assert last > again.era


@loss_law("In an engine that has lost everything no lease holds; its nodes join it anew.")
async def nodes_join_anew_after_a_loss(cluster):
    one = await member(cluster)
    await recover(cluster, one)
    await cluster.wipe()
    async with raises(LeaseLost):
        await one.renew()
    await one.engine.join(one.node, terms=TERMS, era=one.era)
    await one.renew()
    async with raises(LeaseLost):
        await one.engine.join(one.node, terms=TERMS, era=(await head(one.engine))[1])


@law(
    "While an engine recovers, ids that it does not know may be there; minted are free.", loses=True
)
async def unknown_ids_may_be_there(cluster):
    one = await member(cluster)
    await recover(cluster, one)
    await one.create("a")
    await cluster.wipe()
    one.era = (await one.engine.join(one.node, terms=TERMS, era=one.era)).era
    for asked, name in ((one.engine.read, "a"), (one.create, "x"), (one.reserve, "x")):
        async with raises(Recovering) as caught:
            await asked(name)
        assert 0 < caught[0].retry_after_s <= 60
    assert (await one.engine.list(EVERYTHING)).partial
    await one.create("m", minted=True)
    assert (await one.engine.read("m")).entry.session_id == "m"


@loss_law("A join that comes twice, the second time late, does not take back what was told since.")
async def a_late_join_takes_nothing_back(cluster):
    one = await member(cluster)
    await recover(cluster, one)
    await cluster.wipe()
    before = one.era
    one.era = (await one.engine.join(one.node, terms=TERMS, era=before)).era
    await one.engine.restore(one.incarnation, [], complete=True)
    await one.engine.join(one.node, terms=TERMS, era=before)
    await pass_time(cluster, TERMS.lease_s, one)
    assert await one.engine.read("x") is None


@loss_law("Recovery ends once a lease has passed and every node has told all.")
async def recovery_ends_when_all_have_told(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    await cluster.wipe()
    for each in (one, other):
        each.era = (await each.engine.join(each.node, terms=TERMS, era=each.era)).era
        await each.engine.restore(each.incarnation, [], complete=each is one)
    await pass_time(cluster, TERMS.lease_s, one, other)
    async with raises(Recovering):
        await one.engine.read("x")
    await other.engine.restore(other.incarnation, [], complete=True)
    assert await one.engine.read("x") is None
    assert not (await one.engine.list(EVERYTHING)).partial
    await one.create("x")
    # Who joins later with nothing holds nobody up, nor who has nothing to tell of an older era.
    await member(cluster, "h/3")
    await one.create("y")


@law(
    "Recovery does not end before a lease has passed: somebody may not have joined yet.", loses=True
)
async def recovery_lasts_for_a_lease(cluster):
    one = await member(cluster)
    await recover(cluster, one)
    await cluster.wipe()
    await one.engine.join(one.node, terms=TERMS, era=one.era)
    await one.engine.restore(one.incarnation, [], complete=True)
    await pass_time(cluster, TERMS.lease_s - 0.5, one)
    async with raises(Recovering):
        await one.create("x")
    await pass_time(cluster, 0.5, one)
    await one.create("x")


@loss_law("Recovery lasts for a minute at most, whoever has not told.")
async def recovery_lasts_for_a_minute_at_most(cluster):
    one = await member(cluster)
    await recover(cluster, one)
    await cluster.wipe()
    await one.engine.join(one.node, terms=TERMS, era=one.era)
    await pass_time(cluster, 59.5, one)
    async with raises(Recovering):
        await one.create("x")
    await pass_time(cluster, 0.5, one)
    await one.create("x")


@loss_law("What is told again has the fence that it had, and is told to those who follow.")
async def what_is_restored_is_as_it_was(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    fence = await one.create("a")
    await one.create("b", tenant_id="other")
    before = await entries(one.engine)
    await cluster.wipe()
    for each in (one, other):
        each.era = (await each.engine.join(each.node, terms=TERMS, era=each.era)).era
    place = await head(other.engine)
    assert list(await one.engine.restore(one.incarnation, before, complete=True)) == []
    found = await entries(other.engine)
    assert [(each.entry, each.fence) for each in found] == [
        (each.entry, each.fence) for each in before
    ]
    told = await changes_after(other.engine, place)
    assert [(type(each.change), each.change.session) for each in told] == [
        (Created, each.metadata) for each in before
    ]
    assert [each.version for each in found] == [each.change.revision for each in told]
    assert await ids(other.engine, Selection(tenant_id="other")) == ["b"]
    tokens = int(one.tokens["a"], 16) ^ int(one.tokens["b"], 16)
    assert (await one.renew(count=2, tokens=tokens)).matches
    # Again is no change, unless something differs.
    assert list(await one.engine.restore(one.incarnation, before, complete=True)) == []
    assert len(await changes_after(other.engine, place)) == 2
    changed = IndexEntry(one.entry("a", model="m2"), fence, fence)
    await one.engine.restore(one.incarnation, [changed], complete=True)
    told = await changes_after(other.engine, place)
    assert (len(told), type(told[-1].change), told[-1].change.session.model) == (3, Updated, "m2")


@law(
    "Of two owners of an id, the one with the higher fence stays; the other is `superseded`.",
    loses=True,
)
async def the_higher_fence_stays(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    low = IndexEntry(one.entry("a"), await one.create("a"), 1)
    await one.end("a", low.fence)
    high = IndexEntry(other.entry("a"), await other.create("a"), 1)
    for first, second in ((low, high), (high, low)):
        await cluster.wipe()
        owners = {low.entry.incarnation: one, high.entry.incarnation: other}
        for each in (one, other):
            each.era = (await each.engine.join(each.node, terms=TERMS, era=each.era)).era
        place = await head(one.engine)
        lost = []
        for told in (first, second):
            owner = owners[told.entry.incarnation]
            lost += await owner.engine.restore(owner.incarnation, [told], complete=True)
        found = await one.engine.read("a")
        assert (found.entry, found.fence) == (high.entry, high.fence)
        changes = await changes_after(one.engine, place)
        if first is low:
            assert lost == []
            assert [type(each.change) for each in changes] == [Created, Ended, Created]
            assert changes[1].change.reason.kind == "superseded"
            assert (changes[1].incarnation, changes[1].change.session.fence) == (
                one.incarnation,
                low.fence,
            )
        else:
            assert lost == [low.fence]
            assert [type(each.change) for each in changes] == [Created]


@loss_law("What is told again takes the place of a reservation.")
async def what_is_restored_displaces_a_reservation(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    told = IndexEntry(one.entry("a"), await one.create("a"), 1)
    await cluster.wipe()
    for each in (one, other):
        each.era = (await each.engine.join(each.node, terms=TERMS, era=each.era)).era
    await other.reserve("a", minted=True)
    assert list(await one.engine.restore(one.incarnation, [told], complete=True)) == []
    async with raises(SessionAlreadyExists) as caught:
        await other.create("a", minted=True)
    assert caught[0].holder == (await one.engine.read("a")).metadata


@law(
    "A server that restarts with what it had begins an era; its nodes go on, and tell again.",
    loses=True,
)
async def a_restart_begins_an_era(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    fence = await one.create("a")
    old = await head(one.engine)
    await cluster.restart()
    renewed = await one.renew()
    assert renewed.era > old[0]
    page = await other.engine.follow(old[0], era=old[1], wait_s=0.01)
    assert (page.gap, page.era) == (True, renewed.era)
    assert (await other.engine.read("a")).fence == fence
    async with raises(Recovering):
        await other.engine.read("b")
    assert await one.create("m", minted=True) > renewed.era
    for each in (one, other):
        await each.engine.restore(each.incarnation, [], complete=True)
    await pass_time(cluster, TERMS.lease_s, one, other)
    assert await other.engine.read("b") is None


@law(
    "A node that was buried before an era began may come back in it, with what it has.", loses=True
)
async def the_buried_come_back_in_a_new_era(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    told = IndexEntry(one.entry("a"), await one.create("a"), 1)
    await other.bury(one)
    await cluster.restart()
    await other.renew()
    await one.engine.join(one.node, terms=TERMS, era=one.era)
    assert list(await one.engine.restore(one.incarnation, [told], complete=True)) == []
    assert await ids(other.engine) == ["a"]


@loss_law("A caller that knows more than the engine begins an era above it.")
async def who_knows_more_begins_an_era(cluster):
    one = await member(cluster)
    await recover(cluster, one)
    _, era = await head(one.engine)
    beyond = era + 10**9
    told = IndexEntry(one.entry("a", token=token()), beyond, beyond)
    await one.engine.restore(one.incarnation, [told], complete=True)
    revision, now = await head(one.engine)
    assert (now > beyond, revision) == (True, now + 1)
    assert (await one.engine.read("a")).fence == beyond
    fence = await one.create("m", minted=True)
    assert fence > now
