"""The keys that an identity provider signs with, as it publishes them: a JWK set, or one PEM.

Below `identity_provider.py`, which gets the text, and `bearer_tokens.py`, which verifies with them.
Only public keys of asymmetric algorithms are taken, each for the algorithms of its own kind: so no
token chooses how it is verified, and no public key is ever the secret of an HMAC.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from frontdesk.agents.values import TooManyValues, read_json
from frontdesk.errors import MissingExtra

try:
    import jwt
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
except ImportError as _missing:
    raise MissingExtra(
        "jwt", part="bearer tokens ([auth.jwt])", missing=_missing.name or "PyJWT"
    ) from _missing

MAX_SIGNING_KEYS = 100
MIN_RSA_BITS = 2048

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_BY_CURVE: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "secp256r1": frozenset({"ES256"}),
        "secp384r1": frozenset({"ES384"}),
        "secp521r1": frozenset({"ES512"}),
    }
)
_EDWARDS = frozenset({"EdDSA"})
_ALGORITHMS = _RSA.union(_EDWARDS, *_BY_CURVE.values())


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key: its id where it has one, what it verifies, and what names it for good."""

    key_id: str | None
    algorithms: frozenset[str]
    public_key: Any = field(repr=False)
    fingerprint: str

    def fits(self, key_id: str | None, algorithm: str) -> bool:
        """Say whether a token with these words in its head may be by this key."""
        named = key_id is None or self.key_id is None or self.key_id == key_id
        return named and algorithm in self.algorithms


def signing_keys_of(text: bytes) -> tuple[SigningKey, ...]:
    """Return the keys of a JWK set, or of a public key in PEM, that can be used for signatures.

    Others are left out: of other kinds, for encryption, private, RSA of less than 2,048 bits.
    Raises `ValueError` where the text is neither.
    """
    if text.lstrip().startswith(b"-----BEGIN"):
        try:
            key = _signing_key(serialization.load_pem_public_key(text.strip()), {})
        except (UnsupportedAlgorithm, ValueError):
            key = None
        if key is None:
            raise ValueError("the PEM is no public key of a kind that is used here")
        return (key,)
    try:
        document = read_json(text)
    except (TooManyValues, RecursionError):
        raise ValueError("it has too many values") from None
    match document:
        case {"keys": [*listed]}:
            pass
        case _:
            raise ValueError("it is neither a JWK set nor a public key in PEM")
    if len(listed) > MAX_SIGNING_KEYS:
        raise ValueError(f"it has more than {MAX_SIGNING_KEYS} keys")
    return tuple(key for jwk in listed if (key := _key_of_jwk(jwk)) is not None)


def _key_of_jwk(jwk: Any) -> SigningKey | None:
    # A private member would be a key that its owner has lost.
    if not isinstance(jwk, dict) or jwk.get("kty") not in ("RSA", "EC", "OKP") or "d" in jwk:
        return None
    # Compared, not looked up: whatever is written there.
    if "alg" in jwk and not any(jwk["alg"] == each for each in _ALGORITHMS):
        return None
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list):
        return None
    if "verify" not in operations:
        return None
    try:
        public_key = jwt.PyJWK(jwk).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return _signing_key(public_key, jwk)


def _signing_key(public_key: Any, jwk: Mapping[str, Any]) -> SigningKey | None:
    algorithms: frozenset[str] = frozenset()
    if isinstance(public_key, rsa.RSAPublicKey) and public_key.key_size >= MIN_RSA_BITS:
        algorithms = _RSA
    elif isinstance(public_key, ec.EllipticCurvePublicKey):
        algorithms = _BY_CURVE.get(public_key.curve.name, frozenset())
    elif isinstance(public_key, ed25519.Ed25519PublicKey):
        algorithms = _EDWARDS
    if "alg" in jwk:
        algorithms &= {str(jwk["alg"])}
    if not algorithms:
        return None
    content = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key_id = jwk.get("kid")
    return SigningKey(
        key_id if isinstance(key_id, str) else None,
        algorithms,
        public_key,
        hashlib.sha256(content).hexdigest()[:32],
    )
