"""Cross-origin rules: which web pages may call.

Below the middleware. `/v1` opens to every origin, without credentials: what lets a request in is a
key, which a page must have been given, never a cookie that a browser adds by itself. The preflight
is answered without a key, as browsers send none with it.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from frontdesk.gateway.errors import Unauthorized
from frontdesk.gateway.request_context import RequestContext, Scope

ANY_ORIGIN = (b"access-control-allow-origin", b"*")
EXPOSED_HEADERS = (
    b"access-control-expose-headers",
    b"X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, RateLimit, RateLimit-Policy, "
    b"Retry-After, Location, WWW-Authenticate",
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


def refuse_cross_origin_cookies(
    context: RequestContext, base_url: Callable[[Scope], str | None]
) -> None:
    """Refuse a WebSocket that brings a cookie from a page of another origin than this one's URL.

    Browsers let every page open a WebSocket anywhere and add the cookies of the address: the
    origin is all that tells a stranger's page from ours.
    """
    if not context.websocket or context.header(b"cookie") is None:
        return
    origin = context.header(b"origin")
    try:
        # Not the scheme: a proxy that ends TLS need not say so.
        own = urlsplit(base_url(context.scope) or "").netloc
        # An origin that names no host is not ours, also where ours is not known.
        same = origin is None or (own != "" and urlsplit(origin).netloc == own)
    except ValueError:
        same = False
    if not same:
        raise Unauthorized
