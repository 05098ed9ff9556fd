"""Keys: who may come in, and for which tenant.

Above the state directory, below `auth.py`, which asks the ring, and the command line, which writes
the file. Only hashes are kept. A plain SHA-256 is the right hash here: our secrets are 256 random
bits, so there is nothing to guess faster (slow password hashes protect guessable secrets), and
every request pays for it. A key is found by its hash: what a dictionary's timing could tell is
about the hash of the guess, which says nothing about any secret.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from frontdesk.agents.ids import NAME, TENANT_ID
from frontdesk.clock import Clock
from frontdesk.errors import InvalidArgument
from frontdesk.gateway.errors import ConfigurationWrong, KeyNotFound
from frontdesk.gateway.scopes import ALL_SCOPES, KeyScope
from frontdesk.gateway.state_dir import StateDir, open_database

SECRET_BYTES = 32
MIN_ENV_SECRET_CHARACTERS = 24
MAX_SECRET_CHARACTERS = 512
"""A head has room for it, whatever its bound."""
IN_A_HEADER = "[!-~](?:[ -~]*[!-~])?"
"""What a header carries as it is."""
TENANT_FORM, NAME_FORM = "1 to 64 of a-z 0-9 _ -", "1 to 64 of A-Z a-z 0-9 _ . -"

KEYS_VARIABLE = "FRONTDESK_KEYS"

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
)


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret. An operator's key has no tenant. Times are wall clock, in ms."""

    key_id: str
    tenant_id: str | None
    name: str
    digest: bytes = field(repr=False)
    created_at: int = 0
    expires_at: int | None = None
    scopes: frozenset[KeyScope] = ALL_SCOPES

    @property
    def operator(self) -> bool:
        return self.tenant_id is None

    def expired(self, now_ms: int) -> bool:
        return self.expires_at is not None and now_ms >= self.expires_at


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: the only time that its secrets are seen."""

    key: Key
    secret: str = field(repr=False)
    signing_secret: str = field(repr=False)


def digest_of(secret: str) -> bytes:
    """Return the hash under which a secret is kept."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def signing_secret_of(master: bytes, key_id: str) -> str:
    """Return the secret that signs the calls of this key's callback tools.

    Derived, not kept: HMAC-SHA256 of the key's id under the server's master secret.
    """
    return hmac.new(master, b"callback-tools:" + key_id.encode(), hashlib.sha256).hexdigest()


def mint(
    *,
    key_id: str,
    tenant_id: str | None,
    name: str,
    master: bytes,
    now_ms: int,
    expires_at: int | None = None,
) -> NewKey:
    """Make a key with a fresh secret of 256 random bits."""
    secret = "fd_" + secrets.token_urlsafe(SECRET_BYTES)
    key = Key(key_id, tenant_id, name, digest_of(secret), now_ms, expires_at)
    return NewKey(key, secret, signing_secret_of(master, key_id))


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
        self, *, tenant_id: str | None, name: str, expires_in_ms: int | None = None
    ) -> NewKey:
        """Add a key and return it with its secrets, which are kept nowhere. No tenant: operator."""
        if tenant_id is not None:
            check_tenant(tenant_id)
        _check_name(name)
        now_ms = self._clock.wall_ms()
        new = mint(
            key_id="key_" + secrets.token_hex(8),
            tenant_id=tenant_id,
            name=name,
            master=self._state.master_secret(),
            now_ms=now_ms,
            expires_at=None if expires_in_ms is None else now_ms + expires_in_ms,
        )
        key = new.key
        self._database.execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)",
            (key.key_id, key.tenant_id, key.name, key.digest, key.created_at, key.expires_at),
        )
        return new

    def all(self) -> list[Key]:
        """Return every key, oldest first, expired ones included."""
        rows = self._database.execute(
            "SELECT key_id, tenant_id, name, digest, created_at, expires_at FROM keys "
            "ORDER BY created_at, rowid"
        )
        return [Key(*row) for row in rows]

    def revoke(self, key_id: str) -> None:
        """Remove a key; `KeyNotFound` if there is none. Running gateways follow within a second."""
        if self._database.execute("DELETE FROM keys WHERE key_id = ?", (key_id,)).rowcount == 0:
            raise KeyNotFound(key_id)

    def version(self) -> int:
        """Return a number that changes when another process has changed the file."""
        row = self._database.execute("PRAGMA data_version").fetchone()
        return int(row[0])


class KeyRing:
    """All keys that open the gateway now: of the file, the environment, and of this run.

    Raises `ConfigurationWrong` where two of them have one secret or one id.
    `find` costs one hash and one dict lookup. The ring is replaced as a whole, so that a look-up
    sees either the old keys or the new ones.
    """

    __slots__ = ("_by_digest", "_file", "_fixed", "_version")

    def __init__(self, *, file: KeyFile | None, fixed: Iterable[Key] = ()) -> None:
        self._file = file
        self._fixed = tuple(fixed)
        self._version = file.version() if file else None
        self._by_digest: Mapping[bytes, Key] = {}
        self.check(self._fixed)
        self.reload()

    def find(self, secret: str, *, now_ms: int) -> Key | None:
        """Return the key of this secret, None where there is none or it has expired."""
        digest = digest_of(secret)
        key = self._by_digest.get(digest)
        if key is None or not hmac.compare_digest(key.digest, digest) or key.expired(now_ms):
            return None
        return key

    def holds(self, key: Key, *, now_ms: int) -> bool:
        """Say whether a key that was found before still opens anything."""
        return self._by_digest.get(key.digest) == key and not key.expired(now_ms)

    def replace_fixed(self, keys: Iterable[Key]) -> None:
        """Take other keys from the environment; `check` them before."""
        self._fixed = tuple(keys)
        self.reload()

    def check(self, fixed: Iterable[Key]) -> None:
        """Raise `ConfigurationWrong` where keys of the environment do not go with the file's."""
        kept = self._file.all() if self._file else []
        # Of two keys with one secret, only one would be found: whose, nobody could tell.
        if found := conflicts((*kept, *fixed)):
            raise ConfigurationWrong("the set of keys", mistakes=tuple(found))

    def reload(self) -> None:
        """Read the file again."""
        stored = self._file.all() if self._file else []
        self._by_digest = MappingProxyType({key.digest: key for key in (*stored, *self._fixed)})

    def refresh(self) -> bool:
        """Follow changes that other processes made to the file; say whether there were any.

        Costs one PRAGMA where nothing changed. A file that is locked for the moment is looked at
        again the next time.
        """
        if self._file is None:
            return False
        try:
            version = self._file.version()
            if version == self._version:
                return False
            self.reload()
        except sqlite3.OperationalError:
            return False
        self._version = version
        return True

    def __len__(self) -> int:
        return len(self._by_digest)


def keys_from_environment() -> tuple[Key, ...]:
    """Read the keys of `FRONTDESK_KEYS`, none where it is not set. Raises `ConfigurationWrong`."""
    text = os.environ.get(KEYS_VARIABLE, "")
    return keys_from_text(text) if text.strip() else ()


def keys_from_text(text: str) -> tuple[Key, ...]:
    """Read `FRONTDESK_KEYS`: `tenant/name:secret,tenant:secret`. Raises `ConfigurationWrong`.

    A key's id is `env:<name>`; where several tenants use a name, `env:<tenant>/<name>`. Whatever
    could open nothing, or another tenant's sessions, is a mistake. No mistake shows what was
    written: part of a secret may stand anywhere.
    """
    mistakes: list[str] = []
    keys: list[Key] = []
    for number, part in enumerate(text.split(","), start=1):
        try:
            keys.append(_key_from_part(part.strip()))
        except InvalidArgument as error:
            mistakes.append(f"key {number}: {error}")
    tenants_of: dict[str, set[str | None]] = {}
    for key in keys:
        tenants_of.setdefault(key.name, set()).add(key.tenant_id)
    keys = [
        replace(key, key_id=f"env:{key.tenant_id}/{key.name}")
        if len(tenants_of[key.name]) > 1
        else key
        for key in keys
    ]
    mistakes += conflicts(keys)
    if mistakes:
        raise ConfigurationWrong(KEYS_VARIABLE, mistakes=tuple(mistakes))
    return tuple(keys)


def conflicts(keys: Iterable[Key]) -> list[str]:
    """Return what keeps these keys from being told apart, one sentence each."""
    found: list[str] = []
    by_id: dict[str, Key] = {}
    by_digest: dict[bytes, Key] = {}
    for key in keys:
        if key.key_id in by_id:
            found.append(
                f"{key.key_id}: two keys have this id; give each a name of its own, as in "
                "tenant/name:secret"
            )
        elif (other := by_digest.get(key.digest)) is not None:
            found.append(
                f"{other.key_id} ({_owner(other)}) and {key.key_id} ({_owner(key)}) have the same "
                "secret; each key needs its own"
            )
        by_id[key.key_id] = by_digest[key.digest] = key
    return found


def _owner(key: Key) -> str:
    return "an operator's" if key.tenant_id is None else f"of {key.tenant_id}"


def _key_from_part(part: str) -> Key:
    owner, colon, secret = part.partition(":")
    tenant_id, slash, name = owner.partition("/")
    name = name if slash else "default"
    if not colon:
        raise InvalidArgument("it", expected="tenant/name:secret or tenant:secret", got="no colon")
    if not re.fullmatch(TENANT_ID, tenant_id):
        raise InvalidArgument("the tenant", expected=TENANT_FORM, got="something else")
    if not re.fullmatch(NAME, name):
        raise InvalidArgument("the name", expected=NAME_FORM, got="something else")
    if not MIN_ENV_SECRET_CHARACTERS <= len(secret) <= MAX_SECRET_CHARACTERS:
        raise InvalidArgument(
            "the secret",
            expected=f"{MIN_ENV_SECRET_CHARACTERS} to {MAX_SECRET_CHARACTERS} characters",
            got=str(len(secret)),
        )
    if not re.fullmatch(IN_A_HEADER, secret):
        raise InvalidArgument(
            "the secret",
            expected="printable ASCII that neither begins nor ends with a blank",
            got="what no header can carry",
        )
    return Key(f"env:{name}", tenant_id, name, digest_of(secret))


def check_tenant(tenant_id: str) -> None:
    """Refuse what cannot be a tenant's name with `InvalidArgument`."""
    if not re.fullmatch(TENANT_ID, tenant_id):
        raise InvalidArgument("tenant", expected=TENANT_FORM, got=repr(tenant_id))


def _check_name(name: str) -> None:
    if not re.fullmatch(NAME, name):
        raise InvalidArgument("name", expected=NAME_FORM, got=repr(name))
