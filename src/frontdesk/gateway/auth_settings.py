"""How callers show who they are, beyond keys: the settings under `[auth]`.

Beside `settings.py`, which has the other tables.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from frontdesk.errors import MissingExtra
from frontdesk.gateway.setting_types import Seconds, Setting, Table, matching

MAX_TOKEN_TTL_S = 30 * 86_400

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


def is_loopback(url: str) -> bool:
    """Say whether a URL leads to this machine by its own words."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


ClaimName = Annotated[str, Field(min_length=1, max_length=256)]


class JwtSettings(Table):
    """The operator's identity provider, whose bearer tokens let in."""

    issuer: Annotated[str, Field(min_length=1), Setting("what `iss` has to be, as it is")]
    audience: Annotated[str, Field(min_length=1), Setting("what `aud` has to be, or to have")]
    keys_url: Annotated[
        str | None,
        matching(r"https?://[^/?#\s@]{1,253}(/\S{0,2000})?", "must be a URL of https"),
        Setting("where the provider's keys are (JWK set); https, or this machine"),
    ] = None
    keys_file: Annotated[
        Path | None,
        Setting("or a file with them: a JWK set, or a public key in PEM. Read again at a reload"),
    ] = None
    algorithms: Annotated[
        tuple[Algorithm, ...],
        Field(min_length=1),
        Setting("what tokens may be signed by; each key only by what its kind does"),
    ] = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
    tenant_claim: Annotated[
        ClaimName, Setting("the claim that is the tenant; dots lead into objects")
    ] = "tenant"
    subject_claim: Annotated[ClaimName, Setting("the claim that is the subject")] = "sub"
    scopes_claim: Annotated[
        ClaimName, Setting("the claim with the scopes, between blanks or as a list")
    ] = "scope"
    scopes_prefix: Annotated[
        str, Field(max_length=256), Setting("what stands before a scope of ours: `frontdesk:`")
    ] = ""
    refresh_s: Annotated[
        Seconds, Setting("between two fetches of the keys, where nothing asks for one")
    ] = 300.0

    @model_validator(mode="after")
    def _can_be_used(self) -> JwtSettings:
        if (self.keys_url is None) is (self.keys_file is None):
            raise ValueError("takes keys_url or keys_file, one of them")
        try:
            import frontdesk.gateway.signing_keys  # noqa: F401 - whether its extra is there
        except MissingExtra as error:
            raise ValueError(str(error)) from None
        url = self.keys_url or ""
        if url.startswith("http://") and not is_loopback(url):
            raise ValueError("keys_url must be https: whoever is on the way could sign, else")
        return self


class AuthSettings(Table):
    """Session tokens, and the bearer tokens of an identity provider."""

    token_ttl_s: Annotated[
        int,
        Field(gt=0, le=MAX_TOKEN_TTL_S),
        Setting(
            "the longest life of a session token, and that of one that asks for none", reload=True
        ),
    ] = 3600
    jwt: Annotated[
        JwtSettings | None,
        Setting("a table of its own, [below](#authjwt): an identity provider's bearer tokens"),
    ] = None
