"""What a feed has told so far: the rows that live, and what changed by each of its events.

Between `row_listing.py`, which begins to follow, and what shows it: `session_watch.py`, `top.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from frontdesk.cli.output import one_line
from frontdesk.cli.remote import SessionName
from frontdesk.cli.row_listing import too_many, waits
from frontdesk.cli.times import clock_time, moment

if TYPE_CHECKING:
    from frontdesk.client import FeedEvent, SessionRow

Change = Literal["there", "opened", "changed", "gone", "left"]


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A line of what is followed; `row` is None of one that was never seen."""

    at_ms: int
    change: Change
    tenant_id: str
    session_id: str
    reason: str | None
    row: SessionRow | None

    def document(self) -> dict[str, Any]:
        """Return it as a line of JSON has it."""
        return {
            "at": self.at_ms,
            "change": self.change,
            "tenantId": self.tenant_id,
            "sessionId": self.session_id,
            "reason": self.reason,
            "session": self.row,
        }

    def values(self) -> tuple[object, ...]:
        """Return it as a pipe has it."""
        start = (moment(self.at_ms), self.change, self.session_id, self.tenant_id)
        if (row := self.row) is None:
            return (*start, self.reason, *[None] * 7)
        return (
            *start, self.reason or row.state, row.blueprint, row.model, row.turns, row.tokens,
            row.approvals, row.questions, row.node,
        )  # fmt: skip

    def line(self, *, of_operator: bool) -> str:
        """Return it as somebody reads it."""
        name = SessionName(self.tenant_id if of_operator else None, self.session_id)
        what = self.reason or ("" if self.row is None else self.row.state.replace("_", " "))
        more = "" if self.row is None or self.reason else waits(self.row)
        told = f"{clock_time(self.at_ms)}  {self.change:7}  {name}  {what}  {more}"
        return one_line(told.rstrip())


class KnownRows:
    """What has been followed so far: it makes changes of what a feed says."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], SessionRow] = {}
        self._arriving: dict[tuple[str, str], SessionRow] | None = None
        self._first = True

    @property
    def rows(self) -> Iterable[SessionRow]:
        """Return what lives, as far as it was followed."""
        return self._rows.values()

    def changes(self, event: FeedEvent, *, now_ms: int) -> Iterator[ChangedRow]:
        """Give what is new in an event; of a later snapshot, what it has that was not known."""
        from frontdesk.client import RowChanges, SnapshotPage, TooManyRows

        if isinstance(event, TooManyRows):
            raise too_many(event)
        if isinstance(event, SnapshotPage):
            if event.first or self._arriving is None:
                self._arriving = {}
            self._arriving |= {(row.tenant_id, row.session_id): row for row in event.rows}
            if event.last:
                yield from self._replaced(now_ms)
        elif isinstance(event, RowChanges):
            for row in event.changed:
                yield from self._changed(row, now_ms)
            for gone in event.gone:
                row_then = self._rows.pop((gone.tenant_id, gone.session_id), None)
                yield ChangedRow(
                    gone.at, "gone", gone.tenant_id, gone.session_id, gone.reason, row_then
                )
            for left in event.left:
                row_then = self._rows.pop((left.tenant_id, left.session_id), None)
                yield ChangedRow(now_ms, "left", left.tenant_id, left.session_id, None, row_then)

    def _replaced(self, now_ms: int) -> Iterator[ChangedRow]:
        arrived, self._arriving = self._arriving or {}, None
        for key in [each for each in self._rows if each not in arrived]:
            # It ended while the feed was cut: how, nobody has said here.
            yield ChangedRow(now_ms, "gone", *key, "unknown", self._rows.pop(key))
        for row in arrived.values():
            if self._first:
                self._rows[row.tenant_id, row.session_id] = row
                yield ChangedRow(now_ms, "there", row.tenant_id, row.session_id, None, row)
            else:
                yield from self._changed(row, now_ms)
        self._first = False

    def _changed(self, row: SessionRow, now_ms: int) -> Iterator[ChangedRow]:
        known = self._rows.get((row.tenant_id, row.session_id))
        self._rows[row.tenant_id, row.session_id] = row
        if known != row:
            change: Change = "changed" if known is not None else "opened"
            yield ChangedRow(now_ms, change, row.tenant_id, row.session_id, None, row)
