"""Who asks: what a request has shown, reduced to what counts from there on.

Above the keys, below `auth.py`, which makes one for each request. The middleware, the routes and
the streams know a caller and no credential: what it is called in the meter and the limits, whose
sessions it opens, and what it may do with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from frontdesk.gateway.errors import ScopeMissing
from frontdesk.gateway.keys import Key
from frontdesk.gateway.scopes import KeyScope


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller that was let in. An operator has no tenant. Times are wall clock, in ms."""

    key_id: str
    """What is counted, limited and signed for."""
    tenant_id: str | None
    scopes: frozenset[KeyScope]
    expires_at: int | None = None
    key: Key | None = field(default=None, repr=False)
    """The key that was shown."""

    @classmethod
    def with_key(cls, key: Key) -> Caller:
        """Return who asks with a key itself."""
        return cls(key.key_id, key.tenant_id, key.scopes, key.expires_at, key)

    def require(self, scope: KeyScope) -> None:
        """Raise `ScopeMissing` where the credential does not have a scope."""
        if scope not in self.scopes:
            raise ScopeMissing(scope)
