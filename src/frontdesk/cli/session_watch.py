"""`frontdesk sessions watch`: what changes, a line a change, until Ctrl-C or the session's end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from frontdesk.cli.known_rows import KnownRows
from frontdesk.cli.options import AsJson
from frontdesk.cli.output import emit, on_terminal, one_line, print_json, tab_separated
from frontdesk.cli.remote import KeyPath, SessionName, Url, asking
from frontdesk.cli.row_listing import (
    RowChoice,
    choosing_rows,
    follow,
)
from frontdesk.cli.turn_printer import as_text, event_document, event_name
from frontdesk.clock import SystemClock
from frontdesk.errors import InvalidArgument

if TYPE_CHECKING:
    from frontdesk.client import Client, Gap, StreamEvent


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
    """Follow the sessions that `ls` lists: first those that are there, then a line a change.

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
