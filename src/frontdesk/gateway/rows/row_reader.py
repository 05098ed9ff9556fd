"""What one reader has been told, over all sources of rows, and what it is to be told next.

Pure but for the clock: sources in, records out. The stream (`row_stream.py`) sends what this says.
A reader's position names how far it has come in each source; a source that it has not begun with,
that has fallen off its ring, or that came or went meanwhile, means all rows anew.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from frontdesk.clock import Clock
from frontdesk.feed import FellBehind
from frontdesk.gateway.rows.changed_rows import CAPACITY, NewestRows, RowKey, RowSource, key_of
from frontdesk.gateway.rows.row_filter import RowQuery
from frontdesk.schemas.row_schemas import (
    GoneRow,
    LeftRow,
    RowChanges,
    SessionRow,
    TooManyRows,
)

MOST = 20_000
"""Rows that are listed; where more match, they are counted."""
SLICE = 500
"""So many rows are made before others have their turn."""
COUNTED_TENANTS = 200
SUSPECT = "s"
PLACE = re.compile(rf"([0-9a-f]{{1,32}})-([0-9]{{1,15}})({SUSPECT}?)")


@dataclass(frozen=True, slots=True)
class FeedPlace:
    """How far a reader has come in a source, and whether it was told that it is suspect."""

    position: int
    suspect: bool


@dataclass(slots=True)
class FoundRows:
    """All rows that match; where they are too many, how many there are of each kind."""

    rows: list[SessionRow] = field(default_factory=list)
    total: int = 0
    by_state: Counter[str] = field(default_factory=Counter)
    by_tenant: Counter[str] = field(default_factory=Counter)
    by_blueprint: Counter[str] = field(default_factory=Counter)

    def add(self, row: SessionRow) -> None:
        """Count a row, and list it while they are not too many."""
        self.total += 1
        if self.total <= MOST:
            self.rows.append(row)
        self.by_state[row.state] += 1
        self.by_tenant[row.tenant_id] += 1
        self.by_blueprint[row.blueprint] += 1

    @property
    def too_many(self) -> TooManyRows | None:
        """Return how many there are of each kind, where they are not listed."""
        if self.total <= MOST:
            return None
        return TooManyRows(
            total=self.total,
            by_state=dict(self.by_state),
            by_tenant=dict(self.by_tenant.most_common(COUNTED_TENANTS)),
            by_blueprint=dict(self.by_blueprint),
        )


class RowReader:
    """Follow the rows of a tenant, or of all, that match a query.

    `sources` gives those that there are now. Costs a cursor for each; with a filter, also the names
    of the rows that were told.
    """

    def __init__(
        self,
        sources: Callable[[], Sequence[RowSource]],
        query: RowQuery,
        *,
        tenant_id: str | None,
        clock: Clock,
    ) -> None:
        self._sources, self._query = sources, query
        self._tenant_id, self._clock = tenant_id, clock
        self._places: dict[str, FeedPlace] | None = None
        self._matched: dict[RowKey, str] = {}

    @property
    def begun(self) -> bool:
        """Whether it knows all rows, and changes are what is next."""
        return self._places is not None

    @property
    def behind(self) -> bool:
        """Whether some source has something that was not told."""
        places = self._places or {}
        there = {each.run: each for each in self._sources() if not each.over or each.run in places}
        return places.keys() != there.keys() or any(
            FeedPlace(each.ring.head, each.suspect) != places[run] for run, each in there.items()
        )

    @property
    def position(self) -> str:
        """Return how far it has come, as an event's id."""
        living = {each.run for each in self._sources() if not each.over}
        return "_".join(
            f"{run}-{place.position}{SUSPECT if place.suspect else ''}"
            for run, place in sorted((self._places or {}).items())
            if run in living
        )

    @property
    def too_many(self) -> bool:
        """Whether more rows match by now than are listed."""
        if self._query.narrow:
            return len(self._matched) > MOST
        return sum(each.count(self._tenant_id) for each in self._sources()) > MOST

    def resume(self, position: str | None) -> None:
        """Go on where a client says that it was told of all before, if that is still held."""
        # With a filter it is not known what the client was told: what matches no more, it has.
        if not position or self._query.narrow:
            return
        matches = [PLACE.fullmatch(each) for each in position.split("_")]
        places = {
            found[1]: FeedPlace(int(found[2]), bool(found[3]))
            for found in matches
            if found is not None
        }
        living = {each.run: each.ring for each in self._sources() if not each.over}
        if len(matches) == len(places) and places.keys() == living.keys():
            held = (
                ring.oldest - 1 <= places[run].position <= ring.head for run, ring in living.items()
            )
            self._places = places if all(held) else None

    def restart(self) -> None:
        """Tell everything anew."""
        self._places = None

    async def everything(self) -> FoundRows:
        """Return all rows. Others have their turn in between: what changes meanwhile comes next."""
        sources = [each for each in self._sources() if not each.over]
        places = {each.run: FeedPlace(each.ring.head, each.suspect) for each in sources}
        now_ms, found = self._clock.wall_ms(), FoundRows()
        number = 0
        for source in sources:
            for row in source.rows(self._tenant_id):
                number += 1
                if number % SLICE == 0:
                    await asyncio.sleep(0)
                if self._query.takes(row, now_ms=now_ms):
                    found.add(row)
        self._matched = {key_of(row): row.fence for row in found.rows} if self._query.narrow else {}
        self._places = places if found.too_many is None else None
        return found

    def changes(self) -> RowChanges | None:
        """Return what has changed since, each row once, as it is now; None where nothing has.

        `FellBehind` where a source does not hold it any more: then everything is told anew.
        """
        places = self._places or {}
        newest = NewestRows()
        sources = self._sources()
        if places.keys() - {each.run for each in sources}:
            raise FellBehind
        for source in sources:
            place = places.get(source.run)
            if source.over and place is None:
                continue
            # By itself: an id that has moved to and fro is in the changes of several.
            own = NewestRows()
            if place is not None:
                self._read(source, place, own)
            if place is None or place.suspect != source.suspect:
                # New here, or all of its rows are otherwise now.
                own.rows.update((key_of(row), row) for row in source.rows(self._tenant_id))
            newest.join(own)
            places[source.run] = FeedPlace(source.ring.head, source.suspect)
        self._places = places
        return self._filtered(newest.rows, newest.gone)

    def grown(self) -> RowChanges | None:
        """Return the rows that match by now because they have grown older."""
        if self._query.older_than is None:
            return None
        rows = (row for source in self._sources() for row in source.rows(self._tenant_id))
        return self._filtered(
            {key: row for row in rows for key in [key_of(row)] if key not in self._matched}, []
        )

    def _read(self, source: RowSource, place: FeedPlace, newest: NewestRows) -> None:
        if place.position > source.ring.head:
            raise FellBehind
        for changed in source.ring.read(place.position, limit=CAPACITY):
            newest.add(changed, self._tenant_id)

    def _filtered(self, newest: dict[RowKey, SessionRow], gone: list[GoneRow]) -> RowChanges | None:
        """Return what of it the query asks for, and take back what matches no more."""
        changed, left = list(newest.values()), list[LeftRow]()
        if self._query.narrow:
            gone = [
                each
                for each in gone
                if self._matched.get((each.tenant_id, each.session_id)) == each.fence
            ]
            for each in gone:
                del self._matched[each.tenant_id, each.session_id]
            changed, left = self._matching(changed)
        if not (changed or gone or left):
            return None
        return RowChanges(changed=tuple(changed), gone=tuple(gone), left=tuple(left))

    def _matching(self, rows: list[SessionRow]) -> tuple[list[SessionRow], list[LeftRow]]:
        now_ms = self._clock.wall_ms()
        matching: list[SessionRow] = []
        left: list[LeftRow] = []
        for row in rows:
            if self._query.takes(row, now_ms=now_ms):
                matching.append(row)
                self._matched[key_of(row)] = row.fence
            elif (fence := self._matched.pop(key_of(row), None)) is not None:
                left.append(
                    LeftRow(tenant_id=row.tenant_id, session_id=row.session_id, fence=fence)
                )
        return matching, left
