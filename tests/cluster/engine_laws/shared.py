"""Laws of what nodes share besides sessions: rates, claims, totals."""

import asyncio

from cluster.engine_laws.law import law
from cluster.engine_laws.members import TERMS, member, members, pass_time
from frontdesk.cluster.records import Claim


@law("A rate is counted over all nodes, up to its limit, and what is refused is not counted.")
async def a_rate_is_counted_over_all_nodes(cluster):
    one, other = await members(cluster)
    taken = [
        await each.engine.take("key", limit=3, window_s=60.0) for each in (one, other, one, other)
    ]
    assert [(each.allowed, each.remaining) for each in taken] == [
        (True, 2),
        (True, 1),
        (True, 0),
        (False, 0),
    ]
    assert all(0 < each.reset_s <= 60 for each in taken)
    assert (await one.engine.take("other", limit=3, window_s=60.0)).allowed


@law("A window moves: each that was counted counts for the window's length, and no longer.")
async def a_window_moves(cluster):
    one = await member(cluster)
    take = one.engine.take
    await take("key", limit=2, window_s=10.0)
    await pass_time(cluster, 4)
    second = await take("key", limit=2, window_s=10.0)
    assert (second.allowed, 5.5 < second.reset_s <= 6) == (True, True)
    await pass_time(cluster, 5.5)
    assert not (await take("key", limit=2, window_s=10.0)).allowed
    await pass_time(cluster, 0.5)
    third = await take("key", limit=2, window_s=10.0)
    assert (third.allowed, third.remaining, 3.5 < third.reset_s <= 4) == (True, 0, True)


@law("Many who take at a time get as many as there are.")
async def a_crowd_takes_what_there_is(cluster):
    crowd = [await member(cluster, f"h/{n}") for n in range(4)]
    taken = await asyncio.gather(
        *(one.engine.take("key", limit=25, window_s=60.0) for one in crowd for _ in range(20))
    )
    assert sum(each.allowed for each in taken) == 25


@law("A claim is the first one's, whoever asks, as long as it lasts and its node is not dead.")
async def a_claim_is_the_first_ones(cluster):
    one, other = await members(cluster)

    async def claim(node, digest):
        return await node.engine.claim(node.incarnation, "slot", digest=digest, ttl_s=20.0)

    first = Claim(one.incarnation, "d1")
    assert await claim(one, "d1") == first
    assert await claim(other, "d2") == first
    assert await claim(one, "d3") == first
    await pass_time(cluster, 19, other)
    assert await claim(other, "d2") == first
    await pass_time(cluster, 1, other)
    assert await claim(other, "d2") == Claim(other.incarnation, "d2")
    await one.renew()
    assert await claim(one, "d1") == Claim(other.incarnation, "d2")


@law("A dead node's claim is void.")
async def a_dead_nodes_claim_is_void(cluster):
    one, other = await members(cluster)
    long_s = 10 * (TERMS.lease_s + TERMS.hold_s)
    await one.engine.claim(one.incarnation, "slot", digest="d1", ttl_s=long_s)
    await pass_time(cluster, TERMS.lease_s + TERMS.hold_s - 1, other)
    claim = await other.engine.claim(other.incarnation, "slot", digest="d2", ttl_s=long_s)
    assert claim.incarnation == one.incarnation
    await pass_time(cluster, 1, other)
    claim = await other.engine.claim(other.incarnation, "slot", digest="d2", ttl_s=long_s)
    assert claim == Claim(other.incarnation, "d2")


@law("Of many who claim a slot at a time, all hear of one.")
async def a_crowd_agrees_on_a_claim(cluster):
    crowd = [await member(cluster, f"h/{n}") for n in range(8)]
    claims = await asyncio.gather(
        *(one.engine.claim(one.incarnation, "slot", digest="d", ttl_s=60.0) for one in crowd)
    )
    assert len(set(claims)) == 1


@law("Totals are what each published last of a topic, and stay when their node is dead.")
async def totals_are_what_was_published_last(cluster):
    one, other = await members(cluster)
    assert await one.engine.totals("usage") == {}
    await one.engine.publish("usage", "h/1", b"1")
    await one.engine.publish("usage", "h/1", b"\x00\xff2")
    await other.engine.publish("usage", "h/2", b"3")
    await other.engine.publish("other", "h/2", b"4")
    await other.bury(one)
    assert await other.engine.totals("usage") == {"h/1": b"\x00\xff2", "h/2": b"3"}
    await other.engine.publish("usage", "h/1", b"")
    assert await other.engine.totals("usage") == {"h/2": b"3"}
