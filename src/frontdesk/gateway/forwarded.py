"""Whose request it is, where proxies stand in between.

Below the middleware. A forwarding header is only believed from a peer that the operator trusts, and
then read from its end: the last entry was added by that peer, the one before by whoever it got the
request from, and so on for as long as those are trusted too. It knows nothing but addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

FORWARDED_FOR = re.compile(r'(?:^|;)\s*for="?(\[[^\]]*\]|[^";]*)', re.IGNORECASE)
MAX_HOPS = 32
MAPPED = "::ffff:"


class TrustedProxies:
    """Find the client's address behind the proxies of these networks."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks = tuple(networks)

    def client_of(self, scope: Mapping[str, Any]) -> str:
        """Return the address of the client of an ASGI scope; `-` where it is not known."""
        peer = scope.get("client")
        if not peer:
            return "-"
        address = str(peer[0])
        if address.startswith(MAPPED) and "." in address:
            # A listener on `::` shows IPv4 clients as `::ffff:9.9.9.9`.
            address = address[len(MAPPED) :]
        if not self._networks or not self._trusts(address):
            return address
        forwarded = _joined(scope["headers"], b"forwarded")
        matches = [FORWARDED_FOR.search(part) for part in forwarded.split(",") if forwarded]
        x_forwarded_for = _joined(scope["headers"], b"x-forwarded-for")
        # A proxy writes one of the two headers and lets the client's own other one pass: where
        # they disagree, nobody can tell which is the proxy's, and neither is believed.
        chains = (
            [match.group(1) if match else "" for match in matches],
            x_forwarded_for.split(",") if x_forwarded_for else [],
        )
        clients = {self._first_untrusted(address, hops) for hops in chains if hops}
        return clients.pop() if len(clients) == 1 else address

    def _first_untrusted(self, peer: str, hops: Sequence[str]) -> str:
        client = peer
        for hop in reversed(hops[-MAX_HOPS:]):
            address = _parsed(hop)
            if address is None:
                return client
            client = str(address)
            if not self._trusts(client):
                return client
        return client

    def _trusts(self, text: str) -> bool:
        address = _parsed(text)
        return address is not None and any(address in network for network in self._networks)


def _joined(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> str:
    return ",".join(value.decode("latin-1") for key, value in headers if key == name)


def _parsed(text: str) -> Address | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
