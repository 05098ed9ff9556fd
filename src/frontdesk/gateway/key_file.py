"""The keys of a state directory: made, rotated and revoked by the command line.

Below the ring of keys, which follows the file while a gateway runs. Only hashes of secrets are
kept. A key that is rotated has two secrets for a while, so that its clients can change over one by
one; it stays one key, with its id, its meter and its signing secret.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace

from frontdesk.agents.ids import NAME, TENANT_ID
from frontdesk.clock import Clock
from frontdesk.errors import InvalidArgument
from frontdesk.gateway.errors import KeyNotFound
from frontdesk.gateway.keys import (
    NAME_FORM,
    TENANT_FORM,
    Key,
    NewKey,
    PreviousSecret,
    digest_of,
    fresh_secret,
    mint,
    signing_secret_of,
)
from frontdesk.gateway.scopes import ALL_SCOPES, KeyScope, in_order
from frontdesk.gateway.state_dir import StateDir, open_database

SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS keys (
    key_id TEXT PRIMARY KEY,
    tenant_id TEXT,
    name TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT
""",
    # Between commas; without any, all.
    "ALTER TABLE keys ADD COLUMN scopes TEXT",
    "ALTER TABLE keys ADD COLUMN previous_digest BLOB",
    "ALTER TABLE keys ADD COLUMN previous_expires_at INTEGER",
    # Apart, so that who follows the keys reads little when only this has changed.
    "CREATE TABLE last_uses (key_id TEXT PRIMARY KEY, used_at INTEGER NOT NULL) STRICT",
)
COLUMNS = (
    "key_id, tenant_id, name, digest, created_at, expires_at, scopes, previous_digest, "
    "previous_expires_at"
)


class KeyFile:
    """The keys of a state directory. Close it after use (`with`)."""

    __slots__ = ("_clock", "_database", "_state")

    def __init__(self, state: StateDir, *, clock: Clock, timeout_s: float = 5.0) -> None:
        self._state, self._clock = state, clock
        self._database = open_database(state.keys, schema=SCHEMA, timeout_s=timeout_s)

    def __enter__(self) -> KeyFile:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def create(
        self,
        *,
        tenant_id: str | None,
        name: str,
        scopes: Iterable[KeyScope] = ALL_SCOPES,
        expires_in_ms: int | None = None,
    ) -> NewKey:
        """Add a key and return it with its secrets, which are kept nowhere. No tenant: operator."""
        if tenant_id is not None and not re.fullmatch(TENANT_ID, tenant_id):
            raise InvalidArgument("tenant", expected=TENANT_FORM, got=repr(tenant_id))
        if not re.fullmatch(NAME, name):
            raise InvalidArgument("name", expected=NAME_FORM, got=repr(name))
        now_ms = self._clock.wall_ms()
        new = mint(
            key_id="key_" + secrets.token_hex(8),
            tenant_id=tenant_id,
            name=name,
            master=self._state.master_secret(),
            now_ms=now_ms,
            scopes=frozenset(scopes),
            expires_at=None if expires_in_ms is None else now_ms + expires_in_ms,
        )
        key = new.key
        kept = None if key.scopes == ALL_SCOPES else ",".join(in_order(key.scopes))
        plain = (key.key_id, key.tenant_id, key.name, key.digest, key.created_at, key.expires_at)
        self._database.execute(
            f"INSERT INTO keys ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)",  # noqa: S608 - our own columns
            (*plain, kept),
        )
        return new

    def all(self) -> list[Key]:
        """Return every key, oldest first, expired ones included."""
        rows = self._database.execute(f"SELECT {COLUMNS} FROM keys ORDER BY created_at, rowid")  # noqa: S608 - our own columns
        return [
            replace(
                Key(*row[:6]),
                scopes=frozenset(map(KeyScope, row[6].split(","))) if row[6] else ALL_SCOPES,
                previous=PreviousSecret(*row[7:]) if row[7] else None,
            )
            for row in rows
        ]

    def rotate(self, key_id: str, *, overlap_ms: int) -> NewKey:
        """Give a key another secret; the one that it has opens for `overlap_ms` more.

        One that is left from an earlier rotation opens nothing from now on: a key has at most two.
        Raises `KeyNotFound`.
        """
        secret = fresh_secret()
        changed = self._database.execute(
            "UPDATE keys SET previous_digest = digest, previous_expires_at = ?, digest = ? "
            "WHERE key_id = ?",
            (self._clock.wall_ms() + overlap_ms, digest_of(secret), key_id),
        )
        if changed.rowcount == 0:
            raise KeyNotFound(key_id)
        (key,) = (each for each in self.all() if each.key_id == key_id)
        return NewKey(key, secret, signing_secret_of(self._state.master_secret(), key_id))

    def revoke(self, key_id: str) -> None:
        """Remove a key; `KeyNotFound` if there is none. Running gateways follow within a second."""
        if self._database.execute("DELETE FROM keys WHERE key_id = ?", (key_id,)).rowcount == 0:
            raise KeyNotFound(key_id)
        self._database.execute("DELETE FROM last_uses WHERE key_id = ?", (key_id,))

    def last_uses(self) -> Mapping[str, int]:
        """Return when each key was used last, to the minute; those that never were are absent."""
        return dict(self._database.execute("SELECT key_id, used_at FROM last_uses"))

    def write_last_uses(self, uses: Mapping[str, int]) -> None:
        """Keep when keys were used, in one write; what is no key of this file is left out."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany(
                "INSERT INTO last_uses SELECT key_id, :at FROM keys WHERE key_id = :key_id "
                "ON CONFLICT (key_id) DO UPDATE SET used_at = max(used_at, :at)",
                [{"key_id": key_id, "at": at} for key_id, at in uses.items()],
            )
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def version(self) -> int:
        """Return a number that changes when another process has changed the file."""
        row = self._database.execute("PRAGMA data_version").fetchone()
        return int(row[0])
