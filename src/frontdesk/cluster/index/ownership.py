"""Who owns an id, and what may become of it: what several verbs of the index decide alike.

Functions over the contents, at an engine time that is passed in; `ClusterIndex` says in words what
they do.
"""

from __future__ import annotations

from typing import Any, cast

from frontdesk.cluster.errors import LeaseLost, OwnerSuspect, Recovering
from frontdesk.cluster.index.contents import Contents
from frontdesk.cluster.index.leases import Lease, Standing
from frontdesk.cluster.index.moment import Moment, seconds
from frontdesk.cluster.records import BURY_BATCH, Buried, IndexEntry, IndexLimits, NewEntry
from frontdesk.errors import SessionAlreadyExists
from frontdesk.records import ExitKind, ExitReason, Fence

__all__ = [
    "end_batch",
    "declare_gone",
    "is_entry",
    "is_reserved",
    "lease_of",
    "make_room",
    "outranks",
    "own_entry",
    "recovery_left_us",
    "standing_of",
    "take_over",
    "valid_lease",
]


# -- nodes -----------------------------------------------------------------------------------------


def recovery_left_us(held: Contents, now: int) -> int:
    """Return how long to wait before asking for an unknown id again; 0 when it is gone."""
    if held.epoch.recovered:
        return 0
    restored = all(lease.restored for lease in held.leases.values() if lease.gone is None)
    return held.epoch.recovering_us(now, all_restored=restored)


def lease_of(held: Contents, incarnation: str) -> Lease:
    """Return the lease of a node that is not gone, whether it ran out or not; else `LeaseLost`."""
    lease = held.leases.get(incarnation)
    if lease is None or lease.gone is not None:
        raise LeaseLost(incarnation)
    return lease


def valid_lease(held: Contents, incarnation: str, now: int) -> None:
    """Check that a node's lease holds; else `LeaseLost`."""
    if lease_of(held, incarnation).standing(now) is not Standing.LIVE:
        raise LeaseLost(incarnation)


def standing_of(held: Contents, incarnation: str, now: int) -> Standing:
    """Tell what the lease of an owner says; who has none is dead."""
    lease = held.leases.get(incarnation)
    return Standing.DEAD if lease is None else lease.standing(now)


def declare_gone(held: Contents, incarnation: str, kind: ExitKind) -> ExitReason:
    """Make a node gone for good, unless it is; return what its entries end with."""
    lease = held.leases.get(incarnation)
    if lease is None:
        return ExitReason.of(kind)
    lease.gone = lease.gone or kind
    return ExitReason.of(lease.gone)


def end_batch(held: Contents, at: Moment, incarnation: str, kind: ExitKind) -> Buried:
    """Go through numbers 1, 3 and 4 of `bury`; `kind` is why, if this is the first call."""
    if incarnation not in held.leases:
        return Buried(0, done=True)
    reason = declare_gone(held, incarnation, kind)
    batch = held.of_node(incarnation, BURY_BATCH)
    held.end_all(batch, reason, ended_at=at.wall_ms)
    reserved = held.reserved_by(incarnation)
    for session_id in reserved[: BURY_BATCH - len(batch)]:
        held.unreserve(session_id)
    done = not held.of_node(incarnation, 1) and not held.reserved_by(incarnation)
    if done:
        del held.leases[incarnation]
    return Buried(len(batch), done)


# -- ids -------------------------------------------------------------------------------------------


def is_entry(there: IndexEntry, incarnation: str, fence: Fence) -> bool:
    """Tell whether an entry is the one that a node means."""
    return there.fence == fence and there.entry.incarnation == incarnation


def own_entry(held: Contents, entry: NewEntry) -> IndexEntry | None:
    """Return what was entered by the same node under the same token."""
    there = held.entries.get(entry.session_id)
    return there if there is not None and _is_own(there.entry, entry) else None


def is_reserved(held: Contents, entry: NewEntry, now: int) -> bool:
    """Tell whether the id is held by the same node under the same token, and still is."""
    there = held.reservations.get(entry.session_id)
    return there is not None and _is_own(there.entry, entry) and not there.ran_out(now)


def _is_own(there: NewEntry, entry: NewEntry) -> bool:
    return (there.incarnation, there.token) == (entry.incarnation, entry.token)


def outranks(there: IndexEntry, again: IndexEntry) -> bool:
    """Tell whether an entry stays against one of the same id that is told again."""
    if there.fence == again.fence:
        return there.entry.incarnation != again.entry.incarnation
    return there.fence > again.fence


def take_over(held: Contents, there: IndexEntry, again: NewEntry) -> None:
    """Replace what differs in an entry that is told again."""
    if (there.entry.blueprint, there.entry.model) != (again.blueprint, again.model):
        held.change(there, blueprint=again.blueprint, model=again.model)


def make_room(held: Contents, at: Moment, now: int, entry: NewEntry, limits: IndexLimits) -> None:
    """Go through numbers 4 to 7 of `create`."""
    there = held.entries.get(entry.session_id)
    reservation = held.reservations.get(entry.session_id)
    owner = None
    if there is not None:
        owner = there.entry.incarnation
    elif reservation is not None and not reservation.ran_out(now):
        owner = reservation.entry.incarnation
    standing = Standing.DEAD if owner is None else standing_of(held, owner, now)
    if standing is Standing.LIVE:
        holder = None if there is None else there.metadata
        raise SessionAlreadyExists(entry.session_id, holder=cast("Any", holder))
    if standing is Standing.SUSPECT and owner is not None:
        lease = held.leases[owner]
        left_us = lease.deadline_us + lease.grace_us - now
        raise OwnerSuspect(entry.session_id, retry_after_s=seconds(left_us))
    wait_us = 0 if entry.minted else recovery_left_us(held, now)
    if wait_us:
        raise Recovering(retry_after_s=seconds(wait_us))
    if owner is not None:
        reason = declare_gone(held, owner, ExitKind.LOST)
        if there is not None:
            held.end(there, reason, ended_at=at.wall_ms, node_gone=True)
    if reservation is not None:
        held.unreserve(entry.session_id)
    held.check(entry, limits)
