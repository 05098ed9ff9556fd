"""Who is logged in to the dashboard: a signed cookie in place of a key, for browsers alone.

Above the ring of keys, below `auth.py`. The cookie says which key it stands for and until when, and
is signed; nothing is kept of it. It ends with its time and with the secret that it was made with,
whose hash is among what is signed, and it is good on every node, as they share what signs it.

A browser adds a cookie to whatever a page asks for, so one counts only where the browser says that
the page is ours, and for changes only with a header that no page of others can send. The page
itself can read neither cookie nor key.
"""

from __future__ import annotations

import hashlib
import hmac
from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec

from frontdesk.gateway import urlsafe_text
from frontdesk.gateway.callers import Caller
from frontdesk.gateway.key_ring import KeyRing
from frontdesk.gateway.keys import Key
from frontdesk.gateway.request_context import RequestContext

LOGIN_S = 12 * 3600
SECURE_NAME, PLAIN_NAME = "__Host-frontdesk", "frontdesk"
"""With TLS; and without, on this machine alone. (A prefix as of RFC 6265bis, section 4.1.3.)"""
MAX_COOKIE_CHARACTERS = 1024
OURS = b"x-frontdesk"
"""A header that another origin's page cannot send: browsers would ask first, and are told no."""


class _Claims(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a cookie says. Positions count: fields are only ever added at the end."""

    key_id: str
    expires_at: int


class DashboardLogins:
    """Make cookies, and tell who shows one. Both cost one HMAC-SHA256."""

    __slots__ = ("_ring", "_secret")

    def __init__(self, ring: KeyRing, *, master_secret: bytes) -> None:
        self._ring = ring
        self._secret = hmac.digest(master_secret, b"dashboard-logins", hashlib.sha256)

    def make(self, caller: Caller, *, now_ms: int) -> tuple[str, int]:
        """Return a cookie's value for a key that was shown, and when it ends."""
        expires_at = min(now_ms + LOGIN_S * 1000, caller.expires_at or now_ms + LOGIN_S * 1000)
        said = msgspec.json.encode(_Claims(caller.key_id, expires_at))
        signed = self._signature(said, caller.digest)
        return f"{urlsafe_text.encoded(said)}.{urlsafe_text.encoded(signed)}", expires_at

    def caller_of(self, value: str, *, now_ms: int) -> Caller | None:
        """Return who shows a cookie; None where it is none of ours, or has ended."""
        if len(value) > MAX_COOKIE_CHARACTERS:
            return None
        said, _, signed = value.partition(".")
        try:
            content, signature = urlsafe_text.decoded(said), urlsafe_text.decoded(signed)
            claims = msgspec.json.decode(content, type=_Claims)
        except ValueError:
            return None
        key = self._ring.named(claims.key_id)
        if key is None or now_ms >= claims.expires_at:
            return None
        for digest in key.digests(now_ms):
            if hmac.compare_digest(self._signature(content, digest), signature):
                return _until(Caller.with_key(key, digest=digest), claims.expires_at)
        return None

    def _signature(self, content: bytes, digest: bytes) -> bytes:
        return hmac.digest(self._secret, digest + b"\0" + content, hashlib.sha256)


class LoginCodes:
    """What a development run prints in its links: each opens for one key, while the run lives.

    As often as it is shown: whoever sees the terminal sees the keys beside it.
    """

    __slots__ = ("_by_digest",)

    def __init__(self) -> None:
        self._by_digest: dict[bytes, Key] = {}

    def add(self, code: str, key: Key) -> None:
        """Let a code open for a key."""
        self._by_digest[hashlib.sha256(code.encode()).digest()] = key

    def find(self, code: str) -> Key | None:
        """Return the key that a code opens for."""
        return self._by_digest.get(hashlib.sha256(code.encode()).digest())


def _until(caller: Caller, expires_at: int) -> Caller:
    return Caller(caller.key_id, caller.tenant_id, caller.scopes, expires_at, digest=caller.digest)


def cookie_name(base_url: str | None) -> str | None:
    """Return the name of the cookie under a URL of the gateway; None where it would not be safe.

    Without TLS it travels in clear, so it is for loopback only.
    """
    try:
        parts = urlsplit(base_url or "")
        if parts.scheme == "https":
            return SECURE_NAME
        host = parts.hostname or ""
        local = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        # A host that is no address, or nothing of the kind.
        return None
    return PLAIN_NAME if local else None


def from_own_page(context: RequestContext) -> bool:
    """Say whether it is the dashboard's own page that asks, by what the browser says of it.

    Another page of the same machine is `same-site`. What changes something has a header of ours.
    """
    if context.header(b"sec-fetch-site") != "same-origin":
        return False
    return context.method in ("GET", "HEAD") or context.header(OURS) is not None


def cookie_in(context: RequestContext, base_url: str | None) -> str | None:
    """Return the login that a request brings, None where it brings none that counts.

    On a WebSocket none does: it changes things, and no page can give it a header.
    """
    name = cookie_name(base_url)
    if name is None or context.websocket or not from_own_page(context):
        return None
    # Not `http.cookies`, which gives up at the first one of another program that it cannot read.
    for each in (context.header(b"cookie") or "").split(";"):
        given, _, value = each.strip().partition("=")
        if given == name:
            return value
    return None


def set_cookie(name: str, value: str, *, max_age_s: int) -> str:
    """Return the header that sets the cookie; with an age of 0, that takes it away."""
    secure = "; Secure" if name == SECURE_NAME else ""
    return f"{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}"
