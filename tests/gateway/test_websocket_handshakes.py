"""A WebSocket's handshake that is refused: our form, the right status, and no error in the log.

Over raw sockets: a client's library would not send most of these.
"""

import json
import logging
import socket
import struct

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.running import ACME, UMBRELLA, RunningGateway, create
from gateway.test_http_framing import HANDSHAKE, NONCE, answers, get
from support.waiting import eventually

SENT = {**HANDSHAKE, b"X-API-Key": ACME.encode()}
PATH = "/v1/sessions/there/ws"
KEY, VERSION = "Sec-WebSocket-Key", "Sec-WebSocket-Version"

REFUSED = {
    "version 12": ({VERSION: "12"}, PATH, 426, "bad_request"),
    "version 8": ({VERSION: "8"}, PATH, 426, "bad_request"),
    "no version": ({VERSION: None}, PATH, 426, "bad_request"),
    "two versions": ({VERSION: "13, 12"}, PATH, 426, "bad_request"),
    "a version that is no number": ({VERSION: "x"}, PATH, 426, "bad_request"),
    "version 12 where nothing is": ({VERSION: "12"}, "/nothing", 426, "bad_request"),
    "a short key": ({KEY: "c2hvcnQ="}, PATH, 400, "bad_request"),
    "a long key": ({KEY: NONCE.decode() + "AAAA"}, PATH, 400, "bad_request"),
    "a key that is no base64": ({KEY: "!" * 24}, PATH, 400, "bad_request"),
    "an empty key": ({KEY: ""}, PATH, 400, "bad_request"),
    "no key of the handshake": ({KEY: None}, PATH, 400, "bad_request"),
    "a short key and version 12": ({KEY: "x", VERSION: "12"}, PATH, 400, "bad_request"),
    "no Upgrade": ({"Upgrade": None, "Connection": "close"}, PATH, 400, "bad_request"),
    "no Connection": ({"Connection": "close"}, PATH, 400, "bad_request"),
    "a wrong path": ({}, "/v1/sessions/there/wss", 404, "not_found"),
    "another route's path": ({}, "/v1/sessions", 404, "not_found"),
    "the root": ({}, "/", 404, "not_found"),
    "the stream's path": ({}, "/v1/sessions/there/events", 404, "not_found"),
    "an operators' path": ({}, "/ops/status", 401, "unauthorized"),
    "a session that is not there": ({}, "/v1/sessions/none/ws", 404, "not_found"),
    "a session of another tenant": (
        {"X-API-Key": UMBRELLA}, PATH, 404, "not_found"),
    "an id that cannot be": ({}, "/v1/sessions/a%20b/ws", 400, "bad_request"),
    "no API key": ({"X-API-Key": None}, PATH, 401, "unauthorized"),
    "a wrong API key": ({"X-API-Key": "wrong"}, PATH, 401, "unauthorized"),
    "a wrong field of the query": ({}, PATH + "?sinc=1", 400, "bad_request"),
    "a cookie from a stranger's page": (
        {"Cookie": "a=b", "Origin": "http://stranger"}, PATH, 401, "unauthorized"),
    "no Host": ({"Host": None}, PATH, 400, "bad_request"),
}  # fmt: skip


def handshake(changes, path):
    fields = {b"Host": b"x", **SENT, **{name.encode(): value for name, value in changes.items()}}
    sent = [
        name + b": " + (value if isinstance(value, bytes) else value.encode())
        for name, value in fields.items()
        if value is not None
    ]
    return get(*sent[1:], path=path.encode(), host=sent[0])


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A gateway with one session."""
    with RunningGateway(tmp_path_factory.mktemp("state")) as gateway, gateway.client() as client:
        create(client, "there")
        yield gateway


def told(records):
    """Return what the log says that an operator would look into."""
    return [each.getMessage() for each in records if each.levelno > logging.INFO or each.exc_info]


@pytest.mark.parametrize(("changes", "path", "status", "error"), REFUSED.values(), ids=REFUSED)
def test_a_refused_handshake_is_answered_in_our_form_and_is_no_error(
    running, caplog, changes, path, status, error
):
    caplog.set_level(logging.INFO)
    [(answered, headers, body)] = answers(running, handshake(changes, path), last=b"")
    assert (answered, json.loads(body)["error"]) == (status, error)
    assert headers[b"content-type"] == b"application/json"
    assert (b"sec-websocket-version" in headers) is (status == 426)
    if status == 426:
        assert headers[b"sec-websocket-version"] == b"13"
        assert headers[b"upgrade"] == b"websocket"
    assert (b"www-authenticate" in headers) is (status == 401)
    assert told(caplog.records) == []
    # Whoever comes next, on another connection, is answered.
    assert answers(
        running, get(), last=b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(
        st.sampled_from([KEY, VERSION, "Upgrade", "Connection", "Sec-WebSocket-Protocol",
                         "Sec-WebSocket-Extensions", "Origin", "X-API-Key"]),
        st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30),
        min_size=1,
    ),
    st.sampled_from([PATH, "/v1/sessions/none/ws", "/", "/v1/sessions", "/healthz"]),
)  # fmt: skip
@example({"Sec-WebSocket-Extensions": ";;;="}, PATH)
@example({"Sec-WebSocket-Protocol": ",,"}, PATH)
@example({"Origin": "http://["}, PATH)
@example({"Upgrade": "websocket,websocket"}, PATH)
def test_whatever_a_handshake_holds_the_answer_is_ours_and_the_log_quiet(
    running, caplog, changes, path
):
    caplog.clear()
    with running.connect() as connection:
        connection.settimeout(10)
        connection.sendall(handshake(changes, path))
        first = connection.recv(65536)
    status = int(first.split()[1])
    assert status == 101 or status < 500
    if status not in (101, 200):
        assert b"application/json" in first.lower()
    assert told(caplog.records) == []


LARGE = {
    "a long cookie": [b"Cookie: a=" + b"b" * 12_000],
    "many headers": [b"X-%d: 1" % number for number in range(200)],
    "extensions that cannot be read": [b"Sec-WebSocket-Extensions: ;;;="],
    "an extension with a wrong parameter": [
        b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99"
    ],
    "protocols that cannot be read": [b"Sec-WebSocket-Protocol: ,;,"],
    "two origins": [b"Origin: http://a", b"Origin: http://b"],
    "a field with bytes beyond ASCII": ["X-Name: ä".encode()],
}


@pytest.mark.parametrize("more", LARGE.values(), ids=LARGE)
def test_what_a_library_would_stumble_over_opens_a_websocket_all_the_same(running, caplog, more):
    asked = handshake({}, PATH).removesuffix(b"\r\n\r\n")
    with running.connect() as connection:
        connection.settimeout(10)
        connection.sendall(b"\r\n".join([asked, *more, b"", b""]))
        assert connection.recv(65536).startswith(b"HTTP/1.1 101 ")
    assert told(caplog.records) == []


def test_who_leaves_before_the_answer_to_its_handshake_is_no_error(running, caplog):
    for _ in range(20):
        with running.connect() as connection:
            connection.sendall(handshake({}, PATH))
            # Closing with this set resets the connection: whoever writes to it is told.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    eventually(lambda: len(running.gateway.streams) == 0)
    assert told(caplog.records) == []


def test_a_long_query_reaches_the_websocket(running):
    types = ",".join(["agent_end"] * 1200)
    with running.connect() as connection:
        connection.settimeout(10)
        connection.sendall(handshake({}, f"{PATH}?types={types}"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 101 ")
