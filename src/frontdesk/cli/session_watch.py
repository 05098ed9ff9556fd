"""`frontdesk sessions watch`: what changes, a line a change, until Ctrl-C or the session's end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from frontdesk.cli.options import AsJson
from frontdesk.cli.output import emit, on_terminal, one_line, print_json, tab_separated
from frontdesk.cli.remote import KeyPath, SessionName, Url, asking
from frontdesk.cli.row_listing import (
    RowChoice,
    choosing_rows,
    follow,
    too_many,
    waits,
)
from frontdesk.cli.times import clock_time, moment
from frontdesk.cli.turn_printer import as_text, event_document, event_name
from frontdesk.clock import SystemClock
from frontdesk.errors import InvalidArgument

if TYPE_CHECKING:
    from frontdesk.client import Client, FeedEvent, Gap, SessionRow, StreamEvent

Change = Literal["there", "opened", "changed", "gone", "left"]


@choosing_rows
def watch(
    *,
    choice: RowChoice,
    session: Annotated[
        str | None, typer.Argument(help="One session's id: its events, until it ends.")
    ] = None,
    url: Url = None,
    key_file: KeyPath = None,
    as_json: AsJson = False,
) -> None:
    """Follow the sessions that live: first those that are there, then a line a change.

    Columns: time, change (there, opened, changed, gone, or left: it matches no more), session,
    tenant, state or the reason of its end, blueprint, model, turns, tokens, approvals, questions,
    node. With the id of a session it follows its events from the last prompt on; columns: index,
    event, turn, data. A connection that is cut is made again, with nothing lost.
    """
    with asking(url, key_file) as client:
        if session is None:
            print_changes(client, choice, as_json=as_json)
            return
        name = SessionName.parse(session)
        if name.tenant_id is not None or choice.filters or choice.ops:
            expected = "the id of a tenant's session, without a filter: its events have text"
            raise InvalidArgument("the session", expected=expected, got=repr(session))
        for event in client.session(name.session_id).events():
            print_event(event, as_json=as_json)


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


def print_changes(client: Client, choice: RowChoice, *, as_json: bool) -> None:
    """Print what changes, for as long as it is read."""
    clock, known = SystemClock(), KnownRows()
    followed = follow(client, choice)
    for event in followed.events:
        for change in known.changes(event, now_ms=clock.wall_ms()):
            if as_json:
                print_json(change.document(), stream=True)
            elif on_terminal():
                emit(change.line(of_operator=followed.of_operator) + "\n")
            else:
                emit(tab_separated(change.values()))


def print_event(event: StreamEvent | Gap, *, as_json: bool) -> None:
    """Print an event of a session."""
    import msgspec  # late: not every command needs it

    from frontdesk.client import StreamEvent

    told = event.event if isinstance(event, StreamEvent) else event
    index, turn = (
        (event.index, event.request_id) if isinstance(event, StreamEvent) else (None, None)
    )
    if as_json:
        print_json(event_document(told, index=index, requestId=turn), stream=True)
    elif on_terminal():
        emit(one_line(f"{index or '':>6}  {event_name(told)}  {as_text(told)[1:-1]}") + "\n")
    else:
        data = msgspec.json.encode(told).decode()
        emit(tab_separated([index, event_name(told), turn, data]))
