"""Whose request it is, where proxies stand in between."""

from ipaddress import ip_network

import pytest

from frontdesk.gateway.forwarded import TrustedProxies
from gateway.requirements import covers

TRUSTED = TrustedProxies([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


def scope(peer, *headers):
    return {"client": (peer, 1234), "headers": [(n.encode(), v.encode()) for n, v in headers]}


@covers("shutdown.proxies")
def test_a_peer_that_is_not_trusted_is_the_client_whatever_it_says():
    assert TRUSTED.client_of(scope("1.2.3.4", ("x-forwarded-for", "9.9.9.9"))) == "1.2.3.4"
    assert (
        TrustedProxies().client_of(scope("10.0.0.1", ("x-forwarded-for", "9.9.9.9"))) == "10.0.0.1"
    )


@covers("shutdown.proxies")
@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ([("x-forwarded-for", "9.9.9.9")], "9.9.9.9"),
        ([("x-forwarded-for", "6.6.6.6, 9.9.9.9, 10.0.0.2")], "9.9.9.9"),
        ([("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "9.9.9.9")], "9.9.9.9"),
        ([("x-forwarded-for", "9.9.9.9:5555")], "9.9.9.9"),
        ([("x-forwarded-for", "::ffff:9.9.9.9")], "9.9.9.9"),
        ([("forwarded", 'for=6.6.6.6, for="[2001:db8::7]:443";proto=https')], "2001:db8::7"),
        ([("forwarded", "proto=https;For=9.9.9.9, for=10.0.0.9")], "9.9.9.9"),
        ([("x-forwarded-for", "nonsense")], "10.0.0.1"),
        ([("forwarded", "for=unknown")], "10.0.0.1"),
        ([("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "9.9.9.9")], "10.0.0.1"),
        ([("forwarded", "for=9.9.9.9"), ("x-forwarded-for", "6.6.6.6, 9.9.9.9")], "9.9.9.9"),
        ([], "10.0.0.1"),
    ],
)
def test_behind_trusted_proxies_the_first_untrusted_hop_from_the_end_is_the_client(headers, client):
    assert TRUSTED.client_of(scope("10.0.0.1", *headers)) == client


@covers("keys.guessing")
def test_an_ipv4_client_of_a_listener_for_both_is_known_by_its_ipv4_address():
    assert TrustedProxies().client_of(scope("::ffff:9.9.9.9")) == "9.9.9.9"
    peer = scope("::ffff:10.0.0.1", ("x-forwarded-for", "9.9.9.9"))
    assert TRUSTED.client_of(peer) == "9.9.9.9"


def test_a_client_without_an_address_is_a_dash():
    assert TRUSTED.client_of({"client": None, "headers": []}) == "-"
