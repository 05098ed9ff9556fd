"""`frontdesk sessions stop`: end sessions that are named, or all that are as a filter says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from frontdesk.cli.exit_codes import CommandFailed, ExitCode
from frontdesk.cli.options import AsJson
from frontdesk.cli.output import (
    PIPE_ONLY,
    Column,
    inform,
    print_json,
    print_rows,
    somebody_is_there,
)
from frontdesk.cli.remote import KeyPath, SessionName, Url, asking
from frontdesk.cli.row_listing import (
    RowChoice,
    choosing_rows,
    listing,
    row_name,
)
from frontdesk.errors import InvalidArgument

if TYPE_CHECKING:
    from frontdesk.client import Client

MAX_NAMED = 10
"""How many are named where somebody is asked."""


@choosing_rows
def stop(
    *,
    choice: RowChoice,
    sessions: Annotated[
        list[str] | None, typer.Argument(help="Their ids; an operator's: tenant/id.")
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="The tenant's, as `ls` lists them; with --ops, all tenants'."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List them, and end none.")] = False,
    url: Url = None,
    key_file: KeyPath = None,
    as_json: AsJson = False,
) -> None:
    """End sessions by their ids, or all that are as a filter says.

    A tenant's are erased, with what was said in them; of what an operator stops, the tenant keeps
    that. Closing a session (POST …/close) ends its agent alone.
    By filter, of those that `ls` lists without its --all, it shows how many there are and asks;
    where nobody can be asked it needs --yes.
    Columns: session, tenant (an operator's), what came of it: stopped, or gone where it had ended
    already, or would_stop in a dry run.
    """
    by_filter = bool(choice.filters) or everything
    if by_filter is bool(sessions):
        got = "both" if by_filter else "neither"
        raise InvalidArgument("what to stop", expected="ids, or a filter (or --all)", got=got)
    ask = by_filter and not (yes or dry_run)
    if ask:
        require_somebody(otherwise="say --yes, or see which there are with --dry-run")
    with asking(url, key_file) as client:
        if by_filter:
            found = listing(client, choice)
            names = [row_name(row, of_operator=found.of_operator) for row in found.rows]
        else:
            names = [SessionName.parse(each) for each in sessions or ()]
        if ask and names:
            confirm(names)
        outcomes = [StoppedSession(each, "would_stop" if dry_run else "pending") for each in names]
        stop_all(client, outcomes, as_json=as_json)
    if not by_filter:
        check_found(outcomes)


def require_somebody(*, otherwise: str) -> None:
    """Refuse to go on where there is no terminal to ask at, and say what to do instead."""
    if not somebody_is_there():
        raise CommandFailed(
            "confirmation_needed",
            f"nobody can be asked here: {otherwise}",
            exit_code=ExitCode.USAGE,
        )


@dataclass(slots=True)
class StoppedSession:
    """One of them, and what came of it."""

    name: SessionName
    status: str


def stop_all(client: Client, outcomes: list[StoppedSession], *, as_json: bool) -> None:
    """Stop those that are pending; what came of them is printed also where one of them fails."""
    try:
        for each in outcomes:
            if each.status == "pending":
                each.status = stopped(client, each.name)
    finally:
        print_outcomes(outcomes, as_json=as_json)


def check_found(outcomes: list[StoppedSession]) -> None:
    """End the command with its code where something that was named is not there."""
    if gone := [str(each.name) for each in outcomes if each.status == "gone"]:
        message = f"no such session: {', '.join(gone)}: `frontdesk sessions ls` lists them"
        raise CommandFailed("not_found", message, exit_code=ExitCode.NOT_FOUND)


def stopped(client: Client, name: SessionName) -> str:
    """End a session, and return what came of it."""
    from frontdesk.client import NotFoundError

    try:
        if name.tenant_id is None:
            client.stop(name.session_id)
        else:
            client.operator.stop(name.tenant_id, name.session_id)
    except NotFoundError:
        return "gone"
    return "stopped"


def confirm(names: list[SessionName]) -> None:
    """Ask whether these are meant; ends the command where they are not."""
    for name in names[:MAX_NAMED]:
        inform(f"  {name}")
    if len(names) > MAX_NAMED:
        inform(f"  and {len(names) - MAX_NAMED} more")
    what, of_them = (f"{len(names)} sessions", "them") if len(names) > 1 else ("1 session", "it")
    of_operator = any(each.tenant_id is not None for each in names)
    erased = "" if of_operator else f", and erase what was said in {of_them}"
    if not typer.confirm(f"Stop {what}{erased}?", err=True):
        inform("nothing was stopped")
        raise typer.Exit(ExitCode.OK)


def print_outcomes(outcomes: list[StoppedSession], *, as_json: bool) -> None:
    """Print what came of them."""
    if as_json:
        stopped = [
            {
                "sessionId": each.name.session_id,
                "tenantId": each.name.tenant_id,
                "status": each.status,
            }
            for each in outcomes
        ]
        print_json({"sessions": stopped})
        return
    columns: tuple[Column[StoppedSession], ...] = (
        Column("session", lambda each: each.name.session_id, display=lambda each: str(each.name)),
        Column("tenant", lambda each: each.name.tenant_id, from_width=PIPE_ONLY),
        Column(
            "result", lambda each: each.status, display=lambda each: each.status.replace("_", " ")
        ),
    )
    print_rows(outcomes, columns, none="no session is as that says")
