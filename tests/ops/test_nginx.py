"""A real nginx, with the example of `ops/`, in front of a real gateway."""

import http.server
import json
import re
import ssl
import threading

import pytest
from websockets.sync.client import connect

from frontdesk.gateway.settings import Config
from gateway.running import ACME, OPERATOR, RunningGateway, create, parsed, until
from support.nginx import EXAMPLE, nginx
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
TRUSTING = {"trusted_proxies": ["127.0.0.1/32"]}
SILENCE_S = 3
HEARTBEAT_S = 1


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    streams = {"heartbeat_s": HEARTBEAT_S}
    with RunningGateway(state, server=TRUSTING, streams=streams) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def proxy(gateway, tmp_path_factory):
    timeout = f"{SILENCE_S}s"
    with nginx(tmp_path_factory.mktemp("nginx"), gateway.port, proxy_read_timeout=timeout) as run:
        yield run


@pytest.fixture
def client(proxy):
    with proxy.client(ACME) as client:
        yield client


def silent(ws, seconds):
    """Hear nothing on a WebSocket for so long."""
    with pytest.raises(TimeoutError):
        ws.recv(timeout=seconds)


def patient(client, session_id):
    """Begin a turn that goes on until it is told `go`."""
    create(client, session_id, blueprint="patient")
    client.post(f"/v1/sessions/{session_id}/prompt", json={"text": "stay"})


def test_the_example_is_silent_for_longer_than_two_heartbeats_take():
    silence_s = int(re.search(r"proxy_read_timeout (\d+)s;", EXAMPLE.read_text())[1])
    assert silence_s > 2 * Config().streams.heartbeat_s
    idle_s = int(re.search(r"keepalive_timeout (\d+)s;", EXAMPLE.read_text())[1])
    assert idle_s < Config().limits.keep_alive_s


def test_an_event_is_there_before_its_turn_ends(client):
    patient(client, "s1")
    with client.stream("GET", "/v1/sessions/s1/events") as stream:
        events = parsed(stream.iter_lines())
        until(events, "message_delta")
        client.post("/v1/sessions/s1/steer", json={"text": "go"})
        until(events, "agent_end")


def test_a_stream_on_which_nothing_happens_is_kept_open_by_its_heartbeats(client):
    create(client, "s2")
    with client.stream("GET", "/v1/sessions/s2/events") as stream:
        lines = stream.iter_lines()
        beats = 0
        while beats < 2 * SILENCE_S / HEARTBEAT_S:
            beats += next(lines).startswith(":")
        client.post("/v1/sessions/s2/prompt", json={"text": "still there"})
        until(parsed(lines), "agent_end")


def test_a_websocket_is_passed_on_and_kept_open(proxy, client):
    create(client, "s3")
    trusting = ssl.create_default_context(cafile=proxy.authority)
    url = f"wss://localhost:{proxy.port}/v1/sessions/s3/ws?api_key={ACME}"
    with connect(url, ssl=trusting) as ws:
        # Nothing is said for longer than nginx bears, but for the gateway's pings.
        silent(ws, SILENCE_S + 2 * HEARTBEAT_S)
        ws.send(json.dumps({"action": "prompt", "text": "hello"}))
        events = set()
        while "agent_end" not in events:
            events.add(json.loads(ws.recv(timeout=30)).get("event"))
    ws.recv_events_thread.join(20)
    assert "message_delta" in events
    eventually(lambda: "/v1/sessions/s3/ws" in proxy.log)
    assert ACME not in proxy.log, "no query gets into the log"


def test_a_clients_address_is_its_own_whatever_it_says(proxy, gateway):
    forged = {
        "X-Forwarded-For": "6.6.6.6",
        "Forwarded": "for=6.6.6.6;host=evil.example;proto=http",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
    }
    with proxy.client(ACME, address="127.0.0.2") as client:
        client.get("/v1/sessions", headers=forged).raise_for_status()
        eventually(lambda: "127.0.0.2" in [line["client"] for line in gateway.log.lines])
        assert "6.6.6.6" not in [line["client"] for line in gateway.log.lines]
        card = client.get("/.well-known/agent.json", headers=forged)
        assert "https://localhost" in card.text
        assert "evil" not in card.text


def test_a_body_that_is_too_large_is_refused_in_the_gateways_words(client):
    text = "x" * (3 * Config().limits.body_bytes)
    create(client, "s4")
    refused = client.post("/v1/sessions/s4/prompt", json={"text": text})
    assert (refused.status_code, refused.json()["error"]) == (413, "too_large")


def test_a_reload_of_nginx_cuts_no_stream(proxy, client):
    patient(client, "s5")
    with client.stream("GET", "/v1/sessions/s5/events") as stream:
        events = parsed(stream.iter_lines())
        until(events, "message_delta")
        proxy.reload()
        with proxy.client(ACME) as another:
            another.post("/v1/sessions/s5/steer", json={"text": "go"})
        until(events, "agent_end")


def test_the_dashboard_logs_in_with_a_cookie_for_this_host_over_tls_alone(proxy):
    own_page = {"Sec-Fetch-Site": "same-origin", "X-Frontdesk": "1"}
    with proxy.client(None) as browser:
        assert "text/html" in browser.get("/").headers["content-type"]
        said = browser.post("/dashboard/login", json={"key": ACME}, headers=own_page)
        assert said.status_code == 200, said.text
        cookie = said.headers["set-cookie"]
        assert cookie.startswith("__Host-frontdesk=")
        assert "; Secure" in cookie
        headers = {"Sec-Fetch-Site": "same-origin", "Cookie": cookie.partition(";")[0]}
        assert browser.get("/dashboard/me", headers=headers).json()["tenantId"] == "acme"
        assert browser.get("/v1/sessions", headers=headers).status_code == 200


def test_the_metrics_are_for_the_machine_itself(proxy):
    for address, status in (("127.0.0.1", 200), ("127.0.0.2", 403)):
        with proxy.client(OPERATOR, address=address) as client:
            assert client.get("/metrics").status_code == status


class Upstream(http.server.BaseHTTPRequestHandler):
    """What nginx passes requests on to: it says which headers came."""

    def do_GET(self):
        content = json.dumps(dict(self.headers)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Say nothing."""


def test_a_requests_id_is_its_trace_unless_the_clients_goes_on(tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as upstream:
        threading.Thread(target=upstream.serve_forever, name="upstream").start()
        try:
            with (
                nginx(tmp_path / "nginx", upstream.server_port) as proxy,
                proxy.client(None) as client,
            ):
                passed = client.get("/one").json()
                found = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01", passed["traceparent"])
                line = eventually(lambda: [x for x in proxy.log.splitlines() if "/one" in x])[0]
                assert line.endswith(found[1])
                own = f"00-{'a' * 32}-{'b' * 16}-01"
                passed = client.get("/two", headers={"traceparent": own}).json()
                assert passed["traceparent"] == own
        finally:
            upstream.shutdown()
