"""Where the gateway may connect on a client's word: the defence against request forgery.

Below whoever calls URLs that clients named: the callback tools, and models at a client's own
`baseUrl`. A name is resolved here, every address that it has is judged, and the connection goes to
the very address that was judged: a name that resolves differently the second time is never asked a
second time. The HTTP client follows no redirect, takes nothing from the environment, and uses no
connection twice: one that was opened for one name must not serve another that shares its address.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import httpx2

from frontdesk.background import in_own_thread
from frontdesk.gateway.errors import AddressRefused
from frontdesk.gateway.tenant_slots import TenantSlots

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Coroutine[Any, Any, list[str]]]


# The registries of special-purpose addresses as IANA has them (IPv4, IPv6; RFC 6890), whole: what
# they call globally reachable among them (relays, anycast of DNS) is no place for a tool either.
# Not the standard library's `is_global`, which differs from one version of Python to the next.
SPECIAL: tuple[Network, ...] = tuple(map(ip_network, (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
    "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4",
    "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
)))  # fmt: skip
UNICAST = ip_network("2000::/3")
"""All that was ever given out of IPv6; the rest of its registry lies outside of it."""
NAT64 = ip_network("64:ff9b::/96")
ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})
"""The first half of an interface id whose second half is an IPv4 address (RFC 5214)."""

HOST = re.compile(
    rb"(?=.{1,253}\Z)(?:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*|[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?)"
)
PORTS = {"http": 80, "https": 443}

NAMES_PER_TENANT = 8
"""Names of one tenant's that are resolved at a time; more of them wait for these."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL and the address to connect to for it. The URL's host is for `Host` and for TLS."""

    url: httpx2.URL
    address: str


async def resolve(host: str, port: int) -> list[str]:
    """Return all addresses of a name, in the resolver's order."""
    # Not the loop's own way: its few threads are for everybody, and so would be a slow name.
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        found = await in_own_thread(ask, name="resolve", daemon=True)
    except (OSError, UnicodeError):  # the latter for what the codec of host names refuses
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class AddressGuard:
    """Say where a URL may be called. `allow` are networks that are called though not public."""

    __slots__ = ("_allow", "_resolve", "_slots")

    def __init__(self, allow: Iterable[Network] = (), *, resolve: Resolve = resolve) -> None:
        self._allow, self._resolve = tuple(allow), resolve
        self._slots = TenantSlots(NAMES_PER_TENANT)

    async def target(self, url: str, *, tenant_id: str, field: str = "callbackUrl") -> Target:
        """Return where to connect; `AddressRefused` where one of its addresses is not allowed."""
        checked = check_form(url, field=field)
        ask = partial(self._resolve, checked.raw_host.decode(), _port(checked))
        addresses = await self._slots.run(tenant_id, ask)
        if not addresses:
            raise AddressRefused(field, problem="names a host that cannot be resolved")
        if not all(self.allows(address) for address in addresses):
            raise AddressRefused(field, problem="leads to an address that may not be called")
        return Target(checked, addresses[0])

    def allows(self, address: str) -> bool:
        """Say whether an address may be called: a public one, or one of an allowed network."""
        try:
            outer: Address = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return all(
            is_public(each) or any(each in network for network in self._allow)
            for each in reached_by(outer)
        )


def is_public(address: Address) -> bool:
    """Say whether an address is one of the public Internet, and of no special purpose."""
    if isinstance(address, IPv6Address) and address not in UNICAST:
        return False
    return not any(address in network for network in SPECIAL)


def reached_by(address: Address) -> tuple[Address, ...]:
    """Return all addresses that whoever connects to this one may reach."""
    if isinstance(address, IPv4Address):
        return (address,)
    inner = IPv4Address(int(address) & 0xFFFF_FFFF)
    if address.ipv4_mapped is not None or address in NAT64:
        return (inner,)
    isatap = (int(address) >> 32) & 0xFFFF_FFFF in ISATAP
    return (address, inner) if isatap else (address,)


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


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Send each request to an address that the guard has just judged; `AddressRefused`.

    On whose behalf is said by the request's extension `tenant_id`, else by the argument. TLS is
    verified against the name, by `tls` or else by the usual authorities.
    """

    def __init__(
        self, guard: AddressGuard, *, tenant_id: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        self._guard, self._tenant_id = guard, tenant_id
        self._inner = httpx2.AsyncHTTPTransport(
            verify=tls or True,
            trust_env=False,
            limits=httpx2.Limits(max_keepalive_connections=0),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        tenant_id = request.extensions.get("tenant_id", self._tenant_id)
        target = await self._guard.target(str(request.url), tenant_id=tenant_id, field="the URL")
        # `Host` was set from the URL before; TLS is to be with the name as well.
        host = target.url.raw_host.decode()
        request.url = target.url.copy_with(host=target.address)
        request.extensions = {**request.extensions, "sni_hostname": host}
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def guarded_client(guard: AddressGuard, tenant_id: str = "") -> httpx2.AsyncClient:
    """Return a client for URLs that come from outside, from one tenant or from several."""
    return httpx2.AsyncClient(
        transport=GuardedTransport(guard, tenant_id=tenant_id),
        trust_env=False,
        follow_redirects=False,
        # One client serves all tenants: a cookie of one must never come with another's call.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )
