"""Where the gateway may connect on a client's word."""

import asyncio
from ipaddress import ip_network

import pytest

from frontdesk.gateway.errors import AddressRefused
from frontdesk.gateway.ssrf import AddressGuard, resolve
from gateway.requirements import covers

REFUSED = [
    "127.0.0.1", "127.8.9.10", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1",
    "169.254.169.254", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1",
    "::1", "::", "fe80::1", "fe80::1%lo", "fc00::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::",
    "2001:0:1::1", "not an address",
]  # fmt: skip


def resolving(*answers):
    """A resolver that gives each answer once, the last one for ever."""
    left = list(answers)

    async def resolver(host, port):
        return left.pop(0) if len(left) > 1 else left[0]

    return resolver


@covers("callbacks.private-refused")
@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address):
    assert not AddressGuard().allows(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_a_public_address_is_allowed(address):
    assert AddressGuard().allows(address)


@covers("callbacks.private-refused")
def test_the_operator_allows_networks_and_no_more():
    guard = AddressGuard([ip_network("10.0.0.0/8")])
    assert guard.allows("10.9.9.9")
    assert guard.allows("::ffff:10.9.9.9")
    assert not guard.allows("127.0.0.1")


@covers("callbacks.private-refused")
def test_one_private_address_among_public_ones_refuses_the_name():
    guard = AddressGuard(resolve=resolving(["93.184.215.14", "127.0.0.1"]))
    with pytest.raises(AddressRefused, match="may not be called"):
        asyncio.run(guard.target("https://tools.example/x"))


@covers("callbacks.pinned")
def test_the_address_to_connect_to_is_the_one_that_was_judged():
    guard = AddressGuard(resolve=resolving(["93.184.215.14"], ["127.0.0.1"]))
    target = asyncio.run(guard.target("https://tools.example/x?y=1"))
    assert target.address == "93.184.215.14"
    with pytest.raises(AddressRefused):
        asyncio.run(guard.target("https://tools.example/x?y=1"))


@pytest.mark.parametrize(
    "url",
    ["ftp://a/", "file:///etc/passwd", "gopher://a", "//a/b", "a", "", "http://", "http://:80/",
     "http://user:pw@example.com/", "http://a:99999/", "http://[::1", "http://a\n.b/",
     "javascript:alert(1)", "http://exa mple.com/"],
)  # fmt: skip
def test_what_is_no_plain_http_url_is_refused(url):
    with pytest.raises(AddressRefused):
        asyncio.run(AddressGuard(resolve=resolving(["93.184.215.14"])).target(url))


@pytest.mark.parametrize(
    "url",
    ["http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0/", "http://[::1]/",
     "http://localhost/", "http://127.0.0.1.:80/"],
)  # fmt: skip
def test_other_ways_to_write_loopback_are_found_out_by_resolving(url):
    with pytest.raises(AddressRefused):
        asyncio.run(AddressGuard().target(url))


def test_a_name_that_does_not_resolve_has_no_addresses():
    assert asyncio.run(resolve("does-not-exist.invalid", 80)) == []
