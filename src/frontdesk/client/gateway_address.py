"""Which gateway, and by which key: from what is given, or else from the environment.

A key is read once, and leaves this module in one header only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from frontdesk.errors import InvalidArgument

DEFAULT_URL = "http://127.0.0.1:4000"
URL_VARIABLE, KEY_VARIABLE = "FRONTDESK_URL", "FRONTDESK_KEY"
INSECURE_VARIABLE = "FRONTDESK_INSECURE"
MAX_KEY_BYTES = 16 * 1024
KEY = re.compile(r"[!-~]+")
"""What a header can carry as one word."""


@dataclass(frozen=True, slots=True)
class GatewayAddress:
    """A gateway's address, without a slash at its end, and the key that is shown to it.

    The key is in no repr.
    """

    url: str
    key: str | None = field(repr=False)
    loopback: bool

    @classmethod
    def of(
        cls,
        url: str | None,
        *,
        key: str | None,
        key_file: str | os.PathLike[str] | None,
        insecure: bool,
    ) -> GatewayAddress:
        """Return where to, by what; `InvalidArgument` for what cannot be, or should not.

        A key goes over plain `http` to this machine only, unless `insecure`: on the way to another
        one everybody could read it.
        """
        url = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            host, parts = "", urlsplit("")
        plain = parts.username is None and not (parts.query or parts.fragment)
        if parts.scheme not in ("http", "https") or not host or not plain:
            # It may hold a password: it is not repeated.
            expected = "an address such as https://agents.example.com, without a password or query"
            raise InvalidArgument("url", expected=expected, got="something else")
        found, loopback = _key_of(key, key_file), _is_loopback(host)
        insecure = insecure or os.environ.get(INSECURE_VARIABLE) == "1"
        if found is not None and parts.scheme == "http" and not (loopback or insecure):
            expected = (
                "https where a key goes to another machine (or insecure=True, or "
                f"{INSECURE_VARIABLE}=1: everybody on the way can read it)"
            )
            raise InvalidArgument("url", expected=expected, got=f"http to {host[:100]!r}")
        return cls(url, found, loopback)

    @property
    def headers(self) -> Mapping[str, str]:
        """Return what every request shows."""
        if self.key is None:
            return MappingProxyType({})
        return MappingProxyType({"Authorization": f"Bearer {self.key}"})


def _key_of(key: str | None, key_file: str | os.PathLike[str] | None) -> str | None:
    if key is not None and key_file is not None:
        raise InvalidArgument("key", expected="either key or key_file", got="both")
    if key_file is not None:
        try:
            with Path(key_file).open(encoding="utf-8") as file:
                key = file.read(MAX_KEY_BYTES)
        except (OSError, ValueError) as error:
            problem = error.strerror if isinstance(error, OSError) else "no text"
            expected = "a file with a key in it"
            raise InvalidArgument("key_file", expected=expected, got=problem or "none") from None
    elif key is None:
        key = os.environ.get(KEY_VARIABLE) or None
        if key is None:
            return None
    if not KEY.fullmatch(key.strip()):
        where = "key" if key_file is None else "key_file"
        expected = "a key: one word of printable ASCII"
        raise InvalidArgument(
            where, expected=expected, got=f"{len(key)} characters of another kind"
        )
    return key.strip()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
