"""Session tokens: what a browser gets, and what a URL may hold.

Above the ring of keys, below `auth.py`. A token says whose it is, what it opens and until when, and
is signed; nothing is kept of it. It ends with its time, with its conversation (the fence tells
another one of the same id apart), and with the secret of the key that made it, whose hash is among
what is signed: so a revoked, expired or rotated key takes its tokens along. Which conversation it
opens is enforced below, where sessions are found (`TenantSessions`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

import msgspec

from frontdesk.gateway import urlsafe_text
from frontdesk.gateway.callers import NO_SECRET, Caller
from frontdesk.gateway.errors import ScopeMissing
from frontdesk.gateway.key_ring import KeyRing
from frontdesk.gateway.scopes import KeyScope, in_order
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.tenant_sessions import OneConversation

PREFIX = "fds_"
MAX_TOKEN_CHARACTERS = 2048


class _Claims(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a token says. Positions count: fields are only ever added at the end."""

    key_id: str
    tenant_id: str
    session_id: str
    fence: int
    scopes: tuple[KeyScope, ...]
    expires_at: int
    signing_key: str | None


class SessionTokens:
    """Make tokens, and tell who shows one. Both cost one HMAC-SHA256."""

    __slots__ = ("_ring", "_secret")

    def __init__(self, ring: KeyRing, *, master_secret: bytes) -> None:
        self._ring = ring
        self._secret = hmac.digest(master_secret, b"session-tokens", hashlib.sha256)

    def make(
        self,
        caller: Caller,
        conversation: Conversation,
        *,
        scopes: Iterable[KeyScope],
        expires_at: int,
    ) -> tuple[str, int]:
        """Return a token for one conversation, and when it ends: never after its maker does.

        Raises `ScopeMissing` for a scope that its maker does not have.
        """
        scopes = frozenset(scopes)
        for missing in in_order(scopes - caller.scopes):
            raise ScopeMissing(missing)
        claims = _Claims(
            key_id=caller.key_id,
            tenant_id=conversation.tenant_id,
            session_id=conversation.session_id,
            fence=conversation.fence,
            scopes=in_order(scopes),
            expires_at=min(expires_at, caller.expires_at or expires_at),
            signing_key=caller.signing_key,
        )
        said = msgspec.json.encode(claims)
        signature = self._signature(said, caller.digest)
        token = f"{PREFIX}{urlsafe_text.encoded(said)}.{urlsafe_text.encoded(signature)}"
        return token, claims.expires_at

    def caller_of(self, token: str, *, now_ms: int) -> Caller | None:
        """Return who shows a token; None where it is none of ours, or has ended."""
        if not token.startswith(PREFIX) or len(token) > MAX_TOKEN_CHARACTERS:
            return None
        said, _, signed = token.removeprefix(PREFIX).partition(".")
        try:
            content, signature = urlsafe_text.decoded(said), urlsafe_text.decoded(signed)
            claims = msgspec.json.decode(content, type=_Claims)
        except ValueError:
            return None
        digest = self._digest_behind(claims, content, signature, now_ms=now_ms)
        if digest is None:
            return None
        return Caller(
            claims.key_id,
            claims.tenant_id,
            frozenset(claims.scopes),
            claims.expires_at,
            OneConversation(claims.session_id, claims.fence),
            digest,
            claims.signing_key,
        )

    def _digest_behind(
        self, claims: _Claims, content: bytes, signature: bytes, *, now_ms: int
    ) -> bytes | None:
        """Return the hash of the secret that a token was made with; None where none of now was."""
        digests: tuple[bytes, ...] = ()
        if claims.signing_key is not None:
            digests = (NO_SECRET,)
        elif (key := self._ring.named(claims.key_id)) is not None:
            digests = key.digests(now_ms)
        for digest in digests:
            if hmac.compare_digest(self._signature(content, digest), signature):
                return digest
        return None

    def _signature(self, content: bytes, digest: bytes) -> bytes:
        return hmac.digest(self._secret, digest + b"\0" + content, hashlib.sha256)
