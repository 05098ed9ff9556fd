"""Whose request it is, where proxies stand in between.

Below the middleware. A forwarding header is only believed from a peer that the operator trusts, and
then read from its end: the last entry was added by that peer, the one before by whoever it got the
request from, and so on for as long as those are trusted too. The same entry says under which
scheme, host and prefix the client asked, which is what links in answers go by.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from frontdesk.gateway.http_framing import HOST

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

FORWARDED_FOR = re.compile(r'(?:^|;)\s*for="?(\[[^\]]*\]|[^";]*)', re.IGNORECASE)
FORWARDED_PROTO = re.compile(r'(?:^|;)\s*proto="?([^";]*)', re.IGNORECASE)
FORWARDED_HOST = re.compile(r'(?:^|;)\s*host="?([^";]*)', re.IGNORECASE)
SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
PREFIX = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)+")
MAX_HOPS = 32
MAPPED = "::ffff:"


class TrustedProxies:
    """Find the client's address behind the proxies of these networks."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks = tuple(networks)

    def client_of(self, scope: Mapping[str, Any]) -> str:
        """Return the address of the client of an ASGI scope; `-` where it is not known."""
        address = _peer_of(scope)
        if not self._networks or not self._trusts(address):
            return address
        clients = {
            self._chain(address, hops)[-1]
            for hops in _both(scope, FORWARDED_FOR, b"x-forwarded-for")
            if hops
        }
        return clients.pop() if len(clients) == 1 else address

    def base_url(self, scope: Mapping[str, Any]) -> str | None:
        """Return the URL under which the client reached the application, without a last slash.

        None where nothing says which host that is.
        """
        host = _joined(scope["headers"], b"host")
        if not host and scope.get("server"):
            host = "{}:{}".format(*scope["server"])
        if HOST.fullmatch(host.encode("latin-1")) is None:
            host = ""
        scheme = SCHEMES[scope["scheme"]]
        if self._networks and self._trusts(_peer_of(scope)):
            given = self._forwarded_value(scope, FORWARDED_PROTO, b"x-forwarded-proto").lower()
            scheme = SCHEMES.get(given, scheme)
            given = self._forwarded_value(scope, FORWARDED_HOST, b"x-forwarded-host")
            host = given if given and HOST.fullmatch(given.encode("latin-1")) else host
        return f"{scheme}://{host}{self.prefix(scope)}" if host else None

    def prefix(self, scope: Mapping[str, Any]) -> str:
        """Return what stands before the application's paths where the client asks, or ""."""
        own = str(scope.get("root_path", "")).rstrip("/")
        if not self._networks or not self._trusts(_peer_of(scope)):
            return own
        given = self._forwarded_value(scope, None, b"x-forwarded-prefix").rstrip("/")
        # The server may have been told of the proxy's prefix as well.
        return given + own if PREFIX.fullmatch(given) and not own.startswith(given) else own

    def _forwarded_value(
        self, scope: Mapping[str, Any], pattern: re.Pattern[str] | None, name: bytes
    ) -> str:
        """Return what the outermost trusted proxy says; "" for nothing, or where headers differ."""
        peer = _peer_of(scope)
        chains = [
            self._chain(peer, hops) for hops in _both(scope, FORWARDED_FOR, b"x-forwarded-for")
        ]
        given = {
            # Of the client's own hop, or of the last there is.
            values[-min(max(len(chain) - 1, 1), len(values))].strip()
            for chain, values in zip(chains, _both(scope, pattern, name), strict=True)
            if any(values)
        }
        return given.pop() if len(given) == 1 else ""

    def _chain(self, peer: str, hops: Sequence[str]) -> list[str]:
        """Return the addresses from the peer on outwards, the first that is not trusted the last.

        It ends early at what is no address.
        """
        chain = [peer]
        for hop in reversed(hops[-MAX_HOPS:]):
            address = _parsed(hop)
            if address is None or not self._trusts(chain[-1]):
                break
            chain.append(str(address))
        return chain

    def _trusts(self, text: str) -> bool:
        address = _parsed(text)
        return address is not None and any(address in network for network in self._networks)


def _peer_of(scope: Mapping[str, Any]) -> str:
    peer = scope.get("client")
    if not peer:
        return "-"
    address = str(peer[0])
    # A listener on `::` shows IPv4 clients as `::ffff:9.9.9.9`.
    mapped = address.startswith(MAPPED) and "." in address
    return address[len(MAPPED) :] if mapped else address


def _both(
    scope: Mapping[str, Any], pattern: re.Pattern[str] | None, name: bytes
) -> tuple[list[str], list[str]]:
    """Return the entries of `Forwarded` that a pattern finds, and those of the other header.

    A proxy writes one of the two and lets the client's own other one pass: where they disagree,
    nobody can tell which is the proxy's, and neither is believed.
    """
    forwarded = _joined(scope["headers"], b"forwarded") if pattern else ""
    matches = [pattern.search(part) for part in forwarded.split(",") if pattern and forwarded]
    other = _joined(scope["headers"], name)
    return [each[1] if each else "" for each in matches], other.split(",") if other else []


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
