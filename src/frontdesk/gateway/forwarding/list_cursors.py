"""Cursors of lists over all nodes: a fence that says nothing to who holds it.

Fences count what all tenants do; a cursor goes out. So the fence is encrypted, with a key of the
cluster's that every node derives, and for the tenant whose list it continues: of another tenant it
is no cursor. Deterministic: the same place has the same cursor.
"""

from __future__ import annotations

import hashlib
import hmac

from frontdesk.errors import InvalidArgument
from frontdesk.gateway import urlsafe_text

BYTES = 8
MAX_SHOWN = 40


class ListCursors:
    """Make and read cursors. Both cost two HMACs."""

    __slots__ = ("_cipher_key", "_tag_key")

    def __init__(self, secret: bytes) -> None:
        self._tag_key = hmac.digest(secret, b"list cursors: tags", hashlib.sha256)
        self._cipher_key = hmac.digest(secret, b"list cursors: cipher", hashlib.sha256)

    def cursor(self, fence: int, *, tenant_id: str) -> str:
        """Return what continues a tenant's list after a fence."""
        plain = fence.to_bytes(BYTES)
        tag = self._tag(plain, tenant_id)
        return urlsafe_text.encoded(tag + self._masked(plain, tag))

    def fence(self, cursor: str, *, tenant_id: str) -> int:
        """Return the fence of a cursor; `InvalidArgument` for what is none of this tenant's."""
        try:
            content = urlsafe_text.decoded(cursor)
        except ValueError:
            content = b""
        tag, masked = content[:BYTES], content[BYTES:]
        plain = self._masked(masked, tag)
        if len(masked) == BYTES and hmac.compare_digest(self._tag(plain, tenant_id), tag):
            return int.from_bytes(plain)
        got = repr(cursor[:MAX_SHOWN])
        raise InvalidArgument("after", expected="a cursor from `next`", got=got)

    def _tag(self, plain: bytes, tenant_id: str) -> bytes:
        text = plain + tenant_id.encode()
        return hmac.digest(self._tag_key, text, hashlib.sha256)[:BYTES]

    def _masked(self, content: bytes, tag: bytes) -> bytes:
        mask = hmac.digest(self._cipher_key, tag, hashlib.sha256)
        return bytes(a ^ b for a, b in zip(content, mask, strict=False))
