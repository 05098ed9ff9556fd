"""Whatever a client writes where, the answer is one of ours, and never that we failed."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from frontdesk.gateway.app import create_app
from gateway.asgi import ask
from gateway.running import ACME, create

KEY = (b"x-api-key", ACME.encode())
BYTES = st.binary(max_size=40)
ODD_ORIGINS = [
    "http://[", "http://[::1", "http://]", "//[x]", "http://[x]/", "http://[::1]x", "null", "",
    "http://a:99999", "http://a:x", "http://\u2100/", "\udcff", "http://[v1.x]/", "a" * 5000,
]  # fmt: skip
often = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def asked(gateway):
    """Ask the application for a path with headers, as raw as they come."""
    app = create_app(gateway.gateway)
    return lambda path, **options: gateway.call(lambda: ask(app, path, **options))


@pytest.mark.parametrize("origin", ODD_ORIGINS)
@pytest.mark.parametrize("key", [(), (KEY,)])
def test_an_odd_origin_on_a_websocket_with_a_cookie_is_refused(asked, origin, key):
    odd = (b"origin", origin.encode("utf-8", "surrogateescape"))
    headers = [*key, odd, (b"cookie", b"a=b"), (b"host", b"x")]
    answer = asked("/v1/sessions/s/ws", headers=headers, kind="websocket")
    assert (answer.status, answer.error) == (401, "unauthorized")


@pytest.mark.parametrize("host", [(), ((b"host", b""),)])
def test_a_page_without_an_origin_of_its_own_is_none_of_ours_where_ours_is_not_known(asked, host):
    headers = [KEY, (b"origin", b"null"), (b"cookie", b"a=b"), *host]
    answer = asked("/v1/sessions/none/ws", headers=headers, kind="websocket")
    assert (answer.status, answer.error) == (401, "unauthorized")


@often
@given(BYTES, BYTES)
@example(b"http://[", b"x")
def test_no_origin_and_no_host_is_a_failure_of_ours(asked, origin, host):
    headers = [KEY, (b"origin", origin), (b"host", host), (b"cookie", b"a=b")]
    for path, kind in (
        ("/v1/sessions/none/ws", "websocket"),
        ("/v1/sessions/none", "http"),
        ("/none", "http"),
    ):
        answer = asked(path, headers=headers, kind=kind)
        assert answer.status in (401, 404)
        assert answer.error in ("unauthorized", "not_found")


@often
@given(BYTES)
@example(b"[")
@example(b"[::1")
@example(b"a:b:c")
@example(b"\xff")
def test_no_host_makes_the_card_or_the_description_fail(asked, host):
    for path in ("/.well-known/agent.json", "/openapi.json", "/docs"):
        answer = asked(path, headers=[(b"host", host)])
        assert answer.status == 200 or answer.error == "bad_request"


@often
@given(
    st.sampled_from(
        [b"x-api-key", b"authorization", b"content-length", b"content-type", b"last-event-id",
         b"idempotency-key", b"x-forwarded-for", b"forwarded", b"cookie", b"accept", b"range"]
    ),
    BYTES,
)  # fmt: skip
@example(b"content-length", b"\xb2")
@example(b"authorization", b"bearer \xff")
@example(b"last-event-id", b"\xb2-\xb2")
def test_no_bytes_in_a_header_are_a_failure_of_ours(asked, name, value):
    for path, method in (
        ("/v1/sessions/none/events", "GET"),
        ("/v1/sessions/none/messages", "GET"),
        ("/v1/sessions", "POST"),
        ("/v1/sessions/none/prompt", "POST"),
        ("/ops/status", "GET"),
    ):
        answer = asked(path, method=method, headers=[(name, value), KEY], body=b'{"model":1}')
        assert 400 <= answer.status < 500
        assert answer.error


@often
@given(
    st.sampled_from(["limit", "after", "since", "types", "api_key", "x"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?#")),
)
@example("since", "%B2")
@example("limit", "%D9%A1%D9%A2")
@example("limit", "1" * 5000)
@example("after", "%ED%A0%80")
@example("types", "%00")
def test_no_query_is_a_failure_of_ours(asked, sid_of_all, name, value):
    for path in ("events", "messages", "stats"):
        answer = asked(f"/v1/sessions/none/{path}?{name}={value}", headers=[KEY])
        assert answer.status in (400, 404)
        assert answer.error
    for path in ("/v1/sessions", f"/v1/sessions/{sid_of_all}/messages", "/v1/usage"):
        answer = asked(f"{path}?{name}={value}", headers=[KEY])
        assert answer.status == 200 or answer.error == "bad_request"
    answer = asked(f"/v1/sessions/{sid_of_all}/ws?{name}={value}", headers=[KEY], kind="websocket")
    assert answer.status in (101, 400)


@pytest.fixture(scope="module")
def sid_of_all(gateway):
    with gateway.client() as client:
        create(client, "odd")
    return "odd"


HOSTS = ["a..b", ".a", "a" * 64, "ä" * 64, "a\u3002\u3002b", "[", "[::1", "%00", "\u2028", "a b"]


@pytest.mark.parametrize("host", HOSTS)
def test_an_odd_host_in_a_url_is_refused_in_our_form(acme, sid_of_all, host):
    url = f"https://{host}/x"
    tool = {"name": "t", "description": "d", "parameters": {}, "callbackUrl": url}
    refused = acme.post(f"/v1/sessions/{sid_of_all}/tools", json=tool)
    assert (refused.status_code, refused.json()["error"]) == (422, "registration_failed")
    body = {"model": "test", "blueprint": "parrot", "providerOpts": {"baseUrl": url}}
    refused = acme.post("/v1/sessions", json=body)
    assert (refused.status_code, refused.json()["error"]) == (422, "create_failed")


@pytest.mark.parametrize("url", [1, True, [], {"a": 1}, "", "\u0000", "x" * 3000, 1e300])
def test_a_base_url_of_another_kind_is_refused_in_our_form(acme, url):
    body = {"model": "test", "blueprint": "parrot", "providerOpts": {"baseUrl": url}}
    refused = acme.post("/v1/sessions", json=body)
    assert (refused.status_code, refused.json()["error"]) == (422, "create_failed")
