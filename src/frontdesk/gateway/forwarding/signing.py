"""How nodes know each other's requests: an HMAC-SHA256 over all that travels.

Above the claims. Pure: bytes in, claims or a refusal out; time and the memory of nonces are given.
Method, target and the body's hash are among the claims, so one signature covers the request. It is
good for the incarnation that it names, near its time, and once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

import msgspec

from frontdesk.clock import Clock
from frontdesk.gateway import urlsafe_text
from frontdesk.gateway.callers import NO_SECRET
from frontdesk.gateway.forwarding.claims import HopClaims
from frontdesk.gateway.forwarding.nonces import SeenNonces

MAX_CLOCK_DIFFERENCE_S = 30.0
"""How far the clocks of two nodes may be apart, travelling included."""
MAX_ENVELOPE_CHARACTERS = 256 * 1024
HEADER = b"x-frontdesk-hop"
"""Carries the signed claims; in an answer, that it is the node's own and not the session's."""


class HopRefused(Exception):
    """A request that is not known to be another node's. `problem` is for the log and that node."""

    problem: str

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class HopSigner:
    """Sign requests to other nodes, and tell theirs. Both cost one HMAC.

    `secret` is that of all nodes, from which this derives a key of its own.
    """

    __slots__ = ("_clock", "_key", "_seen", "_tag_key")

    def __init__(self, secret: bytes, *, clock: Clock) -> None:
        self._key = hmac.digest(secret, b"node-to-node", hashlib.sha256)
        self._tag_key = hmac.digest(secret, b"node-to-node secret tags", hashlib.sha256)
        self._clock = clock
        self._seen = SeenNonces(for_s=2 * MAX_CLOCK_DIFFERENCE_S + 1)

    def now_ms(self) -> int:
        """Return the time that a request is stamped with."""
        return self._clock.wall_ms()

    def sign(self, claims: HopClaims) -> bytes:
        """Return the claims with their signature, as a header carries them."""
        content = msgspec.json.encode(claims)
        signature = hmac.digest(self._key, content, hashlib.sha256)
        return f"{urlsafe_text.encoded(content)}.{urlsafe_text.encoded(signature)}".encode()

    def verify(self, envelope: bytes, *, method: str, target: str) -> HopClaims:
        """Return the claims of a request; raises `HopRefused`.

        Whom it is for, and the body, are still to be compared: the body comes later.
        """
        claims = self._signed(envelope)
        now_ms = self._clock.wall_ms()
        if abs(now_ms - claims.at_ms) > MAX_CLOCK_DIFFERENCE_S * 1000:
            raise HopRefused(
                f"it is of a time more than {MAX_CLOCK_DIFFERENCE_S:g} s from here: set the clocks"
            )
        if now_ms > claims.deadline_ms:
            raise HopRefused("its deadline is over")
        if (claims.method, claims.target) != (method, target):
            raise HopRefused("it is signed for something else")
        if not self._seen.add(claims.nonce, now_s=self._clock.monotonic()):
            raise HopRefused("it has come before, or too many have")
        return claims

    def _signed(self, envelope: bytes) -> HopClaims:
        if len(envelope) > MAX_ENVELOPE_CHARACTERS:
            raise HopRefused("it is too long")
        content, _, signature = envelope.partition(b".")
        try:
            signed = urlsafe_text.decoded(content.decode("ascii"))
            given = urlsafe_text.decoded(signature.decode("ascii"))
        except ValueError:
            raise HopRefused("it is not signed") from None
        if not hmac.compare_digest(hmac.digest(self._key, signed, hashlib.sha256), given):
            raise HopRefused("it is not signed by a node of this cluster")
        try:
            return msgspec.json.decode(signed, type=HopClaims)
        except ValueError:
            # Signed by one of us: by another version.
            raise HopRefused("it is of a form that this version does not know") from None

    def secret_tag(self, digest: bytes) -> str:
        """Return what names a secret's hash to who knows that hash, and tells nobody else."""
        if digest == NO_SECRET:
            return ""
        return hmac.digest(self._tag_key, digest, hashlib.sha256).hex()

    def is_tag_of(self, secret_tag: str, digest: bytes) -> bool:
        """Say whether a tag names this hash."""
        return hmac.compare_digest(self.secret_tag(digest).encode(), secret_tag.encode())


def fresh_nonce() -> str:
    """Return a nonce from a secure source."""
    return secrets.token_urlsafe(16)


def digest_of_body(body: bytes) -> str:
    """Return the hash of a body, as claims have it."""
    return hashlib.sha256(body).hexdigest()
