"""Who is asking: reads the key of a request and says which tenant's desk it opens.

Below the front, above the key ring. This is the only place that turns a secret into a tenant, and
what it gives to the routes is a desk that can see that tenant only: isolation is not a check that
a route could forget.

Wrong keys are counted by address. From an address with too many, only keys that have been used
from there before still get an answer; everything else is refused unread, so that more guesses tell
nothing, and neighbours behind the same address are not locked out.
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from ipaddress import ip_network
from urllib.parse import parse_qs

from frontdesk.clock import Clock
from frontdesk.gateway.errors import MalformedRequest, Unauthorized
from frontdesk.gateway.keys import Key, KeyRing
from frontdesk.gateway.rate_limit import RateLimit
from frontdesk.gateway.request_context import RequestContext

STREAM = re.compile(r"/v1/sessions/[^/]+/(events|ws)")
MOST_ACQUAINTANCES = 10_000
MOST_FIELDS = 100

logger = logging.getLogger("frontdesk.auth")


def secret_of(passage: RequestContext) -> str | None:
    """Return the secret that a request brings, None where it brings none.

    The query is read only where a browser can set no header: on event streams and WebSockets.
    """
    if secret := passage.header(b"x-api-key"):
        return secret
    scheme, _, credentials = (passage.header(b"authorization") or "").partition(" ")
    if scheme.lower() == "bearer" and credentials:
        return credentials.strip()
    if passage.method == "GET" and STREAM.fullmatch(passage.path):
        return _secret_in_query(passage.scope.get("query_string", b""))
    return None


def _secret_in_query(query: bytes) -> str | None:
    if b"api_key=" not in query:
        return None
    try:
        values = parse_qs(query.decode("latin-1"), max_num_fields=MOST_FIELDS).get("api_key")
    except ValueError:
        raise MalformedRequest("the query has too many fields") from None
    return values[0] if values else None


class Authenticator:
    """Let keys in: tenants' keys to `/v1`, operators' keys to `/ops` and `/metrics`."""

    __slots__ = ("_clock", "_known", "_ring", "guesses")

    def __init__(self, ring: KeyRing, *, wrong_keys_per_minute: int, clock: Clock) -> None:
        self._ring, self._clock = ring, clock
        self.guesses = RateLimit(per_minute=wrong_keys_per_minute, what="wrong keys", clock=clock)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def admit(self, passage: RequestContext, *, operator: bool) -> Key:
        """Return the key of a request; `Unauthorized`, or `RateLimited` after too many guesses.

        A tenant's key opens nothing of the operators', and the other way round.
        """
        secret = secret_of(passage)
        key = self._ring.find(secret, now_ms=self._clock.wall_ms()) if secret else None
        self._refuse_guessers(passage.client, key)
        if key is None or key.operator is not operator:
            if secret:
                self.guesses.spend(_neighbourhood(passage.client))
            raise Unauthorized
        self._remember(passage.client, key)
        if operator:
            logger.info("operator key used: %s %s %s", key.key_id, passage.method, passage.path)
        return key

    def holds(self, key: Key) -> bool:
        """Say whether a key that was let in would be let in again."""
        return self._ring.holds(key, now_ms=self._clock.wall_ms())

    def _refuse_guessers(self, client: str, key: Key | None) -> None:
        if key is None or (client, key.key_id) not in self._known:
            self.guesses.check(_neighbourhood(client))

    def _remember(self, client: str, key: Key) -> None:
        self._known[client, key.key_id] = None
        self._known.move_to_end((client, key.key_id))
        if len(self._known) > MOST_ACQUAINTANCES:
            self._known.popitem(last=False)


def _neighbourhood(client: str) -> str:
    # One machine has a whole /64 of IPv6 addresses to guess from.
    if ":" not in client:
        return client
    return str(ip_network((client.partition("%")[0], 64), strict=False))
