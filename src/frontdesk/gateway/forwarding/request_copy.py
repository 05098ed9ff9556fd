"""What of a request goes to another node: its path, its query without keys, a few headers.

Below the hop. What is not named in `claims.py` stays here, credentials and cookies first; a key in
the query stays as well, and its field goes on empty, so that the answer is what it would be here.
"""

from __future__ import annotations

from urllib.parse import quote, unquote_plus

from frontdesk.gateway.forwarding.claims import TRAVELLING_HEADERS
from frontdesk.gateway.request_context import RequestContext

CREDENTIAL_FIELDS = frozenset({"api_key"})
UNQUOTED = "/-._~!$&'()*+,;=:@"


def target_of(context: RequestContext) -> str:
    """Return path and query as they are written for the other node: below no prefix, keyless."""
    # From the path as it was matched here, so that the other node matches the same.
    path = quote(context.path, safe=UNQUOTED)
    query = query_without_keys(context.query)
    return f"{path}?{query}" if query else path


def query_without_keys(query: bytes) -> str:
    """Return a query, its fields of credentials without their values."""
    fields = query.decode("latin-1").split("&")
    without = [
        f"{name}=" if unquote_plus(name) in CREDENTIAL_FIELDS else field
        for field in fields
        for name in [field.partition("=")[0]]
    ]
    return quote("&".join(without).encode("latin-1"), safe=UNQUOTED + "%?")


def headers_of(context: RequestContext) -> tuple[tuple[str, str], ...]:
    """Return the headers that travel, as text of latin-1."""
    return tuple(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in context.scope["headers"]
        if name in TRAVELLING_HEADERS
    )
