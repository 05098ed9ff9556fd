"""`frontdesk keys`: make, list, rotate and revoke keys, and show their signing secrets.

Works beside a running gateway, which follows. What it works on is imported when a command runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from frontdesk.cli.options import AsJson, ConfigFile, StateDirectory, loaded
from frontdesk.cli.output import Column, emit, inform, print_fields, print_json, print_rows
from frontdesk.cli.times import milliseconds
from frontdesk.clock import SystemClock
from frontdesk.errors import InvalidArgument
from frontdesk.gateway.scopes import ALL_SCOPES, KeyScope, in_order

if TYPE_CHECKING:
    from frontdesk.gateway.key_file import KeyFile
    from frontdesk.gateway.keys import Key, NewKey

app: typer.Typer = typer.Typer(help="Keys that open the gateway.", no_args_is_help=True)

SUBJECT_ID = r"jwt:[a-z0-9_-]{1,64}/[^\r\n]{1,200}"

KeyId = Annotated[str, typer.Argument(help="The id that `create` and `list` print.")]


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
    as_json: AsJson = False,
) -> None:
    """Make a key and print its secrets, once: only a hash of the key is kept."""
    from frontdesk.gateway.key_file import KeyFile
    from frontdesk.gateway.state_dir import StateDir

    if operator is (tenant is not None):
        got = "both" if operator else "neither"
        raise InvalidArgument("--tenant", expected="given, or else --operator", got=got)
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
    _show(new, as_json=as_json)


@app.command()
def rotate(
    key_id: KeyId,
    overlap: Annotated[
        str, typer.Option(help="How long the old secret still opens; 0s ends it at once.")
    ] = "24h",
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Give a key another secret and print it, once; the old one opens for a while yet.

    The key's id, meter, scopes and signing secret stay.
    """
    with _file(config, state_dir) as file:
        new = file.rotate(key_id, overlap_ms=milliseconds(overlap, "--overlap"))
    _show(new, as_json=as_json)


@app.command("list")
def list_keys(
    config: ConfigFile = None, state_dir: StateDirectory = None, as_json: AsJson = False
) -> None:
    """List the keys, oldest first, without their secrets.

    Columns: id, tenant, name, scopes, made, expires, last used (to the minute), and until when an
    old secret opens.
    """
    with _file(config, state_dir) as file:
        now_ms = SystemClock().wall_ms()
        last_uses = file.last_uses()
        keys = file.all()

    if as_json:
        listed = [
            {
                "keyId": key.key_id,
                "tenantId": key.tenant_id,
                "name": key.name,
                "operator": key.operator,
                "scopes": [] if key.operator else in_order(key.scopes),
                "createdAt": key.created_at,
                "expiresAt": key.expires_at,
                "lastUsedAt": last_uses.get(key.key_id),
                "oldSecretUntil": old_secret_until(key, now_ms),
            }
            for key in keys
        ]
        print_json({"keys": listed})
        return
    print_rows(
        keys,
        key_columns(now_ms, last_uses),
        none="there is no key yet: `frontdesk keys create` makes one",
    )


def key_columns(now_ms: int, last_uses: Mapping[str, int]) -> tuple[Column[Key], ...]:
    """Return the columns of keys."""
    return (
        Column("id", lambda key: key.key_id),
        Column("tenant", lambda key: "(operator)" if key.operator else key.tenant_id),
        Column("name", lambda key: key.name),
        Column(
            "scopes",
            lambda key: "" if key.operator else ",".join(in_order(key.scopes)),
            display=lambda key: "" if key.operator else ", ".join(in_order(key.scopes)),
            fold=True,
        ),
        Column("made", lambda key: _minute(key.created_at), from_width=100),
        Column(
            "expires",
            lambda key: _minute(key.expires_at),
            display=lambda key: (
                f"{_minute(key.expires_at) or 'never'}{' (over)' * key.expired(now_ms)}"
            ),
        ),
        Column(
            "last used",
            lambda key: _minute(last_uses.get(key.key_id)),
            display=lambda key: _minute(last_uses.get(key.key_id)) or "never",
        ),
        Column("old until", lambda key: _minute(old_secret_until(key, now_ms)), from_width=100),
    )


def old_secret_until(key: Key, now_ms: int) -> int | None:
    """Return until when a key's old secret opens, None where it has none that does."""
    if key.previous is None or now_ms >= key.previous.expires_at:
        return None
    return key.previous.expires_at


@app.command()
def revoke(
    key_id: KeyId,
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key. Running gateways stop taking it, and end its streams, within a second."""
    with _file(config, state_dir) as file:
        file.revoke(key_id)
    if as_json:
        print_json({"keyId": key_id, "status": "revoked"})
    else:
        inform(f"{key_id} is revoked")


@app.command()
def signing(
    key_id: Annotated[
        str,
        typer.Argument(help="A key's id; also env:name of FRONTDESK_KEYS, or jwt:tenant/subject."),
    ],
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Print the secret that signs the calls of a key's callback tools.

    It is derived from the master secret of the state directory and the id, so it exists for keys of
    the environment (`env:name`, which has to be in `FRONTDESK_KEYS` here too) and for subjects of
    an identity provider (`jwt:tenant/subject`) as well.
    """
    from frontdesk.gateway.errors import KeyNotFound
    from frontdesk.gateway.key_file import KeyFile
    from frontdesk.gateway.keys import keys_from_environment, signing_secret_of
    from frontdesk.gateway.state_dir import StateDir

    settings = loaded(config, state_dir=state_dir)
    state = StateDir.existing(settings.server.state_dir, secret_file=settings.cluster.secret_file)
    with KeyFile(state, clock=SystemClock()) as file:
        known = {key.key_id for key in (*file.all(), *keys_from_environment())}
    # Of an identity provider's subjects there is no list.
    of_subject = settings.auth.jwt is not None and re.fullmatch(SUBJECT_ID, key_id)
    if key_id not in known and not of_subject:
        raise KeyNotFound(key_id)
    secret = signing_secret_of(state.master_secret(), key_id)
    if as_json:
        print_json({"keyId": key_id, "signingSecret": secret})
    else:
        emit(f"{secret}\n")


def _show(new: NewKey, *, as_json: bool) -> None:
    signing_secret = None if new.key.operator else new.signing_secret
    if as_json:
        print_json({"keyId": new.key.key_id, "secret": new.secret, "signingSecret": signing_secret})
    else:
        fields = [("id", new.key.key_id), ("secret", new.secret), ("signing", signing_secret)]
        print_fields((name, value) for name, value in fields if value is not None)
    inform("Neither secret is shown again." if signing_secret else "It is not shown again.")


def _file(config: ConfigFile, state_dir: StateDirectory) -> KeyFile:
    from frontdesk.gateway.key_file import KeyFile
    from frontdesk.gateway.state_dir import StateDir

    settings = loaded(config, state_dir=state_dir)
    state = StateDir.existing(settings.server.state_dir, secret_file=settings.cluster.secret_file)
    return KeyFile(state, clock=SystemClock())


def _minute(at_ms: int | None) -> str:
    return "" if at_ms is None else f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}"
