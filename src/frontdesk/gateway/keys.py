"""Keys: who may come in, for which tenant, and what for.

Above the file that keeps most of them (`key_file.py`), below `auth.py`, which asks the ring. Only
hashes are kept. A plain SHA-256 is the right hash here: our secrets are 256 random
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
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from frontdesk.agents.ids import NAME, TENANT_ID
from frontdesk.errors import InvalidArgument
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.scopes import ALL_SCOPES, KeyScope

SECRET_BYTES = 32
KEY_PREFIX = "fd_"
MIN_ENV_SECRET_CHARACTERS = 24
MAX_SECRET_CHARACTERS = 512
"""A head has room for it, whatever its bound."""
IN_A_HEADER = "[!-~](?:[ -~]*[!-~])?"
"""What a header carries as it is."""
TENANT_FORM, NAME_FORM = "1 to 64 of a-z 0-9 _ -", "1 to 64 of A-Z a-z 0-9 _ . -"

KEYS_VARIABLE = "FRONTDESK_KEYS"


@dataclass(frozen=True, slots=True)
class PreviousSecret:
    """The secret that a rotated key had before, and until when it opens."""

    digest: bytes = field(repr=False)
    expires_at: int


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
    previous: PreviousSecret | None = None

    @property
    def operator(self) -> bool:
        return self.tenant_id is None

    def expired(self, now_ms: int) -> bool:
        return self.expires_at is not None and now_ms >= self.expires_at

    def digests(self, now_ms: int) -> tuple[bytes, ...]:
        """Return the hashes of the secrets that open for this key now."""
        if self.expired(now_ms):
            return ()
        if self.previous is None or now_ms >= self.previous.expires_at:
            return (self.digest,)
        return (self.digest, self.previous.digest)


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


def fresh_secret() -> str:
    """Return a secret of 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def mint(
    *,
    key_id: str,
    tenant_id: str | None,
    name: str,
    master: bytes,
    now_ms: int,
    scopes: frozenset[KeyScope] = ALL_SCOPES,
    expires_at: int | None = None,
) -> NewKey:
    """Make a key with a fresh secret."""
    secret = fresh_secret()
    key = Key(key_id, tenant_id, name, digest_of(secret), now_ms, expires_at, scopes)
    return NewKey(key, secret, signing_secret_of(master, key_id))


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
