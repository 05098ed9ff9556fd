"""Who asks: what a request has shown, reduced to what counts from there on.

Above the keys, below what tells who it is (`session_tokens.py`, `auth.py`). The middleware, the
routes and the streams know a caller and no credential: what it is called in the meter and the
limits, whose sessions it opens, and what it may do with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from frontdesk.gateway.errors import ScopeMissing
from frontdesk.gateway.keys import Key
from frontdesk.gateway.scopes import KeyScope
from frontdesk.sessions.tenant_sessions import OneConversation

NO_SECRET = b""
"""In place of a secret's hash: there is no key of ours."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller that was let in. An operator has no tenant. Times are wall clock, in ms."""

    key_id: str
    """What is counted, limited and signed for: of a session token, the key that made it."""
    tenant_id: str | None
    scopes: frozenset[KeyScope]
    expires_at: int | None
    only: OneConversation | None = None
    """What a session token opens, and nothing else."""
    digest: bytes = field(default=NO_SECRET, repr=False)
    """Of the key's secret that was shown, or that made the token: it ends with that."""
    signing_key: str | None = None
    """The key of the identity provider that signed it, where there is no key of ours."""
    operator: bool = False
    """An operator, who acts on a session of that tenant."""
    forwarded: bool = False
    """Let in by another node, which counts what is limited and ends what is open."""

    @classmethod
    def with_key(cls, key: Key, *, digest: bytes) -> Caller:
        """Return who asks with a key itself, by the secret of that hash."""
        return cls(key.key_id, key.tenant_id, key.scopes, key.expires_at, digest=digest)

    def require(self, scope: KeyScope) -> None:
        """Raise `ScopeMissing` where the credential does not have a scope."""
        if scope not in self.scopes:
            raise ScopeMissing(scope)
