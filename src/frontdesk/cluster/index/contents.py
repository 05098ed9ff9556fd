"""What the index holds: entries and reservations, their indexes and counters, and the log.

Every change goes through `enter`, `change` and `end`, which keep the indexes, the counters and the
log with it; a reservation is counted as an entry is, and in no list.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType

from frontdesk.cluster.index.epoch import Epoch
from frontdesk.cluster.index.fenced import FencedIds
from frontdesk.cluster.index.leases import Lease
from frontdesk.cluster.index.moment import Moment
from frontdesk.cluster.messages import LoggedRow
from frontdesk.cluster.records import (
    BURY_BATCH,
    LOG_ENTRIES,
    IndexEntry,
    IndexLimits,
    NewEntry,
    Selection,
)
from frontdesk.errors import SessionLimitExceeded
from frontdesk.feed import Ring
from frontdesk.records import ExitReason, Fence

__all__ = ["Contents", "Reservation"]

_Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reservation:
    """An id and a place under the limits, held for an agent that is being started.

    Attributes:
        entry (NewEntry): What it was asked for with.
        deadline_us (int | None): When it runs out, in engine time; None as long as its node lives.
    """

    entry: NewEntry
    deadline_us: int | None

    def ran_out(self, now: int) -> bool:
        """Tell whether it holds no longer."""
        return self.deadline_us is not None and self.deadline_us <= now


class Contents:
    """Hold what the nodes have told. An id has an entry or a reservation, or neither.

    Attributes:
        leases: By incarnation.
        entries: By session id.
        reservations: By session id.
        log: The last changes, as rows; its head is the epoch's revision.
    """

    def __init__(self, epoch: Epoch) -> None:
        self.epoch: Epoch = epoch
        self.leases: dict[str, Lease] = {}
        self.entries: dict[str, IndexEntry] = {}
        self.reservations: dict[str, Reservation] = {}
        self.log: Ring[LoggedRow] = Ring(capacity=LOG_ENTRIES, head=epoch.revision)
        self._of_tenant: dict[str, FencedIds] = {}
        self._of_key: dict[str, FencedIds] = {}
        self._of_node: dict[str, FencedIds] = {}
        self._used: dict[_Place, int] = {}
        self._reserved_by: dict[str, set[str]] = {}
        self._due: list[tuple[int, str]] = []

    # -- entries ---------------------------------------------------------------------------------

    def enter(self, entry: NewEntry, *, fence: Fence | None = None) -> IndexEntry:
        """Enter a session under the next revision, which is its fence unless it has one already."""
        revision = self.epoch.revision + 1
        entered = IndexEntry(entry, revision if fence is None else fence, revision)
        self.entries[entry.session_id] = entered
        for lists, name in self._lists_of(entry):
            ids = lists.get(name)
            if ids is None:
                ids = lists[name] = FencedIds()
            ids.add(entered.fence, entry.session_id)
        self._count(entry, 1)
        self._toggle_token(entry)
        self._log(LoggedRow.of("created", revision, entered))
        return entered

    def change(
        self,
        held: IndexEntry,
        *,
        blueprint: str | EllipsisType | None,
        model: str | EllipsisType | None,
    ) -> int:
        """Replace an entry's metadata, but for an Ellipsis; return the revision of that."""
        revision = self.epoch.revision + 1
        before = held.entry
        entry = replace(
            before,
            blueprint=before.blueprint if isinstance(blueprint, EllipsisType) else blueprint,
            model=before.model if isinstance(model, EllipsisType) else model,
        )
        self._count(before, -1)
        self._count(entry, 1)
        changed = IndexEntry(entry, held.fence, revision)
        self.entries[entry.session_id] = changed
        self._log(LoggedRow.of("updated", revision, changed))
        return revision

    def end(
        self, held: IndexEntry, reason: ExitReason, *, ended_at: int, node_gone: bool = False
    ) -> None:
        """End an entry that is here under the next revision: it is in no index any more."""
        entry = held.entry
        del self.entries[entry.session_id]
        for lists, name in self._lists_of(entry):
            if lists[name].remove(held.fence, entry.session_id):
                del lists[name]
        self._count(entry, -1)
        self._toggle_token(entry)
        revision = self.epoch.revision + 1
        self._log(LoggedRow.of("ended", revision, held, reason, ended_at, node_gone=node_gone))

    def end_all(self, held: Sequence[IndexEntry], reason: ExitReason, *, ended_at: int) -> None:
        """End entries of a node that is gone, oldest first, as `end` would each: for less."""
        alike: dict[tuple[str | None, ...], list[IndexEntry]] = {}
        for one in held:
            entry = one.entry
            del self.entries[entry.session_id]
            place = (entry.incarnation, entry.tenant_id, entry.api_key, entry.blueprint)
            alike.setdefault(place, []).append(one)
            self._toggle_token(entry)
        for group in alike.values():
            entry = group[0].entry
            items = [(one.fence, one.entry.session_id) for one in group]
            for lists, name in self._lists_of(entry):
                if lists[name].remove_run(items):
                    del lists[name]
            self._count(entry, -len(group))
        self.log.extend(LoggedRow.of_ends(self.epoch.revision, held, reason, ended_at))
        self.epoch.revision = self.log.head

    def ids(self, selection: Selection) -> FencedIds | None:
        """Return the ids of a tenant, a key or a node, None where there are none."""
        if selection.tenant_id is not None:
            return self._of_tenant.get(selection.tenant_id)
        if selection.api_key is not None:
            return self._of_key.get(selection.api_key)
        return self._of_node.get(selection.incarnation or "")

    def of_node(self, incarnation: str, limit: int) -> list[IndexEntry]:
        """Return a node's oldest entries."""
        ids = self.ids(Selection(incarnation=incarnation))
        return [] if ids is None else [self.entries[one] for _, one in ids.page(0, limit)]

    def count(self, selection: Selection) -> int:
        """Return how many entries there are; reservations do not count."""
        ids = self.ids(selection)
        if selection == Selection():
            return len(self.entries)
        return 0 if ids is None else len(ids)

    # -- reservations ----------------------------------------------------------------------------

    def reserve(self, entry: NewEntry, *, deadline_us: int | None) -> None:
        """Hold an id that has neither an entry nor a reservation."""
        self.reservations[entry.session_id] = Reservation(entry, deadline_us)
        self._reserved_by.setdefault(entry.incarnation, set()).add(entry.session_id)
        self._count(entry, 1)
        if deadline_us is not None:
            insort(self._due, (deadline_us, entry.session_id))

    def unreserve(self, session_id: str) -> None:
        """Give up the reservation that an id has."""
        reservation = self.reservations.pop(session_id)
        entry = reservation.entry
        held = self._reserved_by[entry.incarnation]
        held.discard(session_id)
        if not held:
            del self._reserved_by[entry.incarnation]
        self._count(entry, -1)
        if reservation.deadline_us is not None:
            del self._due[bisect_left(self._due, (reservation.deadline_us, session_id))]

    def unreserve_due(self, now: int) -> None:
        """Give up what has run out, a hundred at most: the earliest, then by the id."""
        for deadline_us, session_id in self._due[:BURY_BATCH]:
            if deadline_us > now:
                return
            self.unreserve(session_id)

    def reserved_by(self, incarnation: str) -> list[str]:
        """Return the ids that a node holds reserved, by the id."""
        return sorted(self._reserved_by.get(incarnation, ()))

    # -- limits ----------------------------------------------------------------------------------

    def check(self, entry: NewEntry, limits: IndexLimits) -> None:
        """Check that there is a place for one more: its tenant's, its key's, its blueprint's.

        `SessionLimitExceeded` names the first limit that is reached, with these scopes.
        """
        bounds = {
            "per_tenant": limits.per_tenant,
            "per_api_key": limits.per_api_key,
            "per_blueprint": limits.per_blueprint,
        }
        for place in _counters_of(entry):
            limit = bounds[place[0]]
            if limit is not None and self._used.get(place, 0) >= limit:
                raise SessionLimitExceeded(scope=place[0], limit=limit)

    def _count(self, entry: NewEntry, one: int) -> None:
        for place in _counters_of(entry):
            used = self._used.get(place, 0) + one
            if used:
                self._used[place] = used
            else:
                del self._used[place]

    # -- the rest --------------------------------------------------------------------------------

    def begin_era(self, at: Moment) -> None:
        """Begin a new era with what is here: the log is empty, and every node has yet to tell."""
        self.epoch.renew_era(at)
        self.log.restart(self.epoch.revision)
        for lease in self.leases.values():
            lease.restored = False

    def _lists_of(self, entry: NewEntry) -> Iterable[tuple[dict[str, FencedIds], str]]:
        """Return the lists that an entry is in, by their names."""
        of_tenant, of_node = (self._of_tenant, entry.tenant_id), (self._of_node, entry.incarnation)
        if entry.api_key is None:
            return (of_tenant, of_node)
        return (of_tenant, of_node, (self._of_key, entry.api_key))

    def _toggle_token(self, entry: NewEntry) -> None:
        lease = self.leases.get(entry.incarnation)
        if lease is not None:
            lease.tokens ^= int(entry.token, 16)

    def _log(self, row: LoggedRow) -> None:
        self.epoch.revision = self.log.append(row)


def _counters_of(entry: NewEntry) -> list[_Place]:
    """Return what an entry is counted under, in the order in which limits are looked at."""
    places: list[_Place] = [("per_tenant", entry.tenant_id)]
    if entry.api_key is not None:
        places.append(("per_api_key", entry.api_key))
    if entry.blueprint is not None:
        places.append(("per_blueprint", entry.tenant_id, entry.blueprint))
    return places
