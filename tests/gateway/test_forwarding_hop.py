"""Between nodes: no secret passes, nothing unsigned gets in, nothing signed gets in twice."""

import base64
import re
import socket
import stat
from pathlib import Path

import pytest

from frontdesk.clock import SystemClock
from frontdesk.gateway.callers import Caller
from frontdesk.gateway.forwarding.claims import CallerClaims, HopClaims
from frontdesk.gateway.forwarding.hops import PING
from frontdesk.gateway.forwarding.node_calls import ENTRY
from frontdesk.gateway.forwarding.request_copy import query_without_keys
from frontdesk.gateway.forwarding.session_lists import OWN, SUMMARIES
from frontdesk.gateway.forwarding.signing import HopSigner, digest_of_body, fresh_nonce
from frontdesk.gateway.scopes import KeyScope
from gateway.cluster_running import SECRET, cluster
from gateway.running import ACME, create, events, until
from gateway.test_websocket import opened, said

PLANTED = "planted-secret-of-a-caller"


@pytest.fixture(scope="module")
def nodes():
    """Two gateways with one registry; what passes between them can be recorded."""
    with cluster("one", "two", proxied=True) as running:
        yield running


@pytest.fixture
def here(nodes):
    """A client of the node that opens sessions."""
    with nodes[0].client() as client:
        yield client


@pytest.fixture
def recorded(nodes):
    """Whatever passes to the first node, and back, in the test."""
    nodes[0].proxy.recorded = []
    yield lambda: b"".join(nodes[0].proxy.recorded)
    nodes[0].proxy.recorded = None


def decoded(passed):
    """Return what passed, and again with everything that may be base64 in it decoded."""
    texts = re.findall(rb"(?:[A-Za-z0-9_-]{4}){4,}", passed)
    return b"\n".join([passed, *map(base64.urlsafe_b64decode, texts)])


def planted():
    """Return the headers and the query in which a caller's secrets may be."""
    headers = {
        "X-API-Key": ACME,
        "Authorization": f"Bearer {PLANTED}-a",
        "Cookie": f"session={PLANTED}-b",
        "Proxy-Authorization": f"Basic {PLANTED}-c",
        "X-Forwarded-Authorization": f"{PLANTED}-d",
        "Sec-WebSocket-Protocol-Token": f"{PLANTED}-e",
    }
    return headers, f"api_key={PLANTED}-f&%61pi_key={PLANTED}-g"


def test_no_secret_of_a_caller_passes_between_nodes_over_http(nodes, here, sid, recorded):
    create(here, sid)
    headers, query = planted()
    with nodes[1].client(None) as there:
        url = f"/v1/sessions/{sid}"
        assert there.get(f"{url}/status", headers=headers).status_code == 200
        asked = {"json": {"text": "found in the bytes"}, "headers": headers}
        assert there.post(f"{url}/prompt", **asked).status_code == 202
        assert there.get(f"{url}/status?{query}", headers=headers).status_code == 400
    assert b"found in the bytes" in recorded()
    for secret in (ACME, PLANTED, SECRET.decode()):
        assert secret.encode() not in decoded(recorded())


def test_no_secret_of_a_caller_passes_between_nodes_over_event_streams(nodes, here, sid, recorded):
    create(here, sid)
    headers, query = planted()
    with nodes[1].client(None) as there:
        there.post(f"/v1/sessions/{sid}/prompt", json={"text": "seen"}, headers=headers)
        url = f"/v1/sessions/{sid}/events?since=0&api_key={ACME}"
        with there.stream("GET", url) as response:
            assert response.status_code == 200, response.read()
            assert any("agent_end" in line for line in response.iter_lines())
        with there.stream("GET", f"{url}&{query}", headers=headers) as response:
            assert response.status_code in (200, 400)
    assert b"agent_end" in recorded()
    for secret in (ACME, PLANTED):
        assert secret.encode() not in decoded(recorded())


def test_no_secret_of_a_caller_passes_between_nodes_over_websockets(nodes, here, sid, recorded):
    create(here, sid)
    headers, _ = planted()
    headers.pop("X-API-Key")
    headers.pop("Authorization")
    headers.pop("Cookie")
    with opened(nodes[1], sid, additional_headers=headers) as ws:
        said(ws, action="prompt", text="x")
    assert b"x-frontdesk-hop" in recorded()
    for secret in (ACME, PLANTED):
        assert secret.encode() not in decoded(recorded())


@pytest.mark.parametrize(
    ("query", "passed"),
    [
        (b"", ""),
        (b"since=3&types=a,b", "since=3&types=a,b"),
        (b"api_key=s", "api_key="),
        (b"since=1&api_key=s&x=2", "since=1&api_key=&x=2"),
        (b"%61p%69_key=s", "%61p%69_key="),
        (b"api_key=s=t&api_key=u", "api_key=&api_key="),
        (b"api_key", "api_key="),
        (b"x=%zz&&=", "x=%zz&&="),
        (b"x=\xff", "x=%FF"),
    ],
)
def test_a_key_in_a_query_loses_its_value_and_all_else_stays(query, passed):
    assert query_without_keys(query) == passed


# -- the private listener ------------------------------------------------------------------------


def private(node):
    """Return the path of a node's private listener."""
    return node.gateway.node.node(node.incarnation).node.address.removeprefix("unix:")


def asked(node, request):
    """Send bytes to a node's private listener; return the status and the whole answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(private(node))
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = connection.recv(65536)
            if not piece:
                break
            answer += piece
    return int(answer.split(b" ", 2)[1]), answer


def signed(node, target, *, method="GET", body=b"", secret=SECRET, **changed):
    """Return a request as another node would send it, but for what is changed."""
    signer = HopSigner(secret, clock=SystemClock())
    claims = HopClaims(
        **{
            "to": node.incarnation,
            "sender": "f" * 32,
            "at_ms": signer.now_ms(),
            "nonce": fresh_nonce(),
            "method": method,
            "target": target,
            "body_digest": digest_of_body(body),
            "deadline_ms": signer.now_ms() + 30_000,
            **changed,
        }
    )
    head = f"{method} {target} HTTP/1.1\r\nhost: node\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"x-frontdesk-hop: " + signer.sign(claims) + b"\r\n\r\n" + body


def test_the_directory_of_the_private_listener_is_closed_to_other_accounts(nodes):
    own = Path(nodes[0].gateway.forwarding._listener._listen.removeprefix("unix:"))
    assert stat.S_IMODE(own.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(own.stat().st_mode) == 0o600


def test_a_signed_question_is_answered(nodes):
    assert asked(nodes[0], signed(nodes[0], PING))[0] == 200
    request = signed(nodes[0], ENTRY, method="POST", body=b'"acme/none"')
    assert asked(nodes[0], request)[1].endswith(b"null")


@pytest.mark.parametrize("path", [PING, ENTRY, SUMMARIES, OWN, "/v1/sessions", "/healthz", "/ops"])
def test_nothing_unsigned_gets_in(nodes, path):
    for head in ("", f"X-API-Key: {ACME}\r\n", "x-frontdesk-hop: a.b\r\n", "x-frontdesk-hop:\r\n"):
        status, answer = asked(nodes[0], f"GET {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())
        assert (status, b"x-frontdesk-hop: refused" in answer) == (403, True)


def test_nothing_signed_with_another_secret_gets_in(nodes):
    status, answer = asked(
        nodes[0], signed(nodes[0], PING, secret=b"another secret of 32 bytes......")
    )
    assert (status, b"not signed by a node" in answer) == (403, True)


def test_what_passed_between_nodes_gets_in_no_second_time(nodes, here, sid, recorded):
    create(here, sid)
    with nodes[1].client() as there:
        assert there.delete(f"/v1/sessions/{sid}").status_code == 200
    [request] = re.findall(rb"DELETE [^\0]*?\r\n\r\n", recorded())
    create(here, sid)
    status, answer = asked(nodes[0], request)
    assert (status, b"has come before" in answer) == (403, True)
    assert here.get(f"/v1/sessions/{sid}").status_code == 200


def test_another_body_than_was_signed_is_refused(nodes):
    request = signed(nodes[0], ENTRY, method="POST", body=b'"acme/a"')
    status, answer = asked(nodes[0], request.replace(b'"acme/a"', b'"acme/b"'))
    assert (status, b"another one than was signed" in answer) == (403, True)


def test_what_was_meant_for_another_incarnation_is_not_answered(nodes):
    for target in (PING, ENTRY, "/v1/sessions/s"):
        status, answer = asked(nodes[0], signed(nodes[0], target, to="0" * 32))
        assert (status, b"x-frontdesk-hop: gone" in answer) == (421, True)


def test_a_question_that_is_none_is_refused(nodes):
    assert asked(nodes[0], signed(nodes[0], "/-/nothing", method="POST"))[0] == 403


def test_an_operators_paths_are_closed_between_nodes(nodes):
    caller = Caller("k-acme", "acme", frozenset(KeyScope), None)
    claims = CallerClaims.of(caller, secret_tag="")
    for path in ("/ops/status", "/metrics", "/healthz", "/nothing"):
        assert asked(nodes[0], signed(nodes[0], path, caller=claims))[0] in (401, 404)
    assert asked(nodes[0], signed(nodes[0], "/v1/sessions", caller=claims))[0] == 200


def test_the_public_listener_knows_nothing_of_hops(nodes, here):
    for path in (PING, ENTRY, SUMMARIES, OWN):
        request = signed(nodes[0], path)
        with nodes[0].connect() as connection:
            connection.sendall(request)
            assert connection.recv(65536).startswith(b"HTTP/1.1 404")
    request = signed(nodes[0], "/v1/sessions")
    with nodes[0].connect() as connection:
        connection.sendall(request)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(
    "head",
    [
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Content-Length: +5\r\n",
    ],
)
def test_a_request_of_two_meanings_passes_to_nobody(nodes, here, sid, head, recorded):
    create(here, sid)
    with nodes[1].connect() as connection:
        connection.sendall(
            f"POST /v1/sessions/{sid}/prompt HTTP/1.1\r\nHost: x\r\nX-API-Key: {ACME}\r\n"
            f"{head}\r\n0\r\n\r\nDELETE /v1/sessions/{sid} HTTP/1.1\r\n\r\n".encode()
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")
    assert recorded() == b""
    assert here.get(f"/v1/sessions/{sid}").status_code == 200


def test_a_request_in_a_body_or_a_header_stays_there(nodes, here, sid, recorded):
    create(here, sid)
    inner = f"\r\n\r\nDELETE /v1/sessions/{sid} HTTP/1.1\r\nhost: node\r\n\r\n"
    with nodes[1].client() as there:
        url = f"/v1/sessions/{sid}"
        answer = there.post(f"{url}/prompt", json={"text": inner, "wait": 20})
        assert answer.status_code == 200
        headers = {
            "Idempotency-Key": "a\tb ünï".encode("latin-1"),
            "Connection": "close, x-frontdesk-hop",
            "Upgrade": "h2c",
            "Keep-Alive": "x",
            "TE": "trailers",
            "Trailer": "x",
            "x-frontdesk-hop": "a.b",
            "Expect": "100-continue",
        }
        answer = there.post(f"{url}/prompt", json={"text": "y"}, headers=headers)
        assert answer.status_code == 202, answer.text
        assert here.get(url).status_code == 200
    heads = re.findall(rb"(?:GET|POST|DELETE) \S+ HTTP/1.1\r\n(.*?)\r\n\r\n", recorded(), re.DOTALL)
    names = {line.split(b":")[0] for head in heads for line in head.split(b"\r\n")}
    assert names - {b"Host"} <= {b"host", b"x-frontdesk-hop", b"content-length"}


@pytest.mark.slow
def test_under_a_prefix_the_places_in_answers_have_it(sid):
    # A trusted proxy in front of the node that is asked says under which prefix it is.
    server = {"trusted_proxies": ["127.0.0.1"]}
    tool = {
        "name": "look",
        "description": "d",
        "parameters": {"type": "object"},
        "callbackUrl": "https://93.184.216.34/tool",
    }
    with (
        cluster("one", "two", server=server) as (one, two),
        one.client() as here,
        two.client() as there,
    ):
        create(here, sid)
        url = f"/v1/sessions/{sid}/tools"
        headers = {"X-Forwarded-Prefix": "/desk", "X-Forwarded-For": "1.2.3.4"}
        attached = there.post(url, json=tool, headers=headers)
        assert attached.headers["location"] == f"/desk/v1/sessions/{sid}/tools/look"


@pytest.mark.slow
def test_a_node_listens_on_tcp_as_well(sid):
    with cluster("one", "two", tcp=True) as (one, two):
        with one.client() as here, two.client() as there:
            create(here, sid)
            assert one.forwarding.address.startswith("http://127.0.0.1:")
            there.post(f"/v1/sessions/{sid}/prompt", json={"text": "x"})
            with events(there, sid) as stream:
                until(stream, "agent_end")
        with opened(two, sid) as ws:
            assert said(ws, action="abort") == {"action": "abort", "status": "aborting"}


def test_the_age_of_the_listener_is_small_while_it_answers(nodes):
    assert nodes[0].forwarding.listener_age_s() < 10
