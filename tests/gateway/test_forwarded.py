"""Whose request it is, where proxies stand in between."""

import json
from functools import partial
from ipaddress import ip_network

import pytest

from frontdesk.gateway.app import create_app
from frontdesk.gateway.forwarded import TrustedProxies
from gateway.asgi import ask
from gateway.requirements import covers
from gateway.running import ACME, RunningGateway

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


# -- under which URL the client asked ------------------------------------------------------------


def asked_as(*headers, peer="10.0.0.1", scheme="http", root_path=""):
    """Return the URL that a request of these headers is taken to be sent to."""
    sent = {**scope(peer, ("host", "inner:4000"), *headers), "scheme": scheme}
    return TRUSTED.base_url({**sent, "root_path": root_path})


X = {name: f"x-forwarded-{name}" for name in ("for", "proto", "host", "prefix")}


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ([], "http://inner:4000"),
        ([(X["proto"], "https")], "https://inner:4000"),
        ([(X["proto"], "HTTPS")], "https://inner:4000"),
        ([(X["proto"], "wss")], "https://inner:4000"),
        ([(X["proto"], "javascript")], "http://inner:4000"),
        ([(X["host"], "agents.example.com")], "http://agents.example.com"),
        ([(X["host"], "agents.example.com:8443")], "http://agents.example.com:8443"),
        ([(X["host"], "[2001:db8::7]")], "http://[2001:db8::7]"),
        ([(X["host"], "a/b")], "http://inner:4000"),
        ([(X["host"], "user@evil")], "http://inner:4000"),
        ([(X["prefix"], "/fd")], "http://inner:4000/fd"),
        ([(X["prefix"], "/fd/")], "http://inner:4000/fd"),
        ([(X["prefix"], "//evil.example")], "http://inner:4000"),
        ([(X["prefix"], "fd")], "http://inner:4000"),
        ([(X["proto"], "https"), (X["host"], "a.example"), (X["prefix"], "/x/y")],
         "https://a.example/x/y"),
        ([("forwarded", "for=9.9.9.9;proto=https;host=a.example")], "https://a.example"),
        ([("forwarded", 'For=9.9.9.9; Proto="https"; Host="a.example:444"')], "https://a.example:444"),
        # The client's own entry comes before the one of the first proxy that is trusted.
        ([(X["for"], "6.6.6.6, 9.9.9.9"), (X["proto"], "http, https")], "https://inner:4000"),
        ([(X["for"], "9.9.9.9, 10.0.0.2"), (X["proto"], "https, http")], "https://inner:4000"),
        ([(X["for"], "6.6.6.6, 9.9.9.9, 10.0.0.2"), (X["host"], "evil, a.example, inner")],
         "http://a.example"),
        ([(X["for"], "10.0.0.3, 10.0.0.2"), (X["proto"], "https, http")], "https://inner:4000"),
        # One of the two is the client's, and nobody knows which.
        ([("forwarded", "proto=http;host=evil"), (X["proto"], "https"), (X["host"], "a.example")],
         "http://inner:4000"),
        ([("forwarded", "proto=https"), (X["proto"], "https")], "https://inner:4000"),
    ],
)  # fmt: skip
def test_behind_trusted_proxies_the_url_is_the_one_that_the_client_asked(headers, url):
    assert asked_as(*headers) == url


def test_a_peer_that_is_not_trusted_changes_no_url():
    headers = [(name, "https" if "proto" in name else "/evil") for name in X.values()]
    assert asked_as(*headers, peer="1.2.3.4") == "http://inner:4000"
    assert asked_as(*headers, peer="1.2.3.4", scheme="https", root_path="/fd") == (
        "https://inner:4000/fd"
    )


@pytest.mark.parametrize(
    ("said", "root_path", "prefix"),
    [("/fd", "", "/fd"), ("/fd", "/fd", "/fd"), ("/fd", "/mounted", "/fd/mounted"),
     ("/fd", "/fd/mounted", "/fd/mounted"), ("", "/fd", "/fd"), ("", "/fd/", "/fd")],
)  # fmt: skip
def test_a_proxys_prefix_stands_before_the_applications_own(said, root_path, prefix):
    headers = [(X["prefix"], said)] if said else []
    assert asked_as(*headers, root_path=root_path) == f"http://inner:4000{prefix}"


def links(gateway, *headers, host=b"inner", **options):
    """Return the links of the agent card and of the description."""
    app = create_app(gateway.gateway)
    sent = [(b"host", host), *((name.encode(), value.encode()) for name, value in headers)]
    card = gateway.call(partial(ask, app, "/.well-known/agent.json", headers=sent, **options))
    described = gateway.call(partial(ask, app, "/openapi.json", headers=sent, **options))
    card, described = json.loads(card.body), json.loads(described.body)
    return card["url"], card["documentationUrl"], described.get("servers", [{"url": "/"}])[0]["url"]


def test_the_agent_card_names_the_url_that_its_reader_can_use(tmp_path):
    server = {"trusted_proxies": ["127.0.0.0/8"]}
    outside = [(X["proto"], "https"), (X["host"], "a.example"), (X["prefix"], "/fd")]
    with RunningGateway(tmp_path, server=server) as gateway:
        assert links(gateway) == ("http://inner/v1", "http://inner/docs", "/")
        url = "https://a.example/fd"
        assert links(gateway, *outside) == (f"{url}/v1", f"{url}/docs", "/fd")
        assert links(gateway, root_path="/x") == ("http://inner/x/v1", "http://inner/x/docs", "/x")


def test_what_the_operator_calls_its_url_counts_more_than_any_header(tmp_path):
    server = {"trusted_proxies": ["127.0.0.0/8"], "public_url": "https://public.example/fd/"}
    with RunningGateway(tmp_path, server=server) as gateway:
        url = "https://public.example/fd"
        for headers in ([], [(X["host"], "a.example")]):
            assert links(gateway, *headers) == (f"{url}/v1", f"{url}/docs", url)


def test_a_page_of_the_gateways_own_origin_may_bring_its_cookie_behind_a_proxy(tmp_path):
    server = {"trusted_proxies": ["127.0.0.0/8"]}
    with RunningGateway(tmp_path, server=server) as gateway:
        app = create_app(gateway.gateway)
        for origin, error in (
            (b"https://a.example", "not_found"),
            (b"https://inner", "unauthorized"),
        ):
            headers = [
                (b"host", b"inner"), (b"cookie", b"a=b"), (b"origin", origin),
                (X["host"].encode(), b"a.example"), (b"x-api-key", ACME.encode()),
            ]  # fmt: skip
            path = "/v1/sessions/none/ws"
            answer = gateway.call(partial(ask, app, path, headers=headers, kind="websocket"))
            assert answer.error == error
