"""`frontdesk conversations`: what is stored in a state directory, without a gateway.

What only looks works beside one that runs; what changes something needs the directory's lock. It is
for SQLite's file: of conversations in PostgreSQL a gateway is asked, and pg_dump copies them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frontdesk.cli.exit_codes import CommandFailed, ExitCode
from frontdesk.cli.options import AsJson, ConfigFile, StateDirectory, loaded, other_state
from frontdesk.cli.output import Column, emit, inform, print_fields, print_json, print_rows
from frontdesk.cli.remote import SessionName
from frontdesk.cli.session_stops import require_somebody
from frontdesk.cli.times import moment

if TYPE_CHECKING:
    from frontdesk.agents.records import CreateSession, SessionContext
    from frontdesk.gateway.settings import Config
    from frontdesk.gateway.state_dir import StateDir
    from frontdesk.persistence.operations import AnyOperation
    from frontdesk.persistence.sealing import Sealing
    from frontdesk.persistence.sqlite_conversations import SqliteConversations
    from frontdesk.persistence.sqlite_snapshot import SqliteSnapshot
    from frontdesk.persistence.stored import StoredConversation

app: typer.Typer = typer.Typer(
    help="Conversations that are stored here in SQLite's file; of PostgreSQL's, ask a gateway.",
    no_args_is_help=True,
)

Session = Annotated[str, typer.Argument(help="tenant/id", metavar="TENANT/SESSION")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
MAX_IMPORT_EVENT_BYTES = 64 * 1024 * 1024
IN_GATEWAY = (
    "GET /v1/sessions?kept=true, …/{id}/export, POST /v1/sessions/import, DELETE /v1/sessions/{id},"
    " DELETE /ops/tenants/{tenant}/conversations"
)
"""What does over HTTP what these commands do."""


@app.command("ls")
def list_conversations(
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Those that have ended as well.")] = False,
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """List the conversations that are stored, oldest first.

    Columns: tenant, session, state (live, dormant, or ended; without a gateway that runs here none
    is live), blueprint, model, label, made, last used, turns that wait, bytes.
    """
    with _snapshot(config, state_dir) as snapshot:
        everything = map(snapshot.as_it_is, snapshot.stored.conversations(tenant))
        found = [each for each in everything if every or each.state != "ended"]
    if as_json:
        print_json({"conversations": list(map(conversation_fields, found))})
    else:
        print_rows(found, COLUMNS, none="no conversations are stored")


@app.command()
def show(
    session: Session,
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Show what is stored of one conversation, without what is said in it."""
    name = _named(session)
    with _snapshot(config, state_dir) as snapshot:
        fields = conversation_fields(snapshot.as_it_is(_found(snapshot.stored, name)))
    if as_json:
        print_json(fields)
    else:
        print_fields(fields.items())


@app.command()
def export(
    session: Session,
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
) -> None:
    """Write one conversation to standard output as JSON lines, as its export does over HTTP."""
    from frontdesk.persistence.sqlite_conversations import OwnedConversations
    from frontdesk.sessions.exporting import Export

    name = _named(session)
    with _snapshot(config, state_dir) as snapshot:
        store = OwnedConversations(snapshot.stored, owner="", lives=lambda _: True)
        for part in Export(store, _found(snapshot.stored, name)).parts():
            emit(part.decode())


@app.command("import")
def import_conversation(
    file: Annotated[Path, typer.Argument(help="What `export` wrote; - is standard input.")],
    tenant: Annotated[str, typer.Option(help="Whose it is from now on.")],
    session_id: Annotated[
        str | None, typer.Option(help="Its id, in place of the one that it had.")
    ] = None,
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Read one conversation in: all of it or nothing. No gateway may run here."""
    from frontdesk.agents.ids import check_session_id, check_tenant
    from frontdesk.sessions.importing import ImportedConversation

    imported = ImportedConversation(max_event_bytes=MAX_IMPORT_EVENT_BYTES)
    with sys.stdin.buffer if str(file) == "-" else file.open("rb") as lines:
        while part := lines.read(1024 * 1024):
            imported.feed(part)
    imported.finish()
    wanted = imported.wanted(session_id)
    name = SessionName(check_tenant(tenant), check_session_id(wanted.session_id))
    context = context_of(wanted, name)
    with _opened(config, state_dir) as store:
        there = store.find(tenant, name.session_id)
        if there is not None and there.state != "ended":
            taken = f"a conversation {name} is stored already: give another id with --session-id"
            raise CommandFailed("already_exists", taken, exit_code=ExitCode.USAGE)
        now_us = time.time_ns() // 1000
        store.apply(
            imported.operations(
                context,
                number=now_us * 1024,
                fence=max(store.greatest_fence() + 1, now_us),
                api_key=None,
                now_ms=now_us // 1000,
            )
        )
    _print_done({"imported": str(name)}, as_json=as_json)


@app.command()
def erase(
    session: Session,
    yes: Yes = False,
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Erase all conversations of an id, for good. No gateway may run here."""
    from frontdesk.persistence.operations import ConversationErased

    name = _named(session)
    _confirm(f"Erase {name}, for good?", yes=yes)
    with _opened(config, state_dir) as store:
        erased = 0
        while (found := store.find(name.tenant_id or "", name.session_id)) is not None:
            _apply(store, [ConversationErased(number=found.number)])
            erased += 1
    if not erased:
        raise _not_found(name)
    _print_done({"erased": str(name)}, as_json=as_json)


@app.command("erase-tenant")
def erase_tenant(
    tenant: Annotated[str, typer.Argument(help="The tenant.")],
    yes: Yes = False,
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Erase everything of a tenant, and the key that its secrets are under, in backups too.

    No gateway may run here.
    """
    from frontdesk.persistence.operations import TenantErased

    _confirm(f"Erase all conversations of {tenant}, for good?", yes=yes)
    with _opened(config, state_dir) as store:
        erased = store.count(tenant)
        _apply(store, [TenantErased(number=0, tenant_id=tenant)])
    _print_done({"erased": tenant, "conversations": erased}, as_json=as_json)


@app.command()
def check(
    config: ConfigFile = None, state_dir: StateDirectory = None, as_json: AsJson = False
) -> None:
    """Read everything that is stored, and say what cannot be read; ends with 1 where there is some.

    Costs a read of the whole file.
    """
    from frontdesk.persistence.sqlite_snapshot import check_file

    state, settings = _state(config, state_dir)
    checked, problems = check_file(state.conversations, sealing=_sealing(state, settings))
    if as_json:
        print_json({"conversations": checked, "problems": problems})
    else:
        for each in problems:
            emit(f"{each}\n")
        inform(f"{checked} conversations were checked, {len(problems)} problems were found")
    if problems:
        raise typer.Exit(ExitCode.WRONG)


@app.command()
def recover(
    to: Annotated[Path, typer.Argument(help="The file that is written; it may not be there.")],
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Copy what can be read of a damaged file into a new one, and count what was lost.

    Ends with 1 where something was. The damaged one is left as it is: put the copy in its place
    yourself, once no gateway runs. Columns: table, rows that were copied, what was lost.
    """
    from frontdesk.persistence.sqlite_salvage import SalvagedTable, salvage

    state, _ = _state(config, state_dir)
    outcomes = salvage(state.conversations, to)
    columns: tuple[Column[SalvagedTable], ...] = (
        Column("table", lambda each: each.name),
        Column("rows", lambda each: each.rows, right=True),
        Column("lost", lambda each: each.lost, right=True),
    )
    if as_json:
        tables = [{"table": each.name, "rows": each.rows, "lost": each.lost} for each in outcomes]
        print_json({"to": str(to), "tables": tables})
    else:
        print_rows(outcomes, columns, none="nothing is in it")
    if any(each.lost for each in outcomes):
        raise typer.Exit(ExitCode.WRONG)


def context_of(wanted: CreateSession, name: SessionName) -> SessionContext:
    """Return what a session that is read in was opened with."""
    from frontdesk.agents.records import SessionContext

    return SessionContext(
        session_id=name.session_id,
        tenant_id=name.tenant_id or "",
        blueprint=wanted.blueprint or "",
        model=wanted.model,
        system_prompt=wanted.system_prompt,
        tools=wanted.tools,
        plugins=wanted.plugins,
        max_turns=wanted.max_turns,
        max_tokens=wanted.max_tokens,
        provider_opts=wanted.provider_opts,
        user_data=wanted.user_data,
        prompt_mode=wanted.prompt_mode,
    )


def conversation_fields(stored: StoredConversation) -> dict[str, object]:
    """Return what is shown of a conversation, by the names of the HTTP API."""
    return {
        "tenantId": stored.tenant_id,
        "sessionId": stored.session_id,
        "state": stored.state,
        "blueprint": stored.blueprint,
        "model": stored.model,
        "label": stored.label,
        "createdAt": stored.created_at_ms,
        "lastActivityAt": stored.last_activity_ms,
        "forkedFrom": stored.forked_from,
        "fence": str(stored.fence),
        "lastEventIndex": stored.last_index,
        "oldestEventIndex": stored.oldest_index,
        "messages": stored.last_position,
        "waiting": stored.waiting,
        "bytes": stored.held_bytes,
        "unreadable": stored.unreadable,
    }


COLUMNS: tuple[Column[StoredConversation], ...] = (
    Column("tenant", lambda each: each.tenant_id),
    Column("session", lambda each: each.session_id, fold=True),
    Column("state", lambda each: each.state),
    Column("blueprint", lambda each: each.blueprint, from_width=100),
    Column("model", lambda each: each.model, from_width=120),
    Column("label", lambda each: each.label, from_width=140),
    Column("made", lambda each: moment(each.created_at_ms), from_width=160),
    Column("last used", lambda each: moment(each.last_activity_ms)),
    Column("waiting", lambda each: each.waiting, right=True, from_width=100),
    Column("bytes", lambda each: each.held_bytes, right=True),
)


def _state(config: ConfigFile, state_dir: StateDirectory) -> tuple[StateDir, Config]:
    """Return where conversations are stored; fails where that is not here."""
    from frontdesk.gateway.conversation_settings import MEMORY, SQLITE
    from frontdesk.gateway.errors import StateUnusable
    from frontdesk.gateway.state_dir import StateDir

    settings = loaded(config, state_dir=state_dir)
    store, directory = settings.conversations.store, settings.server.state_dir
    if store == MEMORY:
        message = 'conversations.store is "memory": they are in the gateway alone, and end with it'
        raise CommandFailed("not_stored_here", message, exit_code=ExitCode.USAGE)
    if store != SQLITE:
        message = (
            "conversations are stored in PostgreSQL, not in this directory: ask a gateway"
            f" ({IN_GATEWAY}; the client: export, import_session), and pg_dump copies all"
        )
        raise CommandFailed("not_stored_here", message, exit_code=ExitCode.USAGE)
    try:
        return StateDir.existing(directory, secret_file=settings.cluster.secret_file), settings
    except StateUnusable as error:
        if (other := other_state(directory)) is None:
            raise
        message = f"{error}; {other}"
        raise CommandFailed("state_unusable", message, exit_code=ExitCode.USAGE) from error


@dataclass(frozen=True, slots=True)
class SeenConversations:
    """What is stored, and whether a gateway runs that has agents for it."""

    stored: SqliteSnapshot
    served: bool

    def as_it_is(self, stored: StoredConversation) -> StoredConversation:
        """Return a conversation as it is: what has no gateway has no agent, whatever is stored."""
        if self.served or stored.state != "live":
            return stored
        import msgspec  # late: not every command needs it

        return msgspec.structs.replace(stored, state="dormant")


@contextmanager
def _snapshot(config: ConfigFile, state_dir: StateDirectory) -> Iterator[SeenConversations]:
    """Open what is stored for a look."""
    from frontdesk.gateway.state_lock import is_held
    from frontdesk.persistence.sqlite_file import sqlite_errors
    from frontdesk.persistence.sqlite_snapshot import SqliteSnapshot

    state, settings = _state(config, state_dir)
    snapshot = SqliteSnapshot(state.conversations, sealing=_sealing(state, settings))
    with closing(snapshot), sqlite_errors():
        yield SeenConversations(snapshot, served=is_held(state))


def _sealing(state: StateDir, settings: Config) -> Sealing:
    from frontdesk.persistence.sealing import Sealing

    return Sealing(state.master_secret(), settings.conversations.keys or state.conversation_keys)


@contextmanager
def _opened(config: ConfigFile, state_dir: StateDirectory) -> Iterator[SqliteConversations]:
    """Open what is stored to change it, as the one process that may."""
    from frontdesk.gateway.conversation_storage import sqlite_conversations
    from frontdesk.gateway.errors import StateUnusable
    from frontdesk.gateway.state_lock import locked

    state, settings = _state(config, state_dir)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(state))
        except StateUnusable as error:
            if error.path == str(state.lock):  # it cannot be opened, so nobody knows who has it
                raise
            message = f"{error}: end it first, or ask it ({IN_GATEWAY})"
            raise CommandFailed("state_in_use", message, exit_code=ExitCode.USAGE) from error
        store = sqlite_conversations(settings.conversations, state, owner="")
        try:
            store.claim()
            yield store
        finally:
            store.close()


def _apply(store: SqliteConversations, operations: list[AnyOperation]) -> None:
    store.apply(operations)


def _named(session: str) -> SessionName:
    name = SessionName.parse(session)
    if name.tenant_id is None:
        raise typer.BadParameter("give the tenant as well: tenant/id")
    return name


def _found(snapshot: SqliteSnapshot, name: SessionName) -> StoredConversation:
    for each in snapshot.reader.conversations(
        snapshot.reader.newest(name.tenant_id or "", name.session_id, fence=None),
        tails=snapshot.tails,
    ):
        return each
    raise _not_found(name)


def _not_found(name: SessionName) -> CommandFailed:
    return CommandFailed(
        "not_found",
        f"no conversation {name} is stored: `frontdesk conversations ls --all` lists them",
        exit_code=ExitCode.NOT_FOUND,
    )


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    require_somebody(otherwise="say --yes; `frontdesk conversations ls --all` shows what there is")
    if not typer.confirm(question, err=True):
        inform("nothing was erased")
        raise typer.Exit(ExitCode.OK)


def _print_done(fields: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json(fields)
    else:
        print_fields(fields.items())
