"""Where the gateway may connect on a client's word."""

import asyncio
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        asyncio.run(guard.target("https://tools.example/x", tenant_id="t"))


@covers("callbacks.pinned")
def test_the_address_to_connect_to_is_the_one_that_was_judged():
    guard = AddressGuard(resolve=resolving(["93.184.215.14"], ["127.0.0.1"]))
    target = asyncio.run(guard.target("https://tools.example/x?y=1", tenant_id="t"))
    assert target.address == "93.184.215.14"
    with pytest.raises(AddressRefused):
        asyncio.run(guard.target("https://tools.example/x?y=1", tenant_id="t"))


@pytest.mark.parametrize(
    "url",
    ["ftp://a/", "file:///etc/passwd", "gopher://a", "//a/b", "a", "", "http://", "http://:80/",
     "http://user:pw@example.com/", "http://a:99999/", "http://[::1", "http://a\n.b/",
     "javascript:alert(1)", "http://exa mple.com/"],
)  # fmt: skip
def test_what_is_no_plain_http_url_is_refused(url):
    with pytest.raises(AddressRefused):
        asyncio.run(AddressGuard(resolve=resolving(["93.184.215.14"])).target(url, tenant_id="t"))


@pytest.mark.parametrize(
    "url",
    ["http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0/", "http://[::1]/",
     "http://localhost/", "http://127.0.0.1.:80/"],
)  # fmt: skip
def test_other_ways_to_write_loopback_are_found_out_by_resolving(url):
    with pytest.raises(AddressRefused):
        asyncio.run(AddressGuard().target(url, tenant_id="t"))


def test_a_name_that_does_not_resolve_has_no_addresses():
    assert asyncio.run(resolve("does-not-exist.invalid", 80)) == []


# -- the registries of special-purpose addresses, block by block ---------------------------------

BLOCKS = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
    "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4",
    "::1/128", "::/128", "::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23",
    "2001::/32", "2001:1::1/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28",
    "2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
    "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
]  # fmt: skip
# First and last address outside, where what is next to a block is public.
OUTSIDE = [
    "1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
    "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0", "192.0.1.255", "192.0.3.0", "192.31.195.255", "192.31.197.0", "192.167.255.255",
    "192.169.0.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0",
    "203.0.112.255", "203.0.114.0", "223.255.255.255", "2000::", "2001:200::",
    "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::", "2003::",
    "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2620:4f:7fff:ffff::", "2620:4f:8001::",
    "3ffe:ffff::", "3fff:1000::",
]  # fmt: skip


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_of_special_purpose_is_refused_from_its_first_address_to_its_last(block):
    network = ip_network(block)
    middle = network[network.num_addresses // 2]
    for address in (network[0], middle, network[-1]):
        assert not AddressGuard().allows(str(address)), address


@pytest.mark.parametrize("address", OUTSIDE)
def test_what_is_next_to_a_block_is_allowed(address):
    assert AddressGuard().allows(address)


def embedded(address):
    """Every address that stands for an IPv4 address: mapped, NAT64, and ISATAP's in any prefix."""
    number = int(IPv4Address(address))
    prefix = int(IPv6Address("2606:2800:21f:cb07::")) >> 64 << 64
    return [
        IPv6Address((0xFFFF << 32) | number),
        IPv6Address(int(IPv6Address("64:ff9b::")) | number),
        IPv6Address(prefix | (0x5EFE << 32) | number),
        IPv6Address(prefix | (0x0200_5EFE << 32) | number),
    ]


@pytest.mark.parametrize("block", [block for block in BLOCKS if "." in block])
def test_no_embedding_leads_into_a_block(block):
    network = ip_network(block)
    for inner in (network[0], network[-1]):
        number = int(inner)
        for address in (
            *embedded(inner),
            IPv6Address(number),
            IPv6Address((0x2002 << 112) | (number << 80)),
            IPv6Address((0x2001 << 112) | (number << 64) | (number ^ 0xFFFF_FFFF)),
            IPv6Address(int(IPv6Address("64:ff9b:1::")) | number),
            IPv6Address((0xFFFF << 48) | number),
        ):
            assert not AddressGuard().allows(str(address)), address


def test_an_embedding_of_a_public_address_is_allowed_where_it_reaches_nothing_else():
    assert all(AddressGuard().allows(str(address)) for address in embedded("93.184.215.14"))
    assert all(
        AddressGuard([ip_network("10.0.0.0/8")]).allows(str(a)) for a in embedded("10.1.2.3")
    )


# -- host names ----------------------------------------------------------------------------------

HOSTS = [
    "a..b", ".a", "..", ".", "a" * 64 + ".example", "a." * 127 + "ab", "x" * 254, "-", "a.b..",
    "xn--a", "xn--" + "a" * 60, "ä..b", "ä" * 64, "\u3002", "a\u3002\u3002b", "[", "[]",
    "[::", "%00",
    "a%2Eb", "0x", "1.2.3.4.5", "256.256.256.256", "[::ffff:1.2.3.4.5]", "[fe80::1%25lo]", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("port", ["", ":", ":0", ":65536", ":x", ":-1"])
def test_an_odd_host_is_refused_and_no_failure_of_ours(host, port):
    with pytest.raises(AddressRefused):
        asyncio.run(AddressGuard(resolve=not_there).target(f"http://{host}{port}/", tenant_id="t"))


async def not_there(host, port):
    # As the resolver's codec would fail, without asking a server for a name.
    host.encode("idna")
    return []


@given(st.text())
def test_no_text_at_all_in_the_place_of_a_host_or_url_is_a_failure_of_ours(text):
    async def scenario():
        for url in (text, f"http://{text}", f"http://{text}/", f"https://a:{text}/", f"{text}://a"):
            with pytest.raises(AddressRefused):
                await AddressGuard(resolve=not_there).target(url, tenant_id="t")

    asyncio.run(scenario())


@pytest.mark.parametrize("host", ["a..b", "a" * 64, ".a", "\udcff"])
def test_a_name_that_the_resolver_cannot_write_has_no_addresses(host):
    assert asyncio.run(resolve(host, 80)) == []
