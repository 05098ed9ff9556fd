"""Who gets in: keys on the wire, guesses, revocation, operators, origins, and what the log says."""

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from frontdesk.clock import SystemClock
from frontdesk.gateway.key_file import KeyFile
from frontdesk.gateway.keys import Key, digest_of
from frontdesk.gateway.settings import ServerSettings
from frontdesk.gateway.state_dir import StateDir
from gateway.requirements import covers
from gateway.running import ACME, KEYS, OPERATOR, UMBRELLA, RunningGateway, create, events
from support.waiting import eventually


@covers("keys.header")
@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": ACME},
        {"Authorization": f"Bearer {ACME}"},
        {"Authorization": f"bearer {ACME}"},
        {"X-API-Key": ACME, "Authorization": "Bearer wrong"},
    ],
)
def test_a_key_is_taken_from_its_header_else_from_authorization(gateway, headers):
    with gateway.client(None) as client:
        assert client.get("/v1/sessions", headers=headers).status_code == 200


@covers("errors.unauthorized", "keys.query")
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/sessions", {}),
        ("/v1/sessions", {"X-API-Key": "wrong"}),
        ("/v1/sessions", {"X-API-Key": "\xff"}),
        ("/v1/sessions", {"Authorization": f"Basic {ACME}"}),
        ("/v1/sessions", {"X-API-Key": "wrong", "Authorization": f"Bearer {ACME}"}),
        ("/v1/sessions", {"Cookie": f"api_key={ACME}"}),
        (f"/v1/sessions?api_key={ACME}", {}),
        (f"/v1/sessions/x/stats?api_key={ACME}", {}),
        ("/v1/nope", {}),
        ("/v1", {}),
    ],
)
def test_without_a_right_key_in_the_right_place_there_is_401(gateway, path, headers):
    with gateway.client(None) as client:
        raw = {name: value.encode("latin-1") for name, value in headers.items()}
        response = client.get(path, headers=raw)
    assert (response.status_code, response.json()["error"]) == (401, "unauthorized")


@covers("keys.query", "keys.query-not-logged")
def test_an_event_source_brings_its_key_in_the_query_and_no_log_has_it(gateway, acme, sid, caplog):
    create(acme, sid)
    with gateway.client(None) as client, events(client, sid, api_key=ACME):
        pass
    eventually(lambda: any(each["path"].endswith(f"{sid}/events") for each in gateway.log.lines))
    assert ACME not in str(gateway.log.lines)
    ours = [record for record in caplog.records if not record.name.startswith("http")]
    assert ACME not in str([record.getMessage() for record in ours])


def test_a_client_cannot_write_lines_of_its_own_into_the_log(gateway, acme):
    acme.get("/v1/sessions/a%0A%7B%22level%22%3A%22error%22%7D")
    line = eventually(lambda: [each for each in gateway.log.lines if "level" in each["path"]])[0]
    assert "\n" not in line["path"] + line["session_id"]


def test_the_log_has_one_line_a_request_with_session_tenant_and_key(gateway, acme, sid):
    create(acme, sid)
    acme.get(f"/v1/sessions/{sid}/stats")
    lines = eventually(lambda: [each for each in gateway.log.lines if each["session_id"] == sid])
    assert len(lines) == 1
    line = lines[0]
    assert (line["method"], line["path"], line["status"]) == (
        "GET", f"/v1/sessions/{sid}/stats", 200,
    )  # fmt: skip
    assert (line["tenant"], line["key_id"], line["client"]) == ("acme", "k-acme", "127.0.0.1")


@covers("keys.none-configured")
def test_without_a_configured_key_nobody_gets_in(tmp_path):
    with RunningGateway(tmp_path, keys=()) as gateway:
        for secret in (None, "", ACME):
            with gateway.client(secret) as client:
                assert client.get("/v1/sessions").status_code == 401


@covers("keys.revocation")
def test_a_revoked_key_stops_working_within_a_second_open_streams_included(tmp_path):
    state = StateDir.make(tmp_path)
    with KeyFile(state, clock=SystemClock()) as file:
        new = file.create(tenant_id="acme", name="ci")
        with RunningGateway(tmp_path, keys=()) as gateway, gateway.client(new.secret) as client:
            create(client, "s", blueprint="patient")
            with events(client, "s") as stream:
                file.revoke(new.key.key_id)
                assert list(stream) == []
            eventually(lambda: client.get("/v1/sessions").status_code == 401, within_s=5)


@covers("keys.revocation")
def test_a_stream_of_a_revoked_key_ends_even_where_its_client_reads_nothing(tmp_path):
    state = StateDir.make(tmp_path)
    with KeyFile(state, clock=SystemClock()) as file:
        new = file.create(tenant_id="acme", name="ci")
        with (
            RunningGateway(tmp_path, keys=KEYS) as gateway,
            gateway.client() as client,
            gateway.connect() as raw,
        ):
            create(client, "s", blueprint="flooding")
            client.post("/v1/sessions/s/prompt", json={"text": "x"})
            raw.sendall(
                f"GET /v1/sessions/s/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {new.secret}\r\n\r\n"
                .encode()
            )  # fmt: skip
            eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == 1)
            file.revoke(new.key.key_id)
            eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == 0, within_s=5)
            client.post("/v1/sessions/s/abort")


def test_a_key_made_while_the_gateway_runs_works_soon(tmp_path):
    with RunningGateway(tmp_path, keys=()) as gateway:
        with KeyFile(StateDir.make(tmp_path), clock=SystemClock()) as file:
            new = file.create(tenant_id="acme", name="ci")
        with gateway.client(new.secret) as client:
            eventually(lambda: client.get("/v1/sessions").status_code == 200)


@covers("keys.expiry")
def test_an_expired_key_stops_working_and_its_streams_end(tmp_path, clock):
    key = Key("k-short", "acme", "short", digest_of(ACME), 0, clock.wall_ms() + 60_000)
    with RunningGateway(tmp_path, keys=(key,), clock=clock) as gateway, gateway.client() as client:
        create(client, "s")
        with events(client, "s") as stream:
            clock.advance(61)
            assert list(stream) == []
        assert client.get("/v1/sessions").status_code == 401


@covers("keys.operator")
def test_operators_keys_open_the_operators_routes_and_no_others(gateway, acme, sid, caplog):
    caplog.set_level("INFO", logger="frontdesk.auth")
    create(acme, sid)
    with gateway.client(OPERATOR) as operator:
        assert operator.get("/v1/sessions").status_code == 401
        status = operator.get("/ops/status").json()
        assert status["sessions"] >= 1
        listed = operator.get("/ops/sessions").json()["sessions"]
        assert {"tenantId": "acme", "sessionId": sid}.items() <= listed[-1].items()
        metrics = operator.get("/metrics")
        assert "frontdesk_sessions{" in metrics.text
    assert acme.get("/ops/status").status_code == 401
    assert acme.get("/metrics").status_code == 401
    uses = [each.getMessage() for each in caplog.records if each.name == "frontdesk.auth"]
    assert any("k-operator GET /ops/status" in use for use in uses)
    assert OPERATOR not in str(uses)


@covers("limits.health-exempt")
def test_health_and_metrics_are_exempt_from_the_rate_limit(tmp_path):
    limits = {"requests_per_minute": 2}
    with RunningGateway(tmp_path, limits=limits) as gateway:
        with gateway.client(OPERATOR) as operator:
            for _ in range(5):
                assert operator.get("/healthz").status_code == 200
                assert operator.get("/metrics").status_code == 200
        with gateway.client() as client, gateway.client(UMBRELLA) as other:
            left = [client.get("/v1/sessions").headers["x-ratelimit-remaining"] for _ in range(2)]
            assert left == ["1", "0"]
            refused = client.get("/v1/sessions")
            assert (refused.status_code, refused.json()["error"]) == (429, "rate_limited")
            assert int(refused.headers["retry-after"]) == refused.json()["retryAfter"] > 0
            assert refused.headers["x-ratelimit-limit"] == "2"
            assert refused.headers["x-ratelimit-remaining"] == "0"
            assert refused.headers["x-ratelimit-reset"] == refused.headers["retry-after"]
            assert other.get("/v1/sessions").status_code == 200


@covers("errors.bad-request")
def test_a_query_with_too_many_fields_is_refused_and_is_no_failure_of_the_server(gateway):
    with gateway.client(None) as nobody:
        refused = nobody.get("/v1/sessions/s/events?" + "api_key=a&" * 200)
    assert (refused.status_code, refused.json()["error"]) == (400, "bad_request")


@covers("keys.guessing")
def test_too_many_wrong_keys_from_an_address_are_refused_and_acquaintances_are_not(tmp_path):
    limits = {"wrong_keys_per_minute": 5}
    with RunningGateway(tmp_path, limits=limits) as gateway, gateway.client() as known:
        assert known.get("/v1/sessions").status_code == 200
        for number in range(5):
            with gateway.client(f"guess {number}") as guesser:
                assert guesser.get("/v1/sessions").status_code == 401
        for secret in ("another guess", UMBRELLA, None):
            with gateway.client(secret) as guesser:
                refused = guesser.get("/v1/sessions")
                assert (refused.status_code, refused.json()["error"]) == (429, "rate_limited")
        assert known.get("/v1/sessions").status_code == 200


@covers("keys.guessing", "shutdown.proxies")
def test_guesses_are_counted_by_the_client_behind_a_trusted_proxy(tmp_path):
    with RunningGateway(
        tmp_path,
        limits={"wrong_keys_per_minute": 1},
        server={"trusted_proxies": ["127.0.0.0/8"]},
    ) as gateway:
        with gateway.client("wrong") as client:
            for address in ("9.9.9.1", "9.9.9.2"):
                headers = {"X-Forwarded-For": address}
                answers = [client.get("/v1/sessions", headers=headers) for _ in range(2)]
                assert [each.status_code for each in answers] == [401, 429]
        assert gateway.log.lines[0]["client"] == "9.9.9.1"


@covers("origins.every-origin")
def test_every_origin_may_call_and_a_preflight_needs_no_key(gateway, acme):
    headers = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    with gateway.client(None) as nobody:
        preflight = nobody.options("/v1/sessions", headers=headers)
        refused = nobody.get("/v1/sessions", headers={"Origin": "https://shop.example"})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    allowed = preflight.headers["access-control-allow-headers"].lower()
    assert "x-api-key" in allowed
    assert "authorization" in allowed
    for answer in (preflight, refused, acme.get("/v1/sessions")):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
    assert refused.status_code == 401


@covers("origins.listed")
def test_where_origins_are_listed_pages_of_others_read_nothing_and_open_no_websocket(tmp_path):
    ours, theirs = "https://shop.example", "https://evil.example"
    with (
        RunningGateway(tmp_path, server={"allowed_origins": [ours]}) as gateway,
        gateway.client() as client,
    ):
        create(client, "s")
        for origin, allowed in ((ours, ours), (theirs, None), (f"{ours}.evil.example", None)):
            headers = {"Origin": origin}
            asking = {**headers, "Access-Control-Request-Method": "POST"}
            for answer in (
                client.get("/v1/sessions", headers=headers),
                client.get("/v1/sessions", headers={**headers, "X-API-Key": "wrong"}),
                client.options("/v1/sessions", headers=asking),
            ):
                assert answer.headers.get("access-control-allow-origin") == allowed
                assert answer.headers["vary"] == "Origin"
        url = f"{gateway.ws_url}/v1/sessions/s/ws?api_key={ACME}"
        for origin in (ours, gateway.url, None):
            with connect(url, proxy=None, origin=origin):
                pass
        for origin in (theirs, "null"):
            with pytest.raises(InvalidStatus, match="401"), connect(url, proxy=None, origin=origin):
                pass


@pytest.mark.parametrize(
    "origin", ["*", "https://shop.example/", "shop.example", "https://Shop.example", "https://"]
)
def test_what_is_no_origin_cannot_be_listed(origin):
    with pytest.raises(ValueError, match="an origin is https://host"):
        ServerSettings(allowed_origins=[origin])


@covers("origins.websocket-cookie")
@pytest.mark.parametrize("cookie", [f"api_key={ACME}", f"X-API-Key={ACME}", f"token={ACME}"])
def test_no_cookie_lets_anybody_in_also_from_the_gateways_own_page(gateway, acme, sid, cookie):
    create(acme, sid)
    headers = {"Cookie": cookie, "Origin": gateway.url}
    with gateway.client(None) as client:
        for path in ("/v1/sessions", f"/v1/sessions/{sid}/events", "/metrics"):
            assert client.get(path, headers=headers).status_code == 401
    url = f"{gateway.ws_url}/v1/sessions/{sid}/ws"
    with pytest.raises(InvalidStatus, match="401"):
        connect(url, proxy=None, additional_headers=headers)
