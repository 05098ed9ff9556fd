"""What travels with a request from one node to another: who asks, for what, until when.

At the bottom of the folder. A caller's key is not among it, nor anything that opens something: the
rights of the caller, as the first node found them, are. The headers that the other node's
application sees are exactly those in here, so that nothing else in the message means anything.
"""

from __future__ import annotations

import msgspec

from frontdesk.gateway.callers import NO_SECRET, Caller
from frontdesk.gateway.scopes import KeyScope, in_order
from frontdesk.sessions.tenant_sessions import OneConversation

TRAVELLING_HEADERS = frozenset(
    {
        b"accept",
        b"content-type",
        b"idempotency-key",
        b"last-event-id",
        b"traceparent",
        b"tracestate",
        b"baggage",
        b"x-request-id",
    }
)
"""What of a request's headers another node is given. All others stay, credentials first."""


class CallerClaims(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Who was let in, and what that caller may do."""

    key_id: str
    tenant_id: str
    scopes: tuple[KeyScope, ...]
    expires_at: int | None
    only: tuple[str, int] | None
    signing_key: str | None
    secret_tag: str
    """Tells which of its key's secrets was shown, to who knows their hashes, and nobody else."""
    operator: bool = False

    @classmethod
    def of(cls, caller: Caller, *, secret_tag: str) -> CallerClaims:
        """Return what travels of a caller of a tenant."""
        only = caller.only
        return cls(
            caller.key_id,
            caller.tenant_id or "",
            in_order(caller.scopes),
            caller.expires_at,
            None if only is None else (only.session_id, only.fence),
            caller.signing_key,
            secret_tag,
            caller.operator,
        )

    def caller(self, *, digest: bytes = NO_SECRET) -> Caller:
        """Return the caller again, as one that another node has let in."""
        return Caller(
            self.key_id,
            self.tenant_id,
            frozenset(self.scopes),
            self.expires_at,
            None if self.only is None else OneConversation(*self.only),
            digest,
            self.signing_key,
            self.operator,
            forwarded=True,
        )


class HopClaims(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One request from one node to another. Positions count: fields are only added at the end."""

    to: str
    """The incarnation that is asked: what was meant for an earlier one is not answered."""
    sender: str
    at_ms: int
    nonce: str
    method: str
    target: str
    body_digest: str
    deadline_ms: int
    """Of the sender's wall clock: after this nothing is begun."""
    caller: CallerClaims | None = None
    """Of a request that is passed on; None for a question of the node's own."""
    fence: int | None = None
    """Of the session as the sender knows it; None for one that may have ended."""
    headers: tuple[tuple[str, str], ...] = ()
    client: str = "-"
    prefix: str = ""
    """What stands before the paths where the client asks, for links in the answer."""
