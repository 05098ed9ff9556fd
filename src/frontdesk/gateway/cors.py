"""Cross-origin rules: which web pages may call.

Below the middleware. `/v1` opens to every origin, or to those that the operator lists, without
credentials: what lets a request in is a key, which a page must have been given, never a cookie that
a browser adds by itself. The preflight is answered without a key, as browsers send none with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from frontdesk.gateway.errors import Unauthorized
from frontdesk.gateway.request_context import Header, RequestContext, Scope

ALLOW_ORIGIN = b"access-control-allow-origin"
VARY = (b"vary", b"Origin")
EXPOSED_HEADERS = (
    b"access-control-expose-headers",
    b"X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, RateLimit, RateLimit-Policy, "
    b"Retry-After, Location, WWW-Authenticate, X-Frontdesk-Heartbeat",
)
PREFLIGHT = [
    ("access-control-allow-methods", "GET, HEAD, POST, DELETE"),
    (
        "access-control-allow-headers",
        "Authorization, Content-Type, X-API-Key, Idempotency-Key, Last-Event-ID, Cache-Control, "
        "X-Requested-With, traceparent, tracestate, baggage",
    ),
    ("access-control-max-age", "600"),
]


def is_preflight(context: RequestContext) -> bool:
    """Say whether a browser asks, before the real request, whether it may send it."""
    return (
        context.method == "OPTIONS"
        and context.header(b"access-control-request-method") is not None
        and context.header(b"origin") is not None
    )


def origin_headers(context: RequestContext, allowed: Sequence[str]) -> tuple[Header, ...]:
    """Return what lets pages read the answer: of the origins listed, of all where none is.

    A browser hands no other page what it asked for.
    """
    if not allowed:
        return ((ALLOW_ORIGIN, b"*"), EXPOSED_HEADERS)
    origin = context.header(b"origin") or ""
    named = ((ALLOW_ORIGIN, origin.encode("latin-1")),) if origin in allowed else ()
    return (*named, VARY, EXPOSED_HEADERS)


def refuse_strange_pages(
    context: RequestContext, base_url: Callable[[Scope], str | None], allowed: Sequence[str]
) -> None:
    """Refuse a WebSocket of a page that may not open it.

    Browsers let every page open a WebSocket anywhere and add the cookies of the address: the
    origin is all that tells a stranger's page from ours. One that brings a cookie has to be from
    this URL's own; any other from there or from those that are listed, where some are.
    """
    if not context.websocket or (origin := context.header(b"origin")) is None:
        return
    cookie = context.header(b"cookie") is not None
    if not cookie and (not allowed or origin in allowed):
        return
    try:
        # Not the scheme: a proxy that ends TLS need not say so.
        own = urlsplit(base_url(context.scope) or "").netloc
        # An origin that names no host is not ours, also where ours is not known.
        same = own != "" and urlsplit(origin).netloc == own
    except ValueError:
        same = False
    if not same:
        raise Unauthorized
