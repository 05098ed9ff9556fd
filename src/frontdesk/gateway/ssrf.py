"""Where the gateway may connect on a client's word: the defence against request forgery.

Below the callback tools. A name is resolved here, every address that it has is judged, and the
caller connects to the very address that was judged: a name that resolves differently the second
time is never asked a second time. It connects to nothing itself.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpx2

from frontdesk.gateway.errors import AddressRefused

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]

NAT64 = ip_network("64:ff9b::/96")
HOST = re.compile(rb"[A-Za-z0-9._:-]{1,253}")
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """A URL and the address to connect to for it. The URL's host is for `Host` and for TLS."""

    url: httpx2.URL
    address: str


async def resolve(host: str, port: int) -> list[str]:
    """Return all addresses of a name, in the resolver's order."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class AddressGuard:
    """Say where a URL may be called. `allow` are networks that are called though not public."""

    __slots__ = ("_allow", "_resolve")

    def __init__(self, allow: Iterable[Network] = (), *, resolve: Resolve = resolve) -> None:
        self._allow, self._resolve = tuple(allow), resolve

    async def target(self, url: str, *, field: str = "callbackUrl") -> Target:
        """Return where to connect; `AddressRefused` where one of its addresses is not allowed."""
        checked = check_form(url, field=field)
        addresses = await self._resolve(checked.raw_host.decode(), _port(checked))
        if not addresses:
            raise AddressRefused(field, problem="names a host that cannot be resolved")
        if not all(self.allows(address) for address in addresses):
            raise AddressRefused(field, problem="leads to an address that may not be called")
        return Target(checked, addresses[0])

    def allows(self, address: str) -> bool:
        """Say whether an address may be called: a public one, or one of an allowed network."""
        try:
            judged = _meant(ip_address(address.partition("%")[0]))
        except ValueError:
            return False
        return any(judged in network for network in self._allow) or _public(judged)


def check_form(url: str, *, field: str = "callbackUrl") -> httpx2.URL:
    """Check what can be checked without resolving: scheme, host, port, no credentials."""
    try:
        parsed = httpx2.URL(url)
        usable = parsed.scheme in PORTS and bool(HOST.fullmatch(parsed.raw_host))
        usable = usable and 0 < _port(parsed) < 65_536
    except (httpx2.InvalidURL, ValueError, TypeError):
        raise AddressRefused(field, problem="is not a URL") from None
    if not usable:
        raise AddressRefused(field, problem="must be an http or https URL")
    if parsed.userinfo:
        raise AddressRefused(field, problem="must not carry credentials")
    return parsed


def _port(url: httpx2.URL) -> int:
    return PORTS[url.scheme] if url.port is None else url.port


def _meant(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, if it stands for one."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _public(address: Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved
