"""What a node decides, as pure functions over frozen records: time and facts in, actions out.

Nothing here waits, sends or reads a clock. The node carries the actions out; a simulation runs the
same functions on virtual time. Times are seconds of one node's own clock, which goes on while the
machine sleeps (`CLOCK_BOOTTIME`).
"""

from __future__ import annotations

import zlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from frontdesk.cluster.records import IndexEntry, LoggedChange, NodeStatus, Renewed
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.records import Ended, ExitKind

__all__ = [
    "Differences",
    "Fate",
    "NodeAction",
    "NodeCondition",
    "RenewalOutcome",
    "Standing",
    "after_renewal",
    "burials_due",
    "condition",
    "differences",
    "fate_of",
    "isolation_due",
    "must_end_itself",
    "stall_s",
]

PATIENT_MISMATCHES = 4
"""After so many renewals in a row that do not match, a busy node is compared too."""


class NodeCondition(StrEnum):
    """How a node stands to the cluster, by its own clock."""

    JOINED = "joined"
    """Its lease holds."""

    CUT_OFF = "cut_off"
    """It has not heard of its lease for as long as that lasts: it creates nothing."""

    STALLED = "stalled"
    """Its event loop, or its private listener, has not moved for a lease."""

    REJOINING = "rejoining"
    """It was told that it is dead, and joins as another incarnation."""

    LEFT = "left"
    """It has not joined yet, or has left."""


class NodeAction(StrEnum):
    """What a node does next."""

    REJOIN = "rejoin"
    """Join as a new incarnation, and create its live sessions again."""

    RESTORE = "restore"
    """Tell the engine all its entries again: it has lost something."""

    RECONCILE = "reconcile"
    """Compare its entries with the engine's, and repair both."""

    STOP_CHOSEN = "stop_chosen"
    """Stop the agents under ids that callers chose: others may get these ids soon."""


class Fate(StrEnum):
    """What a change in the log means for a session of one's own."""

    NONE = "none"
    """It is not about one, or is one's own doing."""

    SUPERSEDED = "superseded"
    """Somebody else has the id: the agent here is stopped."""

    LOST = "lost"
    """This node is held to be dead: it joins anew."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a node knows of its own membership.

    Attributes:
        joined (bool): It has joined, and not left.
        rejoining (bool): It was told that it is dead, and has not joined anew yet.
        era (int): The era that it last heard of.
        lease_era (int): The era in which the engine last had its lease: one that has none in a
            later era has lost it, one that has none in this era has buried the node.
        lease_until_s (float): When its lease ends: a lease after it *sent* the last renewal.
        mismatches (int): How many renewals in a row did not match.
        stopped_chosen (bool): It has stopped what it must stop when it is cut off for long.
    """

    joined: bool = False
    rejoining: bool = False
    era: int = 0
    lease_era: int = 0
    lease_until_s: float = 0.0
    mismatches: int = 0
    stopped_chosen: bool = False


@dataclass(frozen=True, slots=True)
class RenewalOutcome:
    """What came of one renewal.

    Attributes:
        sent_s (float): Just before it was sent.
        at_s (float): When its outcome was known.
        renewed (Renewed | None): The answer, None where there was none.
        lost (bool): The answer was that there is no such lease.
    """

    sent_s: float
    at_s: float
    renewed: Renewed | None = None
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Differences:
    """What one's own entries and the engine's have not in common.

    Attributes:
        end (tuple[IndexEntry, ...]): The engine's that are not here: an untold end, or a late
            duplicate of a create that was given up.
        restore (tuple[IndexEntry, ...]): One's own that the engine lacks.
        update (tuple[IndexEntry, ...]): One's own whose model or blueprint differ there.
    """

    end: tuple[IndexEntry, ...]
    restore: tuple[IndexEntry, ...]
    update: tuple[IndexEntry, ...]


# -- of the lease --------------------------------------------------------------------------------


def condition(
    standing: Standing, *, now_s: float, stalled_for_s: float, terms: LeaseTerms
) -> NodeCondition:
    """Return how a node stands; `stalled_for_s` is of its loop or listener, whichever is longer.

    A node that does not move cannot answer, whatever its lease; one that is told dead is so until
    it has joined.
    """
    if not standing.joined:
        return NodeCondition.LEFT
    if stalled_for_s >= terms.lease_s:
        return NodeCondition.STALLED
    if standing.rejoining:
        return NodeCondition.REJOINING
    return NodeCondition.JOINED if now_s < standing.lease_until_s else NodeCondition.CUT_OFF


def stall_s(*, moved_s: float, ran_since_s: float, now_s: float) -> float:
    """Return since when something has not moved, while its watcher itself ran.

    `ran_since_s` is when the watching thread last came back from a pause that was not its own
    (SIGSTOP, a machine that slept): the loop had no chance to move before that either.
    """
    return max(0.0, now_s - max(moved_s, ran_since_s))


def must_end_itself(stalled_for_s: float, *, terms: LeaseTerms) -> bool:
    """Tell whether the loop has not moved for so long that the process is better ended."""
    return stalled_for_s >= terms.stalled_exit_s


def isolation_due(standing: Standing, *, now_s: float, terms: LeaseTerms) -> bool:
    """Tell whether agents under chosen ids have to stop now: cut off for the isolation grace.

    Others take such an id after the hold, which is longer by the kill grace, half a lease and a
    margin, all counted from a deadline that is no earlier than this one.
    """
    overdue = now_s >= standing.lease_until_s + terms.isolation_grace_s
    return standing.joined and overdue and not standing.stopped_chosen


def after_renewal(
    standing: Standing, outcome: RenewalOutcome, *, quiet: bool, terms: LeaseTerms
) -> tuple[Standing, tuple[NodeAction, ...]]:
    """Return how a node stands after a renewal, and what it does about it.

    `quiet` says that no create and no end was under way while it was: then count and tokens had to
    match. A busy node's may differ for that reason alone, but not for a whole lease.

    1. Told dead: it joins anew, unless it does so already.
    2. Told dead, or not heard: once the isolation grace is over, agents under chosen ids stop.
    3. Another era than before: it restores everything; what differs besides is seen next time.
    4. No match that counts: both are compared.
    """
    if not standing.joined:
        return standing, ()
    renewed = outcome.renewed
    if renewed is None:
        rejoin = (NodeAction.REJOIN,) if outcome.lost and not standing.rejoining else ()
        isolated = isolation_due(standing, now_s=outcome.at_s, terms=terms)
        after = replace(
            standing,
            rejoining=standing.rejoining or outcome.lost,
            stopped_chosen=standing.stopped_chosen or isolated,
        )
        return after, (*rejoin, NodeAction.STOP_CHOSEN) if isolated else rejoin
    mismatches = 0 if renewed.matches else standing.mismatches + 1
    after = replace(
        standing,
        lease_era=renewed.era,
        lease_until_s=max(standing.lease_until_s, outcome.sent_s + terms.lease_s),
        mismatches=mismatches,
        stopped_chosen=False,
    )
    if renewed.era != standing.era:
        return replace(after, era=renewed.era, mismatches=0), (NodeAction.RESTORE,)
    if mismatches and (quiet or mismatches >= PATIENT_MISMATCHES):
        return replace(after, mismatches=0), (NodeAction.RECONCILE,)
    return after, ()


# -- of other nodes ------------------------------------------------------------------------------


def burials_due(
    nodes: Iterable[NodeStatus], *, incarnation: str, terms: LeaseTerms
) -> tuple[str, ...]:
    """Return the nodes that this one buries now: their deadline and the hold are over.

    Each node waits up to a quarter of a lease longer, a time that is drawn from both names, so that
    not all begin at once. Two that do are harmless: the engine ends each entry once.
    """
    due = []
    for status in nodes:
        dead = status.node.incarnation
        # From 0 to 1, and another number for each pair of nodes.
        drawn = zlib.crc32(f"{incarnation} {dead}".encode()) / 2**32
        overdue_s = -status.lease_left_s - terms.hold_s
        if dead != incarnation and overdue_s >= terms.renew_s * drawn:
            due.append(dead)
    return tuple(due)


# -- of entries ----------------------------------------------------------------------------------


def differences(
    mine: Mapping[str, IndexEntry], theirs: Sequence[IndexEntry], *, under_way: Container[str]
) -> Differences:
    """Compare all entries of one node, its own and the engine's, but for the ids under way.

    An entry is the same one if its fence is. What is under way here (a create or an end that was
    not answered yet) is left alone: whoever waits for that answer sees to it.
    """
    there = {entry.entry.session_id: entry for entry in theirs}
    end = []
    for session_id, entry in there.items():
        own = mine.get(session_id)
        if session_id not in under_way and (own is None or own.fence != entry.fence):
            end.append(entry)
    restore, update = [], []
    for session_id, own in mine.items():
        known = there.get(session_id)
        if session_id in under_way:
            continue
        if known is None or known.fence != own.fence:
            restore.append(own)
        elif (known.entry.model, known.entry.blueprint) != (own.entry.model, own.entry.blueprint):
            update.append(own)
    return Differences(tuple(end), tuple(restore), tuple(update))


def fate_of(logged: LoggedChange, mine: IndexEntry | None, *, incarnation: str) -> Fate:
    """Return what a change in the log means for one's own entry of that id, if it is the same.

    An end that this node told itself is of an entry that it has no more, or of another reason.
    """
    change = logged.change
    ours = mine is not None and logged.incarnation == incarnation
    if not ours or mine is None or not isinstance(change, Ended):
        return Fate.NONE
    if change.session.fence != mine.fence:
        return Fate.NONE
    if change.reason.kind is ExitKind.SUPERSEDED:
        return Fate.SUPERSEDED
    return Fate.LOST if change.reason.kind is ExitKind.LOST else Fate.NONE
