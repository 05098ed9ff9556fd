"""Encryption of what is stored: AES-256-GCM, under a key per conversation, from one per tenant.

A tenant's key is encrypted under the master secret of all nodes, and lies in a small file of its
own, away from the database: without it nobody reads what it sealed, in backups of the database
either. Nodes without a directory that all of them see have the keys in their database.
Each conversation's key is derived, so that the nonces, which are random, never run short. What is
sealed names its place (tenant, conversation, column, row) as associated data: moved elsewhere, it
does not open. The first byte of a stored value says whether it is sealed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from frontdesk.persistence.errors import ConversationUnreadable
from frontdesk.persistence.key_files import KeyFiles

CLEAR = b"\0"
SEALED = b"\1"
KEY_BYTES = 32
NONCE_BYTES = 12
MAX_CACHED = 4096
"""Conversations and tenants whose keys are held ready."""


class WrappedKeys(Protocol):
    """Where tenants' keys lie, encrypted, each under a name of its own."""

    def add(self, key_id: str, wrapped: bytes) -> None:
        """Store a key, for good once this returns."""
        ...

    def read(self, key_id: str) -> bytes:
        """Return a key; `ConversationUnreadable` where it is not to be had."""
        ...

    def remove(self, key_id: str) -> None:
        """Remove a key, for good; nothing happens where there is none."""
        ...


class KeyOf(NamedTuple):
    """Which key seals what a conversation has: that of its tenant, by its name."""

    tenant_id: str
    number: int
    key_id: str


class Sealing:
    """Seal and open what is stored. Any thread may call it.

    `keys` is where tenants' keys lie, which may be a directory. `encrypt` seals contents too;
    without it, only what may hold secrets. What was stored the other way opens as well.
    """

    __slots__ = ("_ciphers", "_encrypt", "_keys", "_master", "_tenant_keys")

    def __init__(
        self, master_secret: bytes, keys: Path | WrappedKeys, *, encrypt: bool = False
    ) -> None:
        self._keys: WrappedKeys = KeyFiles(keys) if isinstance(keys, Path) else keys
        self._encrypt = encrypt
        self._master = AESGCM(hmac.digest(master_secret, b"conversation-keys", hashlib.sha256))
        self._tenant_keys: dict[str, bytes] = {}
        self._ciphers: dict[KeyOf, AESGCM] = {}

    def new_key(self, tenant_id: str) -> str:
        """Make a tenant's key, stored and synced, and return its name."""
        key_id = secrets.token_hex(16)
        key, nonce = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(NONCE_BYTES)
        wrapped = SEALED + nonce + self._master.encrypt(nonce, key, _wrapping(tenant_id, key_id))
        self._keys.add(key_id, wrapped)
        return key_id

    def has_key(self, tenant_id: str, key_id: str) -> bool:
        """Say whether a key is there and can be read."""
        try:
            self._tenant_key(tenant_id, key_id)
        except ConversationUnreadable:
            return False
        return True

    def require_key(self, key: KeyOf) -> None:
        """Raise `ConversationUnreadable` where the key is not to be had."""
        self._tenant_key(key.tenant_id, key.key_id)

    def remove_key(self, key_id: str) -> None:
        """Remove a key, for good: what it sealed cannot be read any more, wherever that lies."""
        self._tenant_keys.pop(key_id, None)
        for key in [each for each in list(self._ciphers) if each.key_id == key_id]:
            self._ciphers.pop(key, None)
        self._keys.remove(key_id)

    def seal(self, content: bytes, *, key: KeyOf, column: str) -> bytes:
        """Return what may hold secrets as it is stored: always encrypted."""
        nonce = os.urandom(NONCE_BYTES)
        cipher = self._cipher(key)
        return SEALED + nonce + cipher.encrypt(nonce, content, _place(key, column))

    def keep(self, content: bytes, *, key: KeyOf, column: str) -> bytes:
        """Return contents as they are stored: encrypted, where they are to be."""
        return self.seal(content, key=key, column=column) if self._encrypt else CLEAR + content

    def open(self, stored: bytes, *, key: KeyOf, column: str) -> bytes:
        """Return what was stored; `ConversationUnreadable` where that cannot be had."""
        if stored[:1] != SEALED:
            return stored[1:]
        cipher = self._cipher(key)
        nonce, sealed = stored[1 : 1 + NONCE_BYTES], stored[1 + NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, sealed, _place(key, column))
        except InvalidTag:
            raise ConversationUnreadable("it was encrypted elsewhere, or changed since") from None

    def digest(self, content: bytes, *, key: KeyOf) -> bytes:
        """Return what tells contents apart and says nothing of them."""
        secret = self._tenant_key(key.tenant_id, key.key_id)
        return hmac.digest(secret, b"digest:%d:" % key.number + content, hashlib.sha256)[:16]

    def _cipher(self, key: KeyOf) -> AESGCM:
        if (cipher := self._ciphers.get(key)) is None:
            secret = self._tenant_key(key.tenant_id, key.key_id)
            own = hmac.digest(secret, b"conversation:%d" % key.number, hashlib.sha256)
            cipher = AESGCM(own)
            if len(self._ciphers) >= MAX_CACHED:
                self._ciphers.clear()
            self._ciphers[key] = cipher
        return cipher

    def _tenant_key(self, tenant_id: str, key_id: str) -> bytes:
        if (secret := self._tenant_keys.get(key_id)) is None:
            secret = self._unwrapped(tenant_id, key_id)
            if len(self._tenant_keys) >= MAX_CACHED:
                self._tenant_keys.clear()
            self._tenant_keys[key_id] = secret
        return secret

    def _unwrapped(self, tenant_id: str, key_id: str) -> bytes:
        wrapped = self._keys.read(key_id)
        nonce, sealed = wrapped[1 : 1 + NONCE_BYTES], wrapped[1 + NONCE_BYTES :]
        try:
            return self._master.decrypt(nonce, sealed, _wrapping(tenant_id, key_id))
        except (InvalidTag, ValueError):
            problem = "its tenant's key was made with another master secret, or is damaged"
            raise ConversationUnreadable(problem) from None


def _wrapping(tenant_id: str, key_id: str) -> bytes:
    return f"{key_id}:{tenant_id}".encode()


def _place(key: KeyOf, column: str) -> bytes:
    return f"{key.number}:{column}:{key.tenant_id}".encode()
