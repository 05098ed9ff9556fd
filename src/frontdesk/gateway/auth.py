"""Who is asking: reads the key of a request and says which tenant's sessions it opens.

Below the middleware, above the key ring. This is the only place that turns a secret into a tenant,
and what the routes get of it can see that tenant only: isolation is not a check that a route could
forget.

Wrong keys are counted by address. From an address with too many, only keys that have been used
from there before still get an answer; everything else is refused unread, so that more guesses tell
nothing, and neighbours behind the same address are not locked out.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import ip_network
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from frontdesk.clock import Clock
from frontdesk.gateway.callers import Caller
from frontdesk.gateway.dashboard_login import DashboardLogins, LoginCodes, cookie_in
from frontdesk.gateway.errors import MalformedRequest, RateLimited, Unauthorized
from frontdesk.gateway.key_ring import KeyRing
from frontdesk.gateway.keys import digest_of
from frontdesk.gateway.paths import IN_QUERY
from frontdesk.gateway.rate_limit import RateLimit
from frontdesk.gateway.request_context import RequestContext, Scope
from frontdesk.gateway.session_tokens import SessionTokens
from frontdesk.keeper.stderr import printable

if TYPE_CHECKING:
    # Late: it comes with an extra.
    from frontdesk.gateway.bearer_tokens import BearerTokens

MAX_KNOWN_CLIENTS = 10_000
MAX_QUERY_FIELDS = 100

logger: logging.Logger = logging.getLogger("frontdesk.auth")


def secret_of(context: RequestContext) -> str | None:
    """Return the secret that a request brings, None where it brings none.

    The query is read only where a browser can set no header: on event streams and WebSockets.
    """
    if secret := context.header(b"x-api-key") or bearer_of(context):
        return secret
    query: bytes = context.scope.get("query_string", b"")
    in_query = context.method == "GET" and context.rule.endpoint in IN_QUERY
    if not in_query or b"api_key=" not in query:
        return None
    try:
        values = parse_qs(query.decode("latin-1"), max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise MalformedRequest("the query has too many fields") from None
    return values.get("api_key", [None])[0]


def bearer_of(context: RequestContext) -> str | None:
    """Return what `Authorization: Bearer` brings, None where it brings nothing."""
    scheme, _, credentials = (context.header(b"authorization") or "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else None


class Authenticator:
    """Let callers in: tenants' to `/v1`, operators' to `/ops` and `/metrics`."""

    __slots__ = (
        "_base_url",
        "_bearers",
        "_clock",
        "_known",
        "_ring",
        "_tokens",
        "codes",
        "logins",
        "wrong_keys",
    )

    def __init__(
        self,
        ring: KeyRing,
        tokens: SessionTokens,
        bearers: BearerTokens | None,
        *,
        logins: DashboardLogins,
        base_url: Callable[[Scope], str | None],
        wrong_keys_per_minute: int,
        clock: Clock,
    ) -> None:
        self._ring, self._tokens, self._bearers, self._clock = ring, tokens, bearers, clock
        self._base_url = base_url
        self.logins: DashboardLogins = logins
        self.codes: LoginCodes = LoginCodes()
        self.wrong_keys: RateLimit = RateLimit(
            per_minute=wrong_keys_per_minute, what="wrong keys", clock=clock
        )
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def admit(self, context: RequestContext, *, operator: bool) -> Caller:
        """Return who makes a request; `Unauthorized`, or `RateLimited` after too many wrong ones.

        What a tenant has opens nothing of the operators', and the other way round.
        """
        secret = secret_of(context)
        found = self._caller_of(context, secret) if secret else self.logged_in(context)
        caller = self._judged(context, found, counts=bool(secret), operator=operator)
        if operator:
            logger.info(
                "operator key used: %s %s %s",
                caller.key_id,
                context.method,
                printable(context.path),
            )
        return caller

    def log_in(self, context: RequestContext, *, key: str | None, code: str | None) -> Caller:
        """Return who logs in with a key, or with a code of a development run's link.

        Wrong ones count as in `admit`: `Unauthorized`, `RateLimited`.
        """
        if key is not None:
            key = key.strip()
            found = self._ring.find(key, now_ms=self._clock.wall_ms())
            digest = digest_of(key)
        else:
            found = self.codes.find(code or "")
            digest = b"" if found is None else found.digest
        caller = None if found is None else Caller.with_key(found, digest=digest)
        if caller is not None and not self.holds(caller):
            caller = None
        caller = self._judged(context, caller, counts=True)
        logger.info("logged in to the dashboard: %s", caller.key_id)
        return caller

    def logged_in(self, context: RequestContext) -> Caller | None:
        """Return who is logged in to the dashboard, None where nobody is."""
        if context.header(b"cookie") is None:
            return None
        value = cookie_in(context, self._base_url(context.scope))
        if value is None:
            return None
        caller = self.logins.caller_of(value, now_ms=self._clock.wall_ms())
        return caller if caller is not None and self.holds(caller) else None

    def tenant_of(self, context: RequestContext) -> str | None:
        """Return whose credential of a whole tenant is shown where none is needed; None for none.

        A wrong one counts, and after too many nobody new is told apart from nobody.
        """
        secret = secret_of(context)
        caller = self._caller_of(context, secret) if secret else None
        network = _network_of(context.client)
        with suppress(RateLimited):
            if caller is None:
                if secret:
                    self.wrong_keys.hit(network)
            elif caller.only is None:
                if (context.client, caller.key_id) not in self._known:
                    self.wrong_keys.check(network)
                return caller.tenant_id
        return None

    def fetch_for(self, context: RequestContext) -> Awaitable[object] | None:
        """Return what a request has to wait for before it can be judged: nothing, as a rule.

        Only a bearer token by a key that is not known waits, and none from an address with too
        many wrong keys.
        """
        if self._bearers is None or context.header(b"x-api-key"):
            return None
        token = bearer_of(context)
        if not token or not self._bearers.lacks_key_of(token):
            return None
        if self._ring.find(token, now_ms=self._clock.wall_ms()) is not None:
            return None
        self.wrong_keys.check(_network_of(context.client))
        return self._bearers.fetch()

    def _judged(
        self,
        context: RequestContext,
        caller: Caller | None,
        *,
        counts: bool,
        operator: bool | None = None,
    ) -> Caller:
        """Return a caller that may come in; count a credential that was shown and is wrong."""
        client = context.client
        if caller is None or (client, caller.key_id) not in self._known:
            self.wrong_keys.check(_network_of(client))
        if caller is None or operator not in (None, caller.tenant_id is None):
            if counts:
                self.wrong_keys.hit(_network_of(client))
            raise Unauthorized
        self._known[client, caller.key_id] = None
        self._known.move_to_end((client, caller.key_id))
        if len(self._known) > MAX_KNOWN_CLIENTS:
            self._known.popitem(last=False)
        self._ring.on_used(caller.key_id, now_ms=self._clock.wall_ms())
        return caller

    def _caller_of(self, context: RequestContext, secret: str) -> Caller | None:
        now_ms = self._clock.wall_ms()
        if (key := self._ring.find(secret, now_ms=now_ms)) is not None:
            return Caller.with_key(key, digest=digest_of(secret))
        caller = self._tokens.caller_of(secret, now_ms=now_ms)
        if caller is None and self._bearers is not None and secret == bearer_of(context):
            # In a header only: what a URL may hold is a session token.
            caller = self._bearers.caller_of(secret, now_ms=now_ms)
        return caller if caller is not None and self.holds(caller) else None

    def holds(self, caller: Caller) -> bool:
        """Say whether a caller that was let in would be let in again."""
        now_ms = self._clock.wall_ms()
        if caller.expires_at is not None and now_ms >= caller.expires_at:
            return False
        if caller.forwarded:
            # The node that its key was shown to judges it, and ends what came through it.
            return True
        if caller.signing_key is not None:
            return self._bearers is not None and self._bearers.holds(caller.signing_key)
        key = self._ring.named(caller.key_id)
        return (
            key is not None
            and key.tenant_id == (None if caller.operator else caller.tenant_id)
            and caller.scopes <= key.scopes
            and caller.digest in key.digests(now_ms)
        )


def _network_of(client: str) -> str:
    # One machine has a whole /64 of IPv6 addresses to guess from.
    if ":" not in client:
        return client
    return str(ip_network((client.partition("%")[0], 64), strict=False))
