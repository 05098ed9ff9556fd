"""The log of the index, as one node reads it: for its near cache, its watches, its memory of ends.

One reader follows it. Whatever it was told is in its near cache and memory of ends before any watch
yields it, so that who sees a change finds what it says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from frontdesk.cluster.decisions import Fate, NodeAction, fate_of
from frontdesk.cluster.engine import Engine
from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.cluster.membership import Membership
from frontdesk.cluster.messages import LoggedRow, rows_of
from frontdesk.cluster.near_cache import NearCache
from frontdesk.cluster.node_records import EndedElsewhere
from frontdesk.cluster.own_sessions import OwnSessions
from frontdesk.cluster.records import IndexEntry, LogPage
from frontdesk.errors import SessionNotFound
from frontdesk.feed import Ring, Wakers
from frontdesk.records import Ended, ExitKind

__all__ = ["ClusterLog"]

READ_S = 2.0
"""How long whoever wants to have read all waits for it."""

ENDS = 10_000
"""So many ended ids are remembered at least, and twice that at most."""


GONE_NODES = 1024
"""So many nodes are remembered to be gone; by then all ends of the earliest were told."""


class ClusterLog:
    """Follow the log of an engine, and hand on what it says.

    Attributes:
        era (int): The era that it is read in.
        feed (Ring[LoggedRow]): The last changes, for watches; its head is what was read last.
        wakers (Wakers): Wakes who waits for the next change.
        over (bool): Nothing more comes: the node has left.
    """

    def __init__(
        self,
        engine: Engine,
        membership: Membership,
        own: OwnSessions,
        near: NearCache,
        *,
        feed_capacity: int,
    ) -> None:
        self._engine, self._membership, self._own, self._near = engine, membership, own, near
        self.era: int = 0
        self.feed: Ring[LoggedRow] = Ring(capacity=feed_capacity)
        self.wakers: Wakers = Wakers()
        self.over: bool = False
        self._young: dict[str, LoggedRow] = {}
        self._old: dict[str, LoggedRow] = {}
        self._gone: dict[str, LoggedRow] = {}

    def ended(self, session_id: str) -> EndedElsewhere:
        """Return how the last session of an id ended; `SessionNotFound` if it is not remembered."""
        entry = self._near.get(session_id)
        if entry is not None and (gone := self._node_end_of(entry)) is not None:
            ended = cast("Ended", gone.change)
            return EndedElsewhere(replace(ended, session=entry.metadata), gone.incarnation)
        found = self._young.get(session_id) or self._old.get(session_id)
        if found is None:
            raise SessionNotFound(session_id)
        return EndedElsewhere(cast("Ended", found.change), found.incarnation)

    def is_gone(self, entry: IndexEntry) -> bool:
        """Tell whether an entry is of a node that is gone; its own end may have yet to be told."""
        return self._node_end_of(entry) is not None

    def is_dead(self, incarnation: str) -> bool:
        """Tell whether the log has said that a node is dead."""
        gone = self._gone.get(incarnation)
        return gone is not None and cast("Ended", gone.change).reason.kind is ExitKind.LOST

    def _node_end_of(self, entry: IndexEntry) -> LoggedRow | None:
        """Return the first end that was told of an entry's node, if that is gone.

        What is later than that was entered in another era, in which the node came back.
        """
        gone = self._gone.get(entry.entry.incarnation)
        return gone if gone is not None and entry.version < gone.revision else None

    def restart(self, *, era: int, head: int) -> None:
        """Go on after a revision of an era, not knowing what was before: watches begin anew."""
        self._near.clear()
        self._gone.clear()
        self.era = era
        self.feed.restart(head)
        self.wakers.wake_all()

    def finish(self) -> None:
        """Say that nothing more comes; watches end when they have told what is left."""
        self.over = True
        self._near.connected = False
        self.wakers.wake_all()

    async def follow(self) -> None:
        """Read the log for as long as the node is a member. Whatever fails is tried again."""
        membership = self._membership
        while True:
            era, after = self.era, self.feed.head
            try:
                page = await self._engine.follow(after, era=era, wait_s=membership.terms.renew_s)
            except EngineUnavailable:
                self._near.connected = False
                await membership.pause(membership.terms.renew_s)
                continue
            if (era, after) == (self.era, self.feed.head):  # else it was restarted meanwhile
                self.take(page)

    def take(self, page: LogPage) -> None:
        """Take in a page of the log. One that does not follow on what was read is a gap."""
        rows, head = rows_of(page.changes), self.feed.head
        following = range(head + 1, head + 1 + len(rows))
        contiguous = [row.revision for row in rows] == list(following)
        if page.gap or page.era != self.era or not contiguous or page.head < head:
            membership = self._membership
            membership.complete_s = membership.hooks.now_s() + membership.terms.lease_s
            self.restart(era=page.era, head=page.head)
            self._near.connected = True
            # In another era the node has to restore, or to join again: a renewal says which.
            membership.renew_soon()
            membership.do_soon(NodeAction.RECONCILE)
            return
        self._near.apply_rows(rows)
        self._remember_ends(rows)
        self.feed.extend(rows)
        for row in rows:
            if row.incarnation == self._membership.incarnation:
                self._judge(row)
            elif row.node_gone:
                self._take_end_with_node(row)
        self._near.connected = self.feed.head >= page.head
        if rows:
            self.wakers.wake_all()

    def _take_end_with_node(self, row: LoggedRow) -> None:
        """Remember that a node is gone, by the first of its ends; say which sessions are lost."""
        if row.incarnation not in self._gone:
            self._gone[row.incarnation] = row
            if len(self._gone) > GONE_NODES:
                del self._gone[next(iter(self._gone))]
        if self.is_dead(row.incarnation):
            self._membership.hooks.on_lost(cast("Ended", row.change), row.incarnation)

    def distrust(self, head: int) -> None:
        """Compare with what another connection heard a while ago: the log may be stuck."""
        if head > self.feed.head:
            self._near.connected = False

    async def read_until(self, revision: int) -> None:
        """Wait until the log was read so far, or begun anew. `EngineUnavailable` after a while."""
        era = self.era

        def is_read() -> bool:
            return self.feed.head >= revision or self.era != era or self.over

        try:
            async with asyncio.timeout(READ_S):
                while not is_read():
                    await self.wakers.wait_async(is_read)
        except TimeoutError:
            raise EngineUnavailable("its log cannot be read") from None

    def _remember_ends(self, rows: Sequence[LoggedRow]) -> None:
        for row in rows:
            if row.kind == "ended":
                self._young[row.session_id] = row
                if len(self._young) >= ENDS:
                    self._old, self._young = self._young, {}

    def _judge(self, row: LoggedRow) -> None:
        """Do what a change means for a session of this node."""
        own = self._own.living(row.session_id)
        if own is None:
            return
        fate = fate_of(row.logged, own.indexed, incarnation=self._membership.incarnation)
        if fate is Fate.LOST:
            self._membership.renew_soon()
        elif fate is Fate.SUPERSEDED:
            self._own.remove(row.session_id)
            self._membership.supersede(row.session_id, own.local_fence)
