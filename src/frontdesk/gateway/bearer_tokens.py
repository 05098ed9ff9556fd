"""Bearer tokens of the operator's identity provider (JWT): a caller like a key.

Above `identity_provider.py`, below `auth.py`. PyJWT verifies the signature, issuer and audience;
times are held against the gateway's clock. What the claims say is only taken where it could stand
on a key: a tenant, a subject that the meter can show, scopes that there are. Everything else is no
token, and nobody is told why but the operator, in the log.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Mapping
from typing import Any

import jwt

from frontdesk.agents.ids import TENANT_ID
from frontdesk.gateway.auth_settings import JwtSettings
from frontdesk.gateway.callers import Caller
from frontdesk.gateway.errors import IdentityProviderUnavailable
from frontdesk.gateway.identity_provider import IdentityProvider
from frontdesk.gateway.scopes import KeyScope
from frontdesk.gateway.signing_keys import SigningKey

MAX_BEARER_CHARACTERS = 8192
MAX_SUBJECT_CHARACTERS = 200
CLOCK_SKEW_MS = 10_000
"""How far ahead the provider's clock may be: for `nbf` and `iat`. `exp` counts to the second."""

MAX_TIME_S = 2**53

_FORM = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_OPTIONS = {
    "require": ["exp", "iss", "aud"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}
"""The times are checked here: by the clock that everything else goes by."""

logger: logging.Logger = logging.getLogger("frontdesk.auth")


class BearerTokens:
    """Tell who shows a token of an identity provider."""

    __slots__ = ("_provider", "_settings")

    def __init__(self, settings: JwtSettings, provider: IdentityProvider) -> None:
        self._settings, self._provider = settings, provider

    def lacks_key_of(self, token: str) -> bool:
        """Say whether a token may be by a key that is not known, and `fetch` may help."""
        head = self._head_of(token)
        return head is not None and not self._provider.keys_for(*head)

    def fetch(self) -> Awaitable[object] | None:
        """Return what to wait for until there are newer keys, None where none will come now."""
        return self._provider.fetch()

    def caller_of(self, token: str, *, now_ms: int) -> Caller | None:
        """Return who shows a token; None where it is none that opens anything.

        Raises `IdentityProviderUnavailable` where that cannot be known now. Costs a signature.
        """
        head = self._head_of(token)
        if head is None:
            return None
        keys = self._provider.keys_for(*head)
        if not keys and self._provider.unreachable:
            raise IdentityProviderUnavailable
        for key in keys:
            try:
                return self._caller(self._claims_of(token, key, head[1]), key, now_ms=now_ms)
            except (jwt.PyJWTError, ValueError) as error:
                logger.debug("a bearer token opens nothing: %s", error)
        return None

    def holds(self, signing_key: str) -> bool:
        """Say whether tokens of a key of the provider's still count."""
        return self._provider.knows(signing_key)

    # -- within ----------------------------------------------------------------------------------

    def _head_of(self, token: str) -> tuple[str | None, str] | None:
        """Return which key a token names and how it is signed, None where it is none of ours."""
        if len(token) > MAX_BEARER_CHARACTERS or not _FORM.fullmatch(token):
            return None
        try:
            head = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError):
            return None
        key_id, algorithm = head.get("kid"), head.get("alg")
        # What it calls critical would have to be understood, and none of it is.
        if algorithm not in self._settings.algorithms or "crit" in head:
            return None
        return key_id, algorithm

    def _claims_of(self, token: str, key: SigningKey, algorithm: str) -> Mapping[str, Any]:
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key.public_key,
            algorithms=[algorithm],
            issuer=self._settings.issuer,
            audience=self._settings.audience,
            options=_OPTIONS,  # type: ignore[arg-type]  # a plain dict of the documented names
        )
        return claims

    def _caller(self, claims: Mapping[str, Any], key: SigningKey, *, now_ms: int) -> Caller:
        """Return who the claims speak of; `ValueError` where they could not stand on a key."""
        expires_at = _time_of(claims, "exp")
        begins = [_time_of(claims, name) for name in ("nbf", "iat") if name in claims]
        if now_ms >= expires_at:
            raise ValueError("its time is over")
        if any(at > now_ms + CLOCK_SKEW_MS for at in begins):
            raise ValueError("its time is still to come")
        tenant = self._claim(claims, self._settings.tenant_claim)
        if not isinstance(tenant, str) or not re.fullmatch(TENANT_ID, tenant):
            raise ValueError("its tenant is none")
        subject = self._claim(claims, self._settings.subject_claim)
        if not isinstance(subject, str) or not subject.isprintable():
            raise ValueError("its subject is none")
        if not 0 < len(subject) <= MAX_SUBJECT_CHARACTERS:
            raise ValueError("its subject is too long, or empty")
        return Caller(
            # With its tenant: of two tenants' subjects of one name, neither is the other.
            f"jwt:{tenant}/{subject}",
            tenant,
            self._scopes_of(claims),
            expires_at,
            signing_key=key.fingerprint,
        )

    def _scopes_of(self, claims: Mapping[str, Any]) -> frozenset[KeyScope]:
        """Return those of its scopes that are ours; a token that says none may do nothing."""
        said = self._claim(claims, self._settings.scopes_claim)
        words = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
        ours = {f"{self._settings.scopes_prefix}{scope}": scope for scope in KeyScope}
        return frozenset(ours[word] for word in words if isinstance(word, str) and word in ours)

    def _claim(self, claims: Mapping[str, Any], name: str) -> Any:
        """Return a claim by its name, else by the path that its dots make."""
        if name in claims:
            return claims[name]
        found: Any = claims
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found


def _time_of(claims: Mapping[str, Any], name: str) -> int:
    """Return a time of a token's, in ms; `ValueError` where it is none."""
    seconds = claims[name]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ValueError(f"{name} is no time")  # noqa: TRY004 - the token's mistake, not a caller's
    if not abs(seconds) <= MAX_TIME_S:  # so that what is no number is none either
        raise ValueError(f"{name} is no time")
    return int(seconds * 1000)
