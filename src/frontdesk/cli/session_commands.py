"""`frontdesk sessions`: who is in the building, what needs somebody, and what to do about it.

Here are the lists and the single acts; what goes on for a while is in `session_watch.py`,
`session_prompt.py` and `session_stops.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from frontdesk.cli.exit_codes import CommandFailed, ExitCode
from frontdesk.cli.options import AsJson
from frontdesk.cli.output import inform, print_fields, print_json, print_rows, usd
from frontdesk.cli.remote import KeyPath, Name, SessionName, Url, asking
from frontdesk.cli.row_listing import (
    SORT_KEYS,
    RowChoice,
    choosing_rows,
    listing,
    row_columns,
    sorted_rows,
    waits,
)
from frontdesk.cli.session_prompt import prompt
from frontdesk.cli.session_stops import stop
from frontdesk.cli.session_watch import watch
from frontdesk.cli.summary_listing import print_all
from frontdesk.cli.times import age, moment
from frontdesk.cli.turn_printer import as_text
from frontdesk.errors import InvalidArgument

if TYPE_CHECKING:
    from frontdesk.client import (
        Client,
        ClientSession,
        SessionRow,
        SessionStats,
        SessionStatus,
        SessionSummary,
    )

app: typer.Typer = typer.Typer(help="The sessions of a gateway that runs.", no_args_is_help=True)

ApprovalId = Annotated[str, typer.Argument(help="As `sessions show` lists what waits.")]
Reason = Annotated[str | None, typer.Option(help="Why; the agent is given it.")]
OptionId = Annotated[
    str | None, typer.Option("--option", help="Which of the agent's own answers, if it has some.")
]


@app.command()
@choosing_rows
def ls(
    *,
    choice: RowChoice,
    sort: Annotated[
        str,
        typer.Option(help="created, activity, tokens, cost or waiting; falling with - in front."),
    ] = "created",
    limit: Annotated[int | None, typer.Option(min=1, help="So many at most.")] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="All of the tenant's, dormant ones too that are not in memory; with no other "
            "filter than --state and --blueprint.",
        ),
    ] = False,
    url: Url = None,
    key_file: KeyPath = None,
    as_json: AsJson = False,
) -> None:
    """List the sessions that live, and dormant ones in memory, and what each of them waits for.

    After a restart most are dormant and not in memory until somebody asks for them: --all lists
    those as well, as GET /v1/sessions does. `frontdesk conversations ls` lists everybody's where
    they are in SQLite's file.

    Columns: session, tenant, state, created, last activity, blueprint, model, turns, tokens, cost
    in USD, approvals and questions that wait, node, key id. With --all: session, tenant, state,
    whether it is live, created, last activity, blueprint, model, label, turns, tokens.
    """
    with asking(url, key_file) as client:
        if everything:
            print_all(client, choice, sort=sort, limit=limit, as_json=as_json)
            return
        found = listing(client, choice)
    rows = sorted_rows(found.rows, sort, keys=SORT_KEYS)[:limit]
    if as_json:
        print_json({"sessions": rows})
    else:
        columns = row_columns(found.now_ms, of_operator=found.of_operator)
        print_rows(rows, columns, none="no session is as that says")


@app.command()
def show(session: Name, url: Url = None, key_file: KeyPath = None, as_json: AsJson = False) -> None:
    """Show how a session is doing, whether it is live and stored, and what it waits for.

    Into a pipe, a line a fact: its name and its value. An operator sees no text of anybody's.
    """
    name = SessionName.parse(session)
    with asking(url, key_file) as client:
        if name.tenant_id is not None:
            row = client.operator.session(name.tenant_id, name.session_id)
            if as_json:
                print_json({"session": row})
            else:
                print_fields(fields_of_row(row))
            return
        found = client.session(name.session_id)
        summary, status, stats = found.get(), found.status(), found.stats()
    if as_json:
        print_json({"session": summary, "status": status, "stats": stats})
    else:
        print_fields(fields_of(summary, status, stats))


@app.command()
def approve(
    session: Name,
    approval_id: ApprovalId,
    reason: Reason = None,
    option: OptionId = None,
    url: Url = None,
    key_file: KeyPath = None,
    as_json: AsJson = False,
) -> None:
    """Let a tool run that waits for an approval."""
    with asking(url, key_file) as client:
        _answer(client, session, approval_id, "approved", reason, option)
    _print_answer(approval_id, "approved", as_json=as_json)


@app.command()
def reject(
    session: Name,
    approval_id: ApprovalId,
    reason: Reason = None,
    option: OptionId = None,
    url: Url = None,
    key_file: KeyPath = None,
    as_json: AsJson = False,
) -> None:
    """Refuse a tool that waits for an approval; the turn goes on without it."""
    with asking(url, key_file) as client:
        _answer(client, session, approval_id, "rejected", reason, option)
    _print_answer(approval_id, "rejected", as_json=as_json)


app.command()(watch)
app.command()(prompt)
app.command()(stop)


def _answer(
    client: Client,
    session: str,
    approval_id: str,
    status: str,
    reason: str | None,
    option_id: str | None,
) -> None:
    from frontdesk.client import BadRequestError

    found = tenants_session(client, session)
    answer = found.approve if status == "approved" else found.reject
    try:
        answer(approval_id, reason=reason, option_id=option_id)
    except BadRequestError as error:
        message = f"{error}: `frontdesk sessions show {session}` lists what waits"
        raise CommandFailed(error.code, message, exit_code=ExitCode.USAGE) from None


def tenants_session(client: Client, name: str) -> ClientSession:
    """Return a session that a tenant's key opens; `InvalidArgument` for an operator's name."""
    parsed = SessionName.parse(name)
    if parsed.tenant_id is not None:
        expected = "an id: what is said in a session is its tenant's, not an operator's"
        raise InvalidArgument("the session", expected=expected, got=repr(name))
    return client.session(parsed.session_id)


def _print_answer(approval_id: str, status: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"approvalId": approval_id, "status": status})
    else:
        inform(f"{approval_id} is {status}")


def fields_of(
    summary: SessionSummary, status: SessionStatus, stats: SessionStats
) -> Iterator[tuple[str, object]]:
    """Give what a tenant is shown of a session."""
    yield "session", summary.session_id
    yield "tenant", summary.tenant_id
    yield "state", status.state
    yield "live", str(summary.live).lower()
    yield "stored", None if summary.stored is None else str(summary.stored).lower()
    if summary.blocked is not None:
        yield "blocked", summary.blocked
    yield "blueprint", summary.blueprint
    yield "model", summary.model
    yield "created", moment(summary.created_at)
    yield "age", age(summary.uptime_ms)
    yield "turns", summary.turns
    yield "tool calls", summary.tool_calls
    yield "tokens", stats.total_tokens
    yield "cost usd", usd(stats.cost_usd)
    yield "restarts", summary.restarts
    yield "process", summary.pid
    yield "prompts queued", status.queues.prompts
    for tool in status.pending_tools:
        yield "tool", f"{tool.call_id} {tool.tool_name}{as_text(tool.args)}"
    for approval in status.pending_approvals:
        hint = f" ({approval.hint})" if approval.hint else ""
        yield (
            "approval",
            f"{approval.approval_id} {approval.tool_name}{as_text(approval.args)}{hint}",
        )
    for question in status.pending_questions:
        yield "question", f"{question.ref} {question.question}"


def fields_of_row(row: SessionRow) -> Iterator[tuple[str, object]]:
    """Give what an operator is shown of a session."""
    from frontdesk.schemas.row_schemas import HostedSessionDetail

    yield "session", row.session_id
    yield "tenant", row.tenant_id
    yield "state", row.state
    yield "live", str(row.state != "dormant").lower()
    yield "blueprint", row.blueprint
    yield "model", row.model
    yield "created", moment(row.created_at)
    yield "last activity", moment(row.last_activity_at)
    yield "turns", row.turns
    yield "tokens", row.tokens
    yield "cost usd", usd(row.cost_usd)
    yield "waits for", waits(row)
    yield "key", row.key_id
    yield "node", row.node
    if isinstance(row, HostedSessionDetail):
        yield "process", row.pid
        yield "restarts", row.restarts
        yield "prompts queued", row.queued
        yield from (("tool", name) for name in row.running_tools)
        yield from (("approval", name) for name in row.waiting_tools)
