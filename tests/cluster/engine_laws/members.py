"""Nodes as a law sees them: what one is called, and what it asks with what it is."""

import asyncio
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from cluster.engine_laws.subject import ClusterUnderTest
from frontdesk.cluster.engine import Engine
from frontdesk.cluster.records import (
    SCHEMA,
    EntryEnd,
    IndexLimits,
    NewEntry,
    NodeRecord,
    Renewal,
    Selection,
)
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.records import ExitReason

TERMS = LeaseTerms()
"""The law's nodes have the usual terms: a lease of 10 s, a hold of 32 s."""

NO_LIMITS = IndexLimits()
EVERYTHING = Selection()
NORMAL = ExitReason.of("normal")
CREATED_AT = 1_700_000_000_000
ENDED_AT = 1_700_000_001_000


def token():
    return secrets.token_hex(8)


def record(name, **attributes):
    values = {"incarnation": secrets.token_hex(16), "name": name, "address": f"unix:/{name}"}
    return NodeRecord(
        **values | {"schema": SCHEMA, "version": "1.0", "config_digest": ""} | attributes
    )


@dataclass
class Member:
    """A node that has joined, and the engine that it asks."""

    node: NodeRecord
    engine: Engine
    era: int
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def incarnation(self):
        return self.node.incarnation

    def entry(self, session_id, **attributes: Any) -> NewEntry:
        """Return a session of this node; one id has one token here, unless one is given."""
        values = {
            "session_id": session_id,
            "incarnation": self.incarnation,
            "token": self.tokens.setdefault(session_id, token()),
            "tenant_id": "acme",
            "api_key": "key",
            "created_at": CREATED_AT,
            "blueprint": "writer",
            "model": "m1",
            "pid": 1000,
            "minted": False,
        }
        return NewEntry(**values | attributes)

    async def create(self, session_id, *, limits=NO_LIMITS, **attributes):
        return await self.engine.create(self.entry(session_id, **attributes), limits=limits)

    async def reserve(self, session_id, *, limits=NO_LIMITS, ttl_s=60.0, **attributes):
        entry = self.entry(session_id, **attributes)
        await self.engine.reserve(entry, limits=limits, ttl_s=ttl_s)

    async def release(self, session_id, **attributes):
        entry = self.entry(session_id, **attributes)
        await self.engine.release(self.incarnation, session_id, token=entry.token)

    async def end(self, session_id, fence, *, reason=NORMAL, next_token=None):
        end = EntryEnd(session_id, fence, reason, ENDED_AT, next_token)
        await self.engine.end(self.incarnation, [end])

    async def renew(self, **attributes):
        """Renew the lease, on a connection of its own, in a thread, as a node does."""
        connection = self.engine.lease_connection()
        renewal = Renewal(**{"incarnation": self.incarnation, "count": 0, "tokens": 0} | attributes)
        try:
            return await asyncio.to_thread(connection.renew, renewal)
        finally:
            connection.close()

    async def bury(self, other, *, proven=True):
        """Bury another node to the end; return how many of its entries ended."""
        ended = 0
        while True:
            buried = await self.engine.bury(other.incarnation, proven=proven)
            ended += buried.ended
            if buried.done:
                return ended


async def member(cluster: ClusterUnderTest, name="h/1", *, terms=TERMS, era=None, **attributes):
    """Return a node that has just joined."""
    engine, node = await cluster.engine(), record(name, **attributes)
    joined = await engine.join(node, terms=terms, era=era)
    return Member(node, engine, joined.era)


async def members(cluster, *names):
    return [await member(cluster, name) for name in names or ("h/1", "h/2")]


async def pass_time(cluster, duration_s, *keeping):
    """Let engine time pass, in steps that it goes along with, while these keep their leases."""
    engine = await cluster.engine()
    step_s = TERMS.lease_s / 2
    while duration_s > 0:
        await cluster.jump(min(step_s, duration_s))
        duration_s -= step_s
        await engine.release("0" * 32, "nobody", token="0" * 16)
        for one in keeping:
            await one.renew()


async def recover(cluster, *those):
    """Let a fresh engine come to know that it has lost nothing."""
    await pass_time(cluster, TERMS.lease_s, *those)


async def entries(engine, selection=EVERYTHING, *, limit=1000):
    """Read all entries that are selected, page by page."""
    found, after = [], 0
    while True:
        page = await engine.list(selection, after=after, limit=limit)
        found += page.entries
        if not page.more:
            return found
        assert page.entries[-1].fence > after, "a page goes on where the one before ended"
        after = page.entries[-1].fence


async def ids(engine, selection=EVERYTHING, *, limit=1000):
    return [one.entry.session_id for one in await entries(engine, selection, limit=limit)]


async def head(engine):
    """Return where the log ends, and its era."""
    page = await engine.list(EVERYTHING, limit=1)
    return page.revision, page.era


async def changes_after(engine, place, *, limit=1000):
    """Read the log to its end from a place that `head` gave."""
    after, era = place
    changes = []
    while True:
        page = await engine.follow(after, era=era, limit=limit, wait_s=0.01)
        assert not page.gap
        assert page.changes or after == page.head, "what is in the log is not told"
        changes += page.changes
        after = page.changes[-1].change.revision if page.changes else after
        if after == page.head:
            return changes


@asynccontextmanager
async def raises(kind):
    """Expect an error; it is in the list that this gives."""
    caught = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
    assert caught, f"{kind.__name__} was not raised"
