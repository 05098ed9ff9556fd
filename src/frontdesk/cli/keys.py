"""`frontdesk keys`: make, list, rotate and revoke keys, and show their signing secrets.

Works beside a running gateway, which follows.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

import typer

from frontdesk.agents.ids import TENANT_ID
from frontdesk.cli.options import ConfigFile, StateDirectory, failing_clearly, loaded
from frontdesk.clock import SystemClock
from frontdesk.errors import InvalidArgument
from frontdesk.gateway.errors import KeyNotFound
from frontdesk.gateway.key_file import KeyFile
from frontdesk.gateway.keys import NewKey, keys_from_environment, signing_secret_of
from frontdesk.gateway.scopes import ALL_SCOPES, KeyScope, in_order
from frontdesk.gateway.state_dir import StateDir

app: typer.Typer = typer.Typer(help="Keys that open the gateway.", no_args_is_help=True)

SUBJECT_ID = rf"jwt:{TENANT_ID}/[^\r\n]{{1,200}}"
UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


@app.command()
def create(
    tenant: Annotated[str | None, typer.Option(help="The tenant that the key belongs to.")] = None,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "default",
    scope: Annotated[
        list[KeyScope] | None,
        typer.Option(help="What it may do; several times for several. All, if left out."),
    ] = None,
    expires: Annotated[str | None, typer.Option(help="For example 90d, 12h, 30m.")] = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="A key for /ops and /metrics only.")
    ] = False,
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
) -> None:
    """Make a key and print its secret, once: only a hash of it is kept."""
    with failing_clearly():
        if operator is (tenant is not None):
            raise InvalidArgument(
                "--tenant",
                expected="given, or else --operator",
                got="both" if operator else "neither",
            )
        if operator and scope:
            raise InvalidArgument("--scope", expected="left out with --operator", got="given")
        expires_in_ms = None if expires is None else milliseconds(expires, "--expires")
        settings = loaded(config, state_dir=state_dir)
        state = StateDir.make(settings.server.state_dir, secret_file=settings.cluster.secret_file)
        with KeyFile(state, clock=SystemClock()) as file:
            new = file.create(
                tenant_id=tenant,
                name=name,
                scopes=scope or ALL_SCOPES,
                expires_in_ms=expires_in_ms,
            )
    _show(new)


@app.command()
def rotate(
    key_id: Annotated[str, typer.Argument(help="The id that `create` and `list` print.")],
    overlap: Annotated[
        str, typer.Option(help="How long the old secret still opens; 0s ends it at once.")
    ] = "24h",
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
) -> None:
    """Give a key another secret and print it, once; the old one opens for a while yet."""
    with failing_clearly(), _file(config, state_dir) as file:
        new = file.rotate(key_id, overlap_ms=milliseconds(overlap, "--overlap"))
    _show(new)


@app.command("list")
def list_keys(config: ConfigFile = None, state_dir: StateDirectory = None) -> None:
    """List the keys, oldest first, without their secrets."""
    with failing_clearly(), _file(config, state_dir) as file:
        now_ms = SystemClock().wall_ms()
        last_uses = file.last_uses()
        for key in file.all():
            owner = "(operator)" if key.operator else f"{key.tenant_id}"
            until = "does not expire"
            if key.expires_at is not None:
                until = f"{'expired' if key.expired(now_ms) else 'expires'} {_day(key.expires_at)}"
            made = _day(key.created_at)
            scopes = "" if key.operator else ",".join(in_order(key.scopes)) + "  "
            used = last_uses.get(key.key_id)
            use = "never used" if used is None else f"last used {_day(used)}"
            both = ""
            if key.previous is not None and now_ms < key.previous.expires_at:
                both = f"  its old secret opens until {_day(key.previous.expires_at)}"
            typer.echo(
                f"{key.key_id}  {owner}/{key.name}  {scopes}made {made}  {until}  {use}{both}"
            )


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The id that `create` and `list` print.")],
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
) -> None:
    """Revoke a key. Running gateways stop taking it, and end its streams, within a second."""
    with failing_clearly(), _file(config, state_dir) as file:
        file.revoke(key_id)
    typer.echo(f"{key_id} is revoked")


@app.command()
def signing(
    key_id: Annotated[
        str,
        typer.Argument(help="A key's id; also env:name of FRONTDESK_KEYS, or jwt:tenant/subject."),
    ],
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
) -> None:
    """Print the secret that signs the calls of a key's callback tools."""
    with failing_clearly():
        settings = loaded(config, state_dir=state_dir)
        state = StateDir.existing(
            settings.server.state_dir, secret_file=settings.cluster.secret_file
        )
        with KeyFile(state, clock=SystemClock()) as file:
            known = {key.key_id for key in (*file.all(), *keys_from_environment())}
        # Of an identity provider's subjects there is no list.
        of_subject = settings.auth.jwt is not None and re.fullmatch(SUBJECT_ID, key_id)
        if key_id not in known and not of_subject:
            raise KeyNotFound(key_id)
        secret = signing_secret_of(state.master_secret(), key_id)
    typer.echo(secret)


def milliseconds(text: str, option: str) -> int:
    """Return a duration like `90d` in milliseconds."""
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if match is None or (int(match[1]) == 0 and option == "--expires"):
        raise InvalidArgument(option, expected="a number and s, m, h, d or w", got=repr(text))
    return int(match[1]) * UNITS_MS[match[2]]


def _show(new: NewKey) -> None:
    typer.echo(f"id       {new.key.key_id}")
    typer.echo(f"secret   {new.secret}")
    if not new.key.operator:
        typer.echo(f"signing  {new.signing_secret}")
    typer.echo("Neither secret is shown again.", err=True)


def _file(config: ConfigFile, state_dir: StateDirectory) -> KeyFile:
    settings = loaded(config, state_dir=state_dir)
    state = StateDir.existing(settings.server.state_dir, secret_file=settings.cluster.secret_file)
    return KeyFile(state, clock=SystemClock())


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
