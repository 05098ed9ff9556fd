"""Laws of the log: every change once, in order, to whoever follows from where it is."""

import asyncio
import random
from contextlib import suppress

from cluster.engine_laws.law import law
from cluster.engine_laws.members import (
    EVERYTHING,
    changes_after,
    entries,
    head,
    member,
    members,
    recover,
    token,
)
from frontdesk.errors import SessionAlreadyExists
from frontdesk.records import Created, Ended, Updated

PATIENCE_S = 60.0


@law("Every change is in the log once, with contiguous revisions, however it is paged.")
async def the_log_has_every_change_once(cluster):
    one = await member(cluster)
    await recover(cluster, one)
    place = await head(one.engine)
    for n in range(10):
        fence = await one.create(f"s{n}")
        await one.engine.update(one.incarnation, f"s{n}", fence=fence, model="m2")
        await one.end(f"s{n}", fence)
    told = await changes_after(one.engine, place)
    assert [each.change.revision for each in told] == list(range(place[0] + 1, place[0] + 31))
    assert [type(each.change) for each in told] == [Created, Updated, Ended] * 10
    for limit in (1, 7):
        assert await changes_after(one.engine, place, limit=limit) == told


@law("The log, replayed over the entries of an earlier moment, gives the entries of now.")
async def the_log_replayed_gives_the_entries(cluster):
    choice = random.Random(13)
    nodes = await members(cluster)
    await recover(cluster, *nodes)
    fences = {}
    for n in range(150):
        if n == 50:
            place = await head(nodes[0].engine)
            known = {e.entry.session_id: e.metadata for e in await entries(nodes[0].engine)}
        one, name = choice.choice(nodes), f"s{choice.randrange(15)}"
        await any_change(one, name, fences, choice)
    for each in await changes_after(nodes[1].engine, place):
        known[each.change.session.session_id] = each.change.session
        if isinstance(each.change, Ended):
            del known[each.change.session.session_id]
    now = {e.entry.session_id: e.metadata for e in await entries(nodes[0].engine)}
    assert known == now


async def any_change(one, name, fences, choice):
    fence = fences.get((one.incarnation, name), 0)
    if fence and choice.random() < 0.5:
        await one.end(name, fence, next_token=None)
    elif fence and choice.random() < 0.5:
        await one.engine.update(one.incarnation, name, fence=fence, model=f"m{choice.random()}")
    else:
        with suppress(SessionAlreadyExists):
            created = await one.create(name, token=token())
            fences[one.incarnation, name] = created


@law("A reader of another era, or of a place that is not held, is told of the gap.")
async def who_cannot_be_told_all_is_told_so(cluster):
    one = await member(cluster)
    await recover(cluster, one)
    await one.create("a")
    revision, era = await head(one.engine)
    for after, of in ((revision, era - 1), (era - 1, era), (0, era)):
        page = await one.engine.follow(after, era=of, wait_s=0.01)
        assert (page.gap, page.changes, page.era, page.head) == (True, (), era, revision)
    page = await one.engine.follow(era, era=era, wait_s=0.01)
    assert (page.gap, len(page.changes)) == (False, 1)


@law("A reader at the end of the log waits, and is told of the next change when it happens.")
async def a_reader_waits_for_the_next_change(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    revision, era = await head(one.engine)
    waiting = asyncio.ensure_future(other.engine.follow(revision, era=era, wait_s=PATIENCE_S))
    await asyncio.sleep(0)
    fence = await one.create("a")
    page = await waiting
    assert [each.change.revision for each in page.changes] == [fence]
    assert (page.era, page.head) == (era, fence)


@law("A reader who waited in vain gets a page without changes.")
async def a_wait_in_vain_ends(cluster):
    one = await member(cluster)
    revision, era = await head(one.engine)
    page = await one.engine.follow(revision, era=era, wait_s=0.05)
    assert (page.changes, page.gap, page.head, page.era) == ((), False, revision, era)


@law("A reader that gave up waiting has missed nothing, and can ask again.")
async def a_reader_that_gave_up_asks_again(cluster):
    one, other = await members(cluster)
    await recover(cluster, one, other)
    revision, era = await head(one.engine)
    for _ in range(3):
        waiting = asyncio.ensure_future(other.engine.follow(revision, era=era, wait_s=PATIENCE_S))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait((waiting,))
    fence = await one.create("a")
    page = await other.engine.follow(revision, era=era, wait_s=PATIENCE_S)
    assert [each.change.revision for each in page.changes] == [fence]


@law("Whoever waits for a change delays no other call.")
async def a_waiting_reader_delays_nobody(cluster):
    one = await member(cluster)
    await recover(cluster, one)
    revision, era = await head(one.engine)
    waiting = asyncio.ensure_future(one.engine.follow(revision, era=era, wait_s=PATIENCE_S))
    await asyncio.sleep(0)
    assert await one.engine.count(EVERYTHING) == 0
    await one.create("a")
    assert await one.engine.count(EVERYTHING) == 1
    assert len((await waiting).changes) == 1
