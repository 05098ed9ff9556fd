"""Bytes as text that goes into an address: base64 with `-` and `_`, without padding (RFC 4648, 5).

`base64.urlsafe_b64decode` also takes `+` and `/` and drops what it does not know, and CPython 3.15
warns of both; here each text has one meaning, or none.
"""

from __future__ import annotations

import base64
import binascii

__all__ = ["decoded", "encoded"]


def encoded(content: bytes) -> str:
    """Return bytes as text."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """Return the bytes that a text stands for; `ValueError` for any other text."""
    plain = text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4)
    content = binascii.a2b_base64(plain)
    if encoded(content) != text:
        raise ValueError("not in the alphabet of base64url, or not as it is written")
    return content
