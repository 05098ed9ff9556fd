"""What HTTP's own conventions ask for: HEAD, WWW-Authenticate, preflights, JSON as defined."""

import json

import pytest

from gateway.app_routes import ROUTES_WITH_GET
from gateway.requirements import covers
from gateway.running import ACME, OPERATOR, UMBRELLA, RunningGateway, create


@pytest.mark.parametrize("path", ROUTES_WITH_GET)
def test_head_answers_what_get_does_without_its_body(gateway, acme, sid, path):
    create(acme, sid)
    asked = path.replace("{sessionId}", sid).replace("{tenant}", "acme")
    with gateway.client(OPERATOR) as operator:
        client = operator if path.startswith(("/ops", "/metrics")) else acme
        head = client.head(asked)
        if path.endswith(("/events", "/feed")):
            with client.stream("GET", asked) as got:
                pass
        else:
            got = client.get(asked)
    assert head.status_code == got.status_code
    assert head.content == b""
    for name in ("content-type", "cache-control", "access-control-allow-origin"):
        assert head.headers.get(name) == got.headers.get(name)


@pytest.mark.parametrize("path", ["/v1/sessions/none", "/v1/sessions/none/events", "/v1", "/none"])
def test_head_of_what_there_is_not_is_404_without_a_body(acme, path):
    head = acme.head(path)
    assert (head.status_code, head.content) == (404, b"")


def test_head_without_a_key_is_401_and_where_no_get_is_405(gateway, acme):
    with gateway.client(None) as nobody:
        assert nobody.head("/v1/sessions").status_code == 401
        assert nobody.head("/ops/sessions").status_code == 401
    refused = acme.head("/v1/sessions/a/prompt")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert acme.put("/v1/sessions").headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    "path", ["/v1/sessions", "/v1/sessions/a/events", "/ops/status", "/metrics"]
)
@pytest.mark.parametrize("secret", [None, "wrong"])
def test_401_says_how_to_come_in(gateway, path, secret):
    with gateway.client(secret) as client:
        refused = client.get(path)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == 'Bearer realm="frontdesk"'


def test_other_refusals_ask_for_no_key(acme):
    assert "www-authenticate" not in acme.get("/v1/sessions/none").headers


@pytest.mark.parametrize(
    "name",
    ["authorization", "content-type", "x-api-key", "idempotency-key", "last-event-id",
     "cache-control", "x-requested-with", "traceparent", "tracestate", "baggage"],
)  # fmt: skip
def test_the_preflight_admits_what_clients_send(gateway, name):
    headers = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": name,
    }
    with gateway.client(None) as nobody:
        preflight = nobody.options("/v1/sessions", headers=headers)
    allowed = preflight.headers["access-control-allow-headers"].lower().split(", ")
    assert name in allowed


NOT_JSON = [
    b'{"text": NaN}', b'{"response": Infinity, "ref": "a"}',
    b'{"response": -Infinity, "ref": "a"}', '{"text": "a"}'.encode("utf-16"),
    '{"text": "a"}'.encode("utf-16-be"), '{"text": "a"}'.encode("utf-32"),
    '{"text": "a"}'.encode("utf-32-le"), '{"text": "a"}'.encode("utf-8-sig"),
    b'{"text": "\xff"}', b'{"text": "\xed\xa0\x80"}', b"{'text': 'a'}", b'{"text": "a",}', b"",
    b'{"text": "a"} x', b'{"text": 01}', b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: repr(body[:20]))
@pytest.mark.parametrize("verb", ["prompt", "respond", "approve", "tools"])
def test_what_is_not_json_is_refused(acme, sid, body, verb):
    create(acme, sid)
    refused = acme.post(
        f"/v1/sessions/{sid}/{verb}", content=body, headers={"Content-Type": "application/json"}
    )
    assert (refused.status_code, refused.json()["error"]) == (400, "bad_request")


@pytest.mark.parametrize("value", [1, 1.5, "ä😀", None, True, [], {"a": [1, {"b": None}]}, 2**63])
def test_what_is_json_is_taken(acme, sid, value):
    body = {"model": "test", "sessionId": sid, "blueprint": "parrot", "userData": value}
    made = acme.post(
        "/v1/sessions", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert made.status_code == 201, made.text


@covers("routes.location")
@pytest.mark.parametrize("prefix", ["", "/agents"])
def test_what_was_made_says_where_it_is_also_below_a_prefix(tmp_path, prefix):
    proxies = {"trusted_proxies": ["127.0.0.0/8"]} if prefix else {}
    callbacks = {"allow_networks": ["127.0.0.0/8"]}
    with (
        RunningGateway(tmp_path, server=proxies, callbacks=callbacks) as gateway,
        gateway.client() as client,
    ):
        client.headers.update({"X-Forwarded-Prefix": prefix} if prefix else {})
        body = {"model": "test", "sessionId": "s~1", "prompt": "hi", "wait": 20}
        for _ in range(2):
            made = client.post("/v1/sessions", json=body, headers={"Idempotency-Key": "k"})
            assert made.headers["location"] == f"{prefix}/v1/sessions/s~1"
        tool = {"name": "t", "description": "", "parameters": {}, "callbackUrl": "http://127.0.0.1"}
        made = client.post("/v1/sessions/s~1/tools", json=tool)
        assert made.status_code == 201, made.text
        assert made.headers["location"] == f"{prefix}/v1/sessions/s~1/tools/t"
        refused = client.post("/v1/sessions", json=body)
        assert (refused.status_code, "location" in refused.headers) == (409, False)


@covers("limits.ratelimit-fields")
def test_the_rate_limit_is_told_as_the_draft_has_it_beside_the_older_headers(tmp_path):
    with (
        RunningGateway(tmp_path, limits={"requests_per_minute": 2}) as gateway,
        gateway.client() as client,
    ):
        for left in (1, 0, 0):
            told = client.get("/v1/sessions").headers
            assert told["ratelimit-policy"] == '"requests";q=2;w=60'
            assert told["ratelimit"] == f'"requests";r={left};t={told["x-ratelimit-reset"]}'
            assert told["x-ratelimit-remaining"] == str(left)


@pytest.mark.parametrize("name", ["RateLimit", "RateLimit-Policy", "Location", "WWW-Authenticate"])
def test_a_page_of_another_origin_may_read_what_the_answers_say_in_headers(acme, name):
    assert name in acme.get("/v1/sessions").headers["access-control-expose-headers"].split(", ")


@covers("routes.healthz-numbers")
def test_the_numbers_of_health_are_those_of_the_tenant_that_asks(tmp_path):
    def numbers(gateway, secret):
        with gateway.client(secret) as client:
            health = client.get("/healthz")
            assert health.status_code == 200
            return health.json()["sessions"]["active"], health.json()["meter"]["tracked_keys"]

    with RunningGateway(tmp_path, limits={"wrong_keys_per_minute": 2}) as gateway:
        with gateway.client() as client:
            for number in range(3):
                create(client, f"s{number}")
            client.post("/v1/sessions/s0/prompt", json={"text": "hi", "wait": 20})
        assert numbers(gateway, ACME) == (3, 1)
        for secret in (UMBRELLA, OPERATOR, None, "wrong", "wrong"):
            assert numbers(gateway, secret) == (0, 0)
        with gateway.client(UMBRELLA) as other:
            # Wrong keys count here as well: nobody guesses by asking for health.
            assert other.get("/v1/sessions").status_code == 429
        assert numbers(gateway, ACME) == (3, 1)
