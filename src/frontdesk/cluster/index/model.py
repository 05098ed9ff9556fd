"""`ClusterIndex`: the verbs of an engine over what it holds, each whole, at a moment passed in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from heapq import merge
from itertools import islice
from types import EllipsisType

from frontdesk.cluster import arguments
from frontdesk.cluster.errors import LeaseLost, Recovering, SchemaRefused
from frontdesk.cluster.index import ownership
from frontdesk.cluster.index.contents import Contents
from frontdesk.cluster.index.epoch import Epoch
from frontdesk.cluster.index.leases import Lease, Standing
from frontdesk.cluster.index.moment import Moment, micros, seconds
from frontdesk.cluster.index.windows import Claimed, Claims, Rates
from frontdesk.cluster.messages import PageRow
from frontdesk.cluster.records import (
    Buried,
    Claim,
    EntryEnd,
    EntryPage,
    IndexEntry,
    IndexLimits,
    Joined,
    LogPage,
    NewEntry,
    NodeRecord,
    NodeStatus,
    Renewal,
    Renewed,
    Selection,
    Taken,
)
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.feed import FellBehind
from frontdesk.records import ExitKind, ExitReason, Fence

__all__ = ["ClusterIndex"]

_SUPERSEDED = ExitReason.of(ExitKind.SUPERSEDED)


class ClusterIndex:
    """Hold the index over all nodes. Synchronous; the caller brings the time. For one thread.

    Args:
        recovers: Whether its beginning may be the loss of what was there. The supervisor's is
            not: no worker outlives a supervisor.
    """

    def __init__(self, *, recovers: bool = True) -> None:
        self._recovers = recovers
        self.wipe()

    def wipe(self) -> None:
        """Lose everything, `meta` too, as an engine without a disk does when it starts."""
        self._contents: Contents | None = None
        self._rates, self._claims = Rates(), Claims()
        self._totals: dict[str, dict[str, bytes]] = {}

    @property
    def revision(self) -> int:
        """The revision of the last change, 0 before the first era."""
        return 0 if self._contents is None else self._contents.epoch.revision

    # -- nodes -----------------------------------------------------------------------------------

    def join(
        self, at: Moment, node: NodeRecord, *, terms: LeaseTerms, era: int | None = None
    ) -> Joined:
        """Take in a node, with a fresh lease.

        `era` counts as known by the caller. Then, in this order:

        1. There is no lease at all: the cluster's schema is now the node's. Else `SchemaRefused`
           unless the cluster's schema is the node's or the one before it.
        2. It has a lease: `LeaseLost` if that is gone, if `era` is None, or if it is not below the
           present era. Else the lease is renewed, with the new record and terms, neither stalled
           nor draining, and it has yet to restore, unless it has in this era: the same question
           may come twice, the second time late.
        3. It has no lease: `LeaseLost` if `era` is the present one: it was buried since. Else it
           gets one; it has yet to restore, unless `era` is None: then it has nothing to tell.
        4. The engine's `lease_us` is the node's. Nothing is logged.
        """
        held, now = self._begin(at, known=era or 0)
        if not held.leases:
            held.epoch.schema = node.schema
        if held.epoch.schema not in (node.schema - 1, node.schema):
            known = tuple(one for one in (node.schema - 1, node.schema) if one > 0)
            raise SchemaRefused(held.epoch.schema, known=known)
        before = held.leases.get(node.incarnation)
        if before is not None and (before.gone is not None or era is None):
            raise LeaseLost(node.incarnation)
        if era is not None and era >= held.epoch.era:
            raise LeaseLost(node.incarnation)
        lease_us = held.epoch.lease_us = micros(terms.lease_s)
        held.leases[node.incarnation] = Lease(
            node,
            lease_us,
            micros(terms.hold_s),
            now + lease_us,
            restored=era is None if before is None else before.restored,
            tokens=0 if before is None else before.tokens,
        )
        recovering_s = seconds(ownership.recovery_left_us(held, now))
        return Joined(held.epoch.era, held.epoch.revision, recovering_s)

    def renew(self, at: Moment, renewal: Renewal) -> Renewed:
        """Renew a lease, for its whole length from now.

        `LeaseLost` where the node has none, or is gone. One that ran out, however long ago, is
        renewed, as long as nobody has begun to bury it. The node is stalled if one of the ages is
        a lease or more, else not; and draining as it says.

        `matches` is whether count and tokens are those of its entries here; reservations are none.
        """
        held, now = self._begin(at)
        lease = ownership.lease_of(held, renewal.incarnation)
        lease.deadline_us = now + lease.lease_us
        age_us = micros(max(renewal.loop_age_s, renewal.listener_age_s))
        lease.stalled = age_us >= lease.lease_us
        lease.draining = renewal.draining
        count = held.count(Selection(incarnation=renewal.incarnation))
        matches = (renewal.count, renewal.tokens) == (count, lease.tokens)
        return Renewed(held.epoch.era, held.epoch.revision, matches)

    def leave(self, at: Moment, incarnation: str) -> Buried:
        """Let a node go; a hundred of its entries end with `shutdown`. Called until it is done.

        As `bury` with proof, but for the reason, which is that of whoever began.
        """
        held, _ = self._begin(at)
        return ownership.end_batch(held, at, incarnation, ExitKind.SHUTDOWN)

    def bury(self, at: Moment, incarnation: str, *, proven: bool) -> Buried:
        """End a hundred of a dead node's entries, the oldest first. Called until it is done.

        1. No lease: `Buried(0, done=True)`.
        2. Neither proven, nor gone already, nor over deadline and hold: `Buried(0, done=False)`.
        3. It is gone from here on, for good. Up to a hundred entries end, with the reason of
           whoever began (`lost`; `shutdown` if it was `leave`), at the server's wall clock; then,
           of the same hundred, its reservations go, by the id, which nobody is told of. Each end
           says that its node is gone (`node_gone`), as does the one in number 6 of `create`.
        4. When nothing of it is left, its lease goes, in the same call: done. `ended` counts
           entries. Its claims are void since 3.
        """
        held, now = self._begin(at)
        lease = held.leases.get(incarnation)
        if lease is not None and not proven and lease.standing(now) is not Standing.DEAD:
            return Buried(0, done=False)
        return ownership.end_batch(held, at, incarnation, ExitKind.LOST)

    def nodes(self, at: Moment) -> Sequence[NodeStatus]:
        """Return all nodes that have a lease, by name, then by incarnation. Changes nothing.

        Leaving once it has begun to leave; else suspect once its lease ran out or somebody has
        begun to bury it, until nothing of it is left: somebody else may have to go on with that.
        Else stalled as its last renewal said; else alive.
        """
        held, now = self._peek(at)
        statuses = [
            lease.status(now, sessions=held.count(Selection(incarnation=incarnation)))
            for incarnation, lease in held.leases.items()
        ]
        return sorted(statuses, key=lambda one: (one.node.name, one.node.incarnation))

    # -- sessions --------------------------------------------------------------------------------

    def reserve(self, at: Moment, entry: NewEntry, *, limits: IndexLimits, ttl_s: float) -> None:
        """Hold an id, and a place under the limits, until `ttl_s` from now.

        1. The node has no lease, is gone, or its lease ran out: `LeaseLost`.
        2. Reservations that ran out are given up: the hundred earliest.
        3. The id has an entry of this node under this token: nothing is done, it was created.
        4. It has a reservation of this node under this token: it holds until `ttl_s` from now (for
           as long as the node lives, if that is how it was held); nothing else of it changes.
        5. Otherwise the id and the limits are looked at as `create` does, from its number 4 on.
        """
        arguments.check_entry(entry)
        arguments.check_duration("ttl_s", ttl_s)
        held, now = self._begin(at)
        ownership.valid_lease(held, entry.incarnation, now)
        held.unreserve_due(now)
        if ownership.own_entry(held, entry) is not None:
            return
        deadline_us: int | None = now + micros(ttl_s)
        if ownership.is_reserved(held, entry, now):
            if held.reservations[entry.session_id].deadline_us is None:
                deadline_us = None
            reserved = held.reservations[entry.session_id].entry
            held.unreserve(entry.session_id)
            held.reserve(reserved, deadline_us=deadline_us)
            return
        ownership.make_room(held, at, now, entry, limits)
        held.reserve(entry, deadline_us=deadline_us)

    def release(self, at: Moment, incarnation: str, session_id: str, *, token: str) -> None:
        """Give up a reservation of this node under this token; anything else is left alone.

        Whether the node has a lease does not matter, nor whether the reservation ran out.
        """
        held, _ = self._begin(at)
        reservation = held.reservations.get(session_id)
        if reservation is not None and (reservation.entry.incarnation, reservation.entry.token) == (
            incarnation,
            token,
        ):
            held.unreserve(session_id)

    def create(self, at: Moment, entry: NewEntry, *, limits: IndexLimits) -> Fence:
        """Enter a session; return its fence: the revision of the change `created` that is logged.

        1. The node has no lease, is gone, or its lease ran out: `LeaseLost`.
        2. Reservations that ran out are given up: the hundred earliest.
        3. The id has an entry of this node under this token: its fence, and nothing is done. It
           has a reservation of this node under this token, which has not run out: that becomes
           the entry, as `entry` now says it is; limits and recovery are not looked at.
        4. It has an entry or a reservation (one that has run out is none) of a node that

           - is alive, stalled too: `SessionAlreadyExists`, with the entry's metadata as the holder,
             None for a reservation. This is so under this node's own incarnation too.
           - is suspect: `OwnerSuspect`, to be asked again when its hold is over.
           - is dead (no lease, gone, or over deadline and hold): see 6.
        5. The index is recovering, and the id is not minted: `Recovering`, to be asked again as
           `Epoch.recovering_us` says.
        6. What a dead node had under the id goes, completely: an entry ends with `lost`, or with
           `shutdown` if the node has left; a reservation is given up. The node is gone from here
           on, for good, as if somebody had begun to bury it.
        7. `SessionLimitExceeded` where a limit is reached: of the tenant, then of the key, then of
           the blueprint in that tenant, entries and reservations counted together. 6 stays done.
        """
        arguments.check_entry(entry)
        held, now = self._begin(at)
        ownership.valid_lease(held, entry.incarnation, now)
        held.unreserve_due(now)
        own = ownership.own_entry(held, entry)
        if own is not None:
            return own.fence
        if ownership.is_reserved(held, entry, now):
            held.unreserve(entry.session_id)
        else:
            ownership.make_room(held, at, now, entry, limits)
        return held.enter(entry).fence

    def restore(
        self, at: Moment, incarnation: str, entries: Sequence[IndexEntry], *, complete: bool
    ) -> Sequence[Fence]:
        """Enter again what the engine may have lost. Limits and recovery are not looked at.

        The entries' fences and versions count as known by the caller, so that they are never above
        the present revision. `LeaseLost` where the node has no lease, or is gone; one that ran out
        is enough. Then, for each, in order:

        1. The id has an entry with a higher fence, or with the same one of another node: this one
           has lost; its fence is returned, and nothing is logged.
        2. It has an entry with the same fence of this node: it takes over blueprint and model,
           logged as `updated`, if one of them differs; else nothing is done.
        3. It has an entry with a lower fence: that ends with `superseded` at the server's clock.
        4. It has a reservation, whoever's: that is given up.
        5. It is entered with its own fence, logged as `created`; its version is that revision.

        `complete` at last: this node has restored.
        """
        arguments.check_restored(incarnation, entries)
        known = max((max(one.fence, one.version) for one in entries), default=0)
        held, _ = self._begin(at, known=known)
        lease = ownership.lease_of(held, incarnation)
        lost = []
        for one in entries:
            session_id = one.entry.session_id
            there = held.entries.get(session_id)
            if there is not None and ownership.outranks(there, one):
                lost.append(one.fence)
                continue
            if there is not None and there.fence == one.fence:
                ownership.take_over(held, there, one.entry)
                continue
            if there is not None:
                held.end(there, _SUPERSEDED, ended_at=at.wall_ms)
            if session_id in held.reservations:
                held.unreserve(session_id)
            held.enter(one.entry, fence=one.fence)
        lease.restored = lease.restored or complete
        return lost

    def update(
        self,
        at: Moment,
        incarnation: str,
        session_id: str,
        *,
        fence: Fence,
        blueprint: str | EllipsisType | None = ...,
        model: str | EllipsisType | None = ...,
    ) -> int | None:
        """Change the entry of this node with this fence; return the revision of `updated`.

        None, and nothing is done, where there is no such entry. It is a change even where nothing
        differs. It counts under its new blueprint from here on, whatever the limits. Whether the
        node has a lease does not matter.
        """
        held, _ = self._begin(at)
        there = held.entries.get(session_id)
        if there is None or not ownership.is_entry(there, incarnation, fence):
            return None
        return held.change(there, blueprint=blueprint, model=model)

    def end(self, at: Moment, incarnation: str, ends: Sequence[EntryEnd]) -> None:
        """End entries of this node with these fences, in order, each as its end says.

        What is not there is left alone. With `next_token`, the id is then reserved for the node
        under that token, as long as it lives, as the entry was (tenant, key, blueprint, ...); not
        where the node has no lease or is gone: whether it ran out does not matter.
        """
        arguments.check_ends(ends)
        held, _ = self._begin(at)
        lease = held.leases.get(incarnation)
        for one in ends:
            there = held.entries.get(one.session_id)
            if there is None or not ownership.is_entry(there, incarnation, one.fence):
                continue
            held.end(there, one.reason, ended_at=one.ended_at)
            if one.next_token is not None and lease is not None and lease.gone is None:
                held.reserve(replace(there.entry, token=one.next_token), deadline_us=None)

    def read(self, at: Moment, session_id: str) -> IndexEntry | None:
        """Return the entry of an id, also of a suspect or dead node's.

        Where there is none, a reservation is none: a new era begins if one is due; `Recovering`
        while it recovers, to be asked again as `Epoch.recovering_us` says; else None.
        """
        there = None if self._contents is None else self._contents.entries.get(session_id)
        if there is None:
            held, now = self._peek(at)
            wait_us = ownership.recovery_left_us(held, now)
            if wait_us:
                raise Recovering(retry_after_s=seconds(wait_us))
        return there

    def list(
        self, at: Moment, selection: Selection, *, after: Fence = 0, limit: int = 1000
    ) -> EntryPage:
        """Return up to `limit` entries with fences above `after`, by fence, then by the id.

        Suspect and dead nodes' are among them until they end. `more` is whether any is left.
        `partial` is whether the index is recovering.
        """
        arguments.check_selection(selection)
        arguments.check_page(limit)
        held, now = self._peek(at)
        found = list(islice(_above(held, selection, after), limit + 1))
        return EntryPage(
            held.epoch.revision,
            held.epoch.era,
            tuple(held.entries[session_id] for _, session_id in found[:limit]),
            more=len(found) > limit,
            partial=ownership.recovery_left_us(held, now) > 0,
        )

    def count(self, at: Moment, selection: Selection) -> int:
        """Return how many entries there are. Reservations do not count."""
        arguments.check_selection(selection)
        held, _ = self._peek(at)
        return held.count(selection)

    def follow(self, at: Moment, after: int, *, era: int, limit: int = 1000) -> LogPage:
        """Return up to `limit` changes after a revision, at once: whoever serves this waits.

        `after` and `era` count as known by the caller, so neither is ever above the present ones.
        A gap where the era is another one, or a change after `after` is not held any more; a
        cursor from before the era's first revision is one too.
        """
        return self.follow_rows(at, after, era=era, limit=limit).page

    def follow_rows(self, at: Moment, after: int, *, era: int, limit: int = 1000) -> PageRow:
        """Return the same as rows, which cost whoever sends them less."""
        arguments.check_page(limit)
        held, _ = self._peek(at, known=max(after, era))
        numbers = held.epoch.era, held.epoch.revision
        if era != held.epoch.era:
            return PageRow(*numbers, gap=True)
        try:
            return PageRow(*numbers, held.log.read(after, limit=limit))
        except FellBehind:
            return PageRow(*numbers, gap=True)

    # -- shared besides sessions -----------------------------------------------------------------

    def take(self, at: Moment, counted: str, *, limit: int, window_s: float) -> Taken:
        """Count one for `counted`, if fewer than `limit` were in the window up to now.

        The times of an earlier call count, whatever its limit and window, as far as they lie in
        this one's window: later than `window_s` ago. `remaining` is what is left of this limit
        after this call, 0 at least. `reset_s` is until the oldest that counts leaves the window.
        """
        arguments.check_rate(limit, window_s)
        _, now = self._begin(at)
        return self._rates.take(counted, now, limit=limit, window_us=micros(window_s))

    def claim(self, at: Moment, incarnation: str, slot: str, *, digest: str, ttl_s: float) -> Claim:
        """Claim the answer to a request, until `ttl_s` from now; return who has it.

        `LeaseLost` as `create`. A claim that has not run out, and whose node is not dead, stays as
        it is, and is returned, this node's own too, whatever its digest.
        """
        arguments.check_duration("ttl_s", ttl_s)
        held, now = self._begin(at)
        ownership.valid_lease(held, incarnation, now)
        there = self._claims.find(slot, now)
        if (
            there is not None
            and ownership.standing_of(held, there.incarnation, now) is not Standing.DEAD
        ):
            return there
        claim = Claim(incarnation, digest)
        self._claims.put(slot, Claimed(claim, now + micros(ttl_s)))
        return claim

    def publish(self, at: Moment, topic: str, name: str, totals: bytes) -> None:
        """Put a node's totals of a topic in place of its last ones. It needs no lease."""
        arguments.check_totals(totals)
        self._begin(at)
        named = self._totals.setdefault(topic, {})
        named[name] = totals
        if not totals:
            del named[name]

    def totals(self, at: Moment, topic: str) -> dict[str, bytes]:
        """Return what was published last of a topic under each name."""
        self._peek(at)
        return dict(self._totals.get(topic, {}))

    # -- what they have in common ----------------------------------------------------------------

    def _begin(self, at: Moment, *, known: int = 0) -> tuple[Contents, int]:
        """Begin a verb that writes: a new era where one is due, engine time, recovery."""
        held = self._in_era(at, known)
        held.epoch.move(at)
        now = held.epoch.time_us
        # Once recovered it stays so, whoever joins: this is where it is written down.
        held.epoch.recovered = not ownership.recovery_left_us(held, now)
        return held, now

    def _peek(self, at: Moment, *, known: int = 0) -> tuple[Contents, int]:
        """Begin a verb that reads: nothing is written, unless an era begins."""
        held = self._in_era(at, known)
        return held, held.epoch.time_at(at)

    def _in_era(self, at: Moment, known: int) -> Contents:
        if known > at.known:
            at = replace(at, known=known)
        if self._contents is None:
            self._contents = Contents(Epoch.first(at))
        elif self._contents.epoch.is_over(at):
            self._contents.begin_era(at)
        else:
            return self._contents
        self._contents.epoch.recovered = not self._recovers
        return self._contents


def _above(held: Contents, selection: Selection, after: Fence) -> Iterator[tuple[Fence, str]]:
    """Go through what is selected above a fence; of everything, the nodes' lists are merged."""
    if selection == Selection():
        of_nodes = (held.ids(Selection(incarnation=one)) for one in held.leases)
        return merge(*(ids.above(after) for ids in of_nodes if ids is not None))
    ids = held.ids(selection)
    return iter(()) if ids is None else ids.above(after)
