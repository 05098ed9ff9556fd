"""Requests that two programs might read differently: RFC 9110, 9112 and 6455 over raw sockets."""

import base64
import json
import socket
import struct

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.gateway.http_framing import MessageBounds
from gateway.running import ACME, create
from support.waiting import eventually

PROMPTLY_S = 10
LAST = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
KEY = f"X-API-Key: {ACME}".encode()
JSON = b"Content-Type: application/json"
HIDDEN = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
"""A request that looks like a body, or the other way round."""


def lines(*each):
    return b"\r\n".join([*each, b"", b""])


def get(*headers, path=b"/healthz", host=b"Host: x"):
    return lines(b"GET " + path + b" HTTP/1.1", host, *headers)


def post(*headers, body=b"", path=b"/v1/sessions"):
    return lines(b"POST " + path + b" HTTP/1.1", b"Host: x", KEY, JSON, *headers) + body


def answers(gateway, *pieces, last=LAST):
    """Send the pieces and a last request, and return every answer until the server closes."""
    with gateway.connect() as connection:
        connection.settimeout(PROMPTLY_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces[:-1]:
            connection.sendall(piece)
        # In one piece: what comes after a refusal resets the connection, and the answer with it.
        connection.sendall(pieces[-1] + last)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return list(answers_in(received))


def answers_in(received):
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *fields = head.split(b"\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (f.partition(b":") for f in fields)
        }
        assert first.startswith(b"HTTP/1.1 "), received[:80]
        size = int(headers.get(b"content-length", b"0"))
        yield int(first.split()[1]), headers, rest[:size]
        received = rest[size:]


def statuses(gateway, *pieces):
    return [status for status, _, _ in answers(gateway, *pieces)]


# -- protocols that are not spoken ---------------------------------------------------------------

H2C = (
    b"Connection: Upgrade, HTTP2-Settings",
    b"Upgrade: h2c",
    b"HTTP2-Settings: AAMAAABkAAQCAAAAAA",
)


@pytest.mark.parametrize(
    "upgrade",
    [
        H2C,
        (b"Connection: upgrade", b"Upgrade: TLS/1.0, HTTP/1.1"),
        (b"Connection: Upgrade", b"Connection: keep-alive", b"Upgrade: foo"),
        (b"Upgrade: h2c",),
        (b"Connection: keep-alive, Upgrade",),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_an_upgrade_to_what_is_not_spoken_is_ignored_and_the_body_stays_a_body(
    gateway, acme, sid, upgrade, apart
):
    body = json.dumps({"model": "test", "sessionId": sid}).encode()
    head = post(b"Content-Length: %d" % len(body), *upgrade)
    sent = (head, body) if apart else (head + body,)
    (status, _, created), last = answers(gateway, *sent)
    assert (status, last[0]) == (201, 200)
    assert json.loads(created)["sessionId"] == sid
    assert acme.get(f"/v1/sessions/{sid}").status_code == 200


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: %d" % len(HIDDEN), HIDDEN),
        (b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
        (b"Transfer-Encoding: chunked", b"0\r\nX-A: b\r\n\r\n"),
        (b"Content-Length: 0", b""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("upgrade", [(), H2C, (b"Connection: upgrade", b"Upgrade: websocket2")])
def test_what_looks_like_a_request_in_a_body_is_none(gateway, framing, body, upgrade):
    request = post(framing, *upgrade, body=body)
    assert statuses(gateway, request) == [400, 200]
    assert statuses(gateway, request * 3) == [400, 400, 400, 200]
    pieces = [request[place : place + 7] for place in range(0, len(request), 7)]
    assert statuses(gateway, *pieces) == [400, 200]


# -- heads and bodies that can be read in two ways -----------------------------------------------

CHUNKED = b"Transfer-Encoding: chunked"
REFUSED = {
    "no host": lines(b"GET /healthz HTTP/1.1", b"X-A: b"),
    "two hosts": get(b"Host: y"),
    "two equal hosts": get(b"Host: x"),
    "a blank in the host": get(host=b"Host: x y"),
    "a path in the host": get(host=b"Host: x/y"),
    "a user in the host": get(host=b"Host: a@x"),
    "a list in the host": get(host=b"Host: x, y"),
    "a host with a wrong port": get(host=b"Host: x:y"),
    "a host of old clients, twice": lines(b"GET /healthz HTTP/1.0", b"Host: x", b"Host: x"),
    "a folded header": get(b"X-A: b", b" c"),
    "a folded header with a tab": get(b"X-A: b", b"\tc"),
    "a folded first header": lines(b"GET /healthz HTTP/1.1", b" X-A: b", b"Host: x"),
    "a blank before the colon": get(b"X-A : b"),
    "a header without a name": get(b": b"),
    "a header without a colon": get(b"X-A"),
    "a line feed alone": b"GET /healthz HTTP/1.1\nHost: x\n\n",
    "a line feed alone after a header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: b\n\r\n",
    "a carriage return in a header": get(b"X-A: b\rX-B: c"),
    "a zero byte in a header": get(b"X-A: b\0c"),
    "a control character in a header": get(b"X-A: b\x07c"),
    "a letter beyond ASCII in a header's name": get(b"X-\xe9: b"),
    "a blank after the version": lines(b"GET /healthz HTTP/1.1 ", b"Host: x"),
    "two targets": lines(b"GET /healthz /readyz HTTP/1.1", b"Host: x"),
    "no target": lines(b"GET HTTP/1.1", b"Host: x"),
    "a tab in the request line": lines(b"GET\t/healthz HTTP/1.1", b"Host: x"),
    "no version": lines(b"GET /healthz"),
    "another version": lines(b"GET /healthz HTTP/2.0", b"Host: x"),
    "an early version": lines(b"GET /healthz HTTP/0.9", b"Host: x"),
    "HTTP/2 itself": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a method in small letters": lines(b"get /healthz HTTP/1.1", b"Host: x"),
    "a fragment": get(path=b"/healthz#top"),
    "a target that is no path": get(path=b"healthz"),
    "a target of another scheme": get(path=b"ftp://x/healthz"),
    "a target with a user": get(path=b"http://a@x/healthz"),
    "a target without a host": get(path=b"http:///healthz"),
    "a star": get(path=b"*"),
    "a tunnel": lines(b"CONNECT x:443 HTTP/1.1", b"Host: x:443"),
    "length and chunks": post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n"),
    "chunks and length": post(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n"),
    "length 0 and chunks": post(b"Content-Length: 0", CHUNKED, body=b"0\r\n\r\n"),
    "two lengths": post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"),
    "two equal lengths": post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "a list of lengths": post(b"Content-Length: 5, 5", body=b"hello"),
    "a length with a sign": post(b"Content-Length: +5", body=b"hello"),
    "a negative length": post(b"Content-Length: -5", body=b"hello"),
    "a length in hex": post(b"Content-Length: 0x5", body=b"hello"),
    "an empty length": post(b"Content-Length:", body=b"hello"),
    "a fraction of a length": post(b"Content-Length: 5.0", body=b"hello"),
    "a length of more than 64 bits": post(b"Content-Length: 18446744073709551621", body=b"hello"),
    "another coding": post(b"Transfer-Encoding: gzip", body=b"0\r\n\r\n"),
    "another coding before chunks": post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "another coding in a line of its own": post(
        b"Transfer-Encoding: gzip", CHUNKED, body=b"0\r\n\r\n"
    ),
    "chunks that are not last": post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "identity": post(b"Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    "chunks twice": post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
    "almost chunks": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "quoted chunks": post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"),
    "a vertical tab before chunks": post(b"Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\n"),
    "a blank before the colon of chunks": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "an empty coding": post(b"Transfer-Encoding:", body=b"0\r\n\r\n"),
    "chunks of an old client": lines(b"POST /v1/sessions HTTP/1.0", KEY, CHUNKED) + b"0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_head_that_can_be_read_in_two_ways_is_refused_and_the_connection_closed(gateway, name):
    [(status, headers, body)] = answers(gateway, REFUSED[name], last=b"")
    assert (status, headers[b"connection"]) == (400, b"close")
    assert json.loads(body)["error"] == "bad_request"
    assert statuses(gateway, REFUSED[name] + HIDDEN) == [400]


@pytest.mark.parametrize(
    "chunks",
    [
        b"0x1\r\na\r\n0\r\n\r\n", b"+1\r\na\r\n0\r\n\r\n", b"-1\r\na\r\n0\r\n\r\n",
        b"1 \r\na\r\n0\r\n\r\n", b" 1\r\na\r\n0\r\n\r\n", b"1_0\r\na\r\n0\r\n\r\n",
        b"1\na\n0\n\n", b"1\r\nab\r\n0\r\n\r\n", b"1\r\na0\r\n\r\n", b"1\r\na\n0\r\n\r\n",
        b"\r\n0\r\n\r\n", b"g\r\n\r\n", b";a=b\r\n\r\n", b"ffffffffffffffff1\r\na\r\n0\r\n\r\n",
        b"1;a\nb\r\na\r\n0\r\n\r\n", b"1;a\rb\r\na\r\n0\r\n\r\n", b"1\x0b\r\na\r\n0\r\n\r\n",
        b'1;a="b\r\n0\r\n\r\n', b"0\r\n\n\r\n\r\n", b"0\r\nX-A : b\r\n\r\n", b"0\r\n X: b\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n", b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"2\r\n{}\r\n-0\r\n\r\n",
    ],
)  # fmt: skip
def test_chunks_that_can_be_read_in_two_ways_are_refused_and_the_connection_closed(gateway, chunks):
    assert statuses(gateway, post(CHUNKED, body=chunks) + HIDDEN) == [400]


@pytest.mark.parametrize(
    "chunks",
    [
        b"2\r\n{}\r\n0\r\n\r\n",
        b"2;a=b;c\r\n{}\r\n0;d\r\n\r\n",
        b"0002\r\n{}\r\n0\r\nX-A: b\r\n\r\n",
        b"1\r\n{\r\n1\r\n}\r\n00\r\n\r\n",
    ],
)
def test_chunks_that_are_right_are_read(gateway, chunks):
    _, headers, body = answers(gateway, post(CHUNKED, body=chunks))[0]
    assert "model" in json.loads(body)["message"], headers
    assert statuses(gateway, post(CHUNKED, body=chunks) * 2) == [400, 400, 200]


def test_a_request_that_is_refused_spoils_no_answer_before_it(gateway):
    """The refusal comes last, and after it nothing."""
    for wrong in (b"GARBAGE\r\n\r\n", get(b"Host: y"), post(CHUNKED, body=b"zzz\r\n")):
        assert statuses(gateway, get() + get(path=b"/readyz") + wrong + HIDDEN) == [200, 200, 400]


def test_what_follows_a_request_to_close_is_not_read(gateway):
    assert statuses(gateway, get(b"Connection: close") + HIDDEN) == [200]
    assert statuses(gateway, get(b"Connection: keep-alive, Close") + HIDDEN) == [200]
    assert statuses(gateway, get(b"Connection: x", b"Connection: close") + HIDDEN) == [200]
    assert statuses(gateway, lines(b"GET /healthz HTTP/1.0") + HIDDEN) == [200]


# -- what is right in more than one form ---------------------------------------------------------


@pytest.mark.parametrize("blanks", [b" ", b"\t", b" \t  "])
@pytest.mark.parametrize("name", [b"X-API-Key: ", b"Authorization: Bearer ", b"x-api-key:"])
def test_blanks_around_a_value_are_not_of_it(gateway, blanks, name):
    first, _ = answers(gateway, get(name + ACME.encode() + blanks, path=b"/v1/sessions"))
    assert first[0] == 200
    body = b'{"model": "test"}'
    framing = (b"X-A: b" + blanks, b"Content-Length: 17" + blanks)
    assert statuses(gateway, post(*framing, body=body)) == [201, 200]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://x/healthz", 200), (b"HTTP://y:80/healthz", 200), (b"https://[::1]/healthz", 200),
        (b"http://x/healthz?", 200), (b"http://x", 200), (b"http://x?a", 400),
        (b"/%68ealthz", 200), (b"/healthz?", 200),
        # The query is a query, which this route does not take.
        (b"http://x/healthz?a=b", 400), (b"/healthz?http://y/v1", 400),
    ],
)  # fmt: skip
def test_a_target_may_be_a_whole_url(gateway, target, status):
    assert statuses(gateway, get(path=target)) == [status, 200]


def test_a_key_in_the_query_of_a_whole_url_counts_where_it_counts_else(gateway, acme, sid):
    create(acme, sid)
    acme.delete(f"/v1/sessions/{sid}")
    path = f"/v1/sessions/{sid}/events?since=0&api_key={ACME}".encode()
    with gateway.connect() as connection:
        connection.settimeout(PROMPTLY_S)
        connection.sendall(get(path=b"http://x" + path))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("host", [b"Host:", b"Host: [::1]:4000", b"Host: a_b.c-d:1", b"HOST: x"])
def test_a_host_may_be_anything_that_is_one(gateway, host):
    assert statuses(gateway, get(host=host)) == [200, 200]


def test_an_empty_line_before_a_request_is_skipped(gateway):
    assert statuses(gateway, b"\r\n" + get() + b"\r\n\r\n" + get()) == [200, 200, 200]


def test_the_server_as_a_whole_can_be_asked_for_its_options(gateway):
    (status, _, _), last = answers(gateway, lines(b"OPTIONS * HTTP/1.1", b"Host: x"))
    assert (status < 500, last[0]) == (True, 200)


def test_a_client_of_http_1_0_gets_a_stream_without_chunks_that_ends_with_the_connection(
    gateway, acme, sid
):
    create(acme, sid)
    acme.delete(f"/v1/sessions/{sid}")
    for expect in ((), (b"Expect: 100-continue",)):
        path = f"/v1/sessions/{sid}/events?since=0".encode()
        head = lines(b"GET " + path + b" HTTP/1.0", KEY, *expect)
        with gateway.connect() as connection:
            connection.settimeout(PROMPTLY_S)
            connection.sendall(head)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
        head, _, body = received.partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert b"connection: close" in head.lower()
        assert body.startswith(b": welcome\n\n")
        assert b"event: session_end\n" in body
        assert body.endswith(b"\n\n")


def test_a_client_of_http_1_0_gets_an_answer_with_its_length(gateway):
    [(status, headers, body)] = answers(gateway, lines(b"GET /healthz HTTP/1.0"), last=b"")
    assert (status, headers[b"connection"]) == (200, b"close")
    assert int(headers[b"content-length"]) == len(body)


# -- WebSockets ----------------------------------------------------------------------------------

NONCE = base64.b64encode(b"0123456789abcdef")
HANDSHAKE = {
    b"Connection": b"Upgrade", b"Upgrade": b"websocket",
    b"Sec-WebSocket-Version": b"13", b"Sec-WebSocket-Key": NONCE,
}  # fmt: skip


def handshake(sid, *more, **changed):
    fields = HANDSHAKE | {name.replace("_", "-").encode(): value for name, value in changed.items()}
    sent = [name + b": " + value for name, value in fields.items() if value is not None]
    return get(KEY, *sent, *more, path=f"/v1/sessions/{sid}/ws".encode())


@pytest.mark.parametrize(
    "changed",
    [
        {"Sec_WebSocket_Key": None}, {"Sec_WebSocket_Key": b"c2hvcnQ="},
        {"Sec_WebSocket_Key": b"not base64 not base64 =="}, {"Sec_WebSocket_Key": NONCE + b"AAAA"},
        {"Upgrade": b"websocket, h2c"},
    ],
)  # fmt: skip
def test_a_handshake_that_is_wrong_is_refused_in_the_form_of_all_errors(
    gateway, acme, sid, changed
):
    create(acme, sid)
    [(status, _, body)] = answers(gateway, handshake(sid, **changed) + HIDDEN)
    assert (status, json.loads(body)["error"]) == (400, "bad_request")


@pytest.mark.parametrize("more", [(b"Sec-WebSocket-Key: " + NONCE,), (b"Content-Length: 5",)])
def test_a_handshake_with_too_much_is_refused(gateway, sid, more):
    assert statuses(gateway, handshake(sid, *more) + HIDDEN) == [400]


@pytest.mark.parametrize("version", [b"12", b"8", b"14", b"13, 8", None])
def test_a_handshake_of_another_version_is_told_the_one_that_is_spoken(gateway, sid, version):
    [(status, headers, body)] = answers(gateway, handshake(sid, Sec_WebSocket_Version=version))
    assert (status, headers[b"sec-websocket-version"]) == (426, b"13")
    assert json.loads(body)["error"] == "bad_request"


def test_a_handshake_from_http_1_0_is_refused(gateway, acme, sid):
    create(acme, sid)
    assert statuses(gateway, handshake(sid).replace(b"HTTP/1.1", b"HTTP/1.0")) == [400]


def test_what_follows_a_handshake_before_its_answer_is_no_request_and_no_frame(gateway, acme, sid):
    create(acme, sid)
    assert statuses(gateway, handshake(sid) + HIDDEN) == [400]


@pytest.mark.parametrize(
    "changed",
    [
        {"Connection": b"keep-alive, Upgrade"}, {"Connection": b"UPGRADE"},
        {"Upgrade": b"WebSocket"}, {},
    ],
)  # fmt: skip
def test_a_handshake_may_be_written_in_other_ways(gateway, acme, sid, changed):
    create(acme, sid)
    with opened(gateway, handshake(sid, **changed)):
        pass


class opened:  # noqa: N801 - a context manager
    """A WebSocket of which a test writes every byte."""

    def __init__(self, gateway, request):
        self.connection = gateway.connect()
        self.connection.settimeout(PROMPTLY_S)
        self.connection.sendall(request)
        self.received = b""
        while b"\r\n\r\n" not in self.received:
            self.received += self.connection.recv(65536)
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.connection.close()

    def closed_with(self):
        """Read to the end, and return the code of the close frame, None where there was none."""
        while chunk := self.connection.recv(65536):
            self.received += chunk
        code = None
        while self.received:
            opcode, size = self.received[0] & 15, self.received[1]
            assert size < 126, "the tests of this file cause no long frames"
            if opcode == 8 and size:
                code = struct.unpack("!H", self.received[2:4])[0]
            self.received = self.received[2 + size :]
        return code


def frame(first, payload=b"", *, masked=True):
    size = bytes([len(payload) | (0x80 if masked else 0)])
    if len(payload) > 125:
        size = bytes([126 | 0x80]) + struct.pack("!H", len(payload))
    return bytes([first]) + size + (b"\0\0\0\0" if masked else b"") + payload


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(0x81, b"{}", masked=False), 1002), (frame(0xC1, b"{}"), 1002),
        (frame(0x83, b"{}"), 1002), (frame(0x8B, b""), 1002), (frame(0x09, b"x"), 1002),
        (frame(0x89, b"x" * 126), 1002), (frame(0x80, b"x"), 1002),
        (frame(0x01, b"x") + frame(0x81, b"y"), 1002), (frame(0x88, b"\x03"), 1002),
        (frame(0x88, struct.pack("!H", 1005)), 1002), (frame(0x88, struct.pack("!H", 999)), 1002),
        (frame(0x88, struct.pack("!H", 1000) + b"\xff"), 1007), (frame(0x81, b"\xff\xfe"), 1007),
        (frame(0x01, b"\xe2\x82") + frame(0x80, b"\xff"), 1007),
        (frame(0x88, struct.pack("!H", 1000)), 1000), (frame(0x88), None),
    ],
)  # fmt: skip
def test_a_frame_that_breaks_the_rules_closes_with_the_code_that_says_so(
    gateway, acme, sid, caplog, sent, code
):
    create(acme, sid)
    with opened(gateway, handshake(sid)) as socket_:
        socket_.connection.sendall(sent)
        assert socket_.closed_with() == code
    assert acme.get(f"/v1/sessions/{sid}").status_code == 200
    assert not [each for each in caplog.records if each.exc_info]


@pytest.mark.parametrize(
    "asked", [b"{}", b'{"action": "abort"}', b'{"action": "prompt", "text": "x"}']
)
@pytest.mark.parametrize("sent", [frame(0x83), frame(0x81, b"\xff"), frame(0x88), frame(0x09)])
def test_an_answer_that_a_broken_frame_comes_before_is_no_failure(
    gateway, acme, sid, caplog, asked, sent
):
    create(acme, sid)
    with opened(gateway, handshake(sid)) as socket_:
        socket_.connection.sendall(frame(0x81, asked) * 3 + sent)
        socket_.closed_with()
    assert acme.get(f"/v1/sessions/{sid}").status_code == 200
    eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == 0)
    assert not [each for each in caplog.records if each.exc_info]


def test_a_ping_is_answered_with_what_it_holds(gateway, acme, sid):
    create(acme, sid)
    with opened(gateway, handshake(sid)) as socket_:
        socket_.connection.sendall(frame(0x89, b"hello"))
        assert socket_.connection.recv(7) == b"\x8a\x05hello"


# -- where a message ends, however its bytes come ------------------------------------------------

MESSAGES = (
    get(),
    b"\r\n" + get(b"X-A: b"),
    post(b"Content-Length: 5", body=b"he\r\n\r"),
    post(CHUNKED, body=b"5;a=b\r\n\r\n\r\n\r\r\n1\r\n\n\r\n0\r\nX-A: b\r\n\r\n"),
    post(CHUNKED, body=b"000\r\n\r\n"),
    post(b"Content-Length: 0"),
)


class Whole:
    """A parser that notes what each message was made of, and reads no further by itself."""

    def __init__(self):
        self.parser, self.bounds = httptools.HttpRequestParser(self), MessageBounds()
        self.fed, self.messages, self.headers = b"", [], []

    def on_header(self, name, value):
        self.headers.append((name.lower(), value))

    def on_headers_complete(self):
        self.bounds.begin_body(self.headers)
        self.headers = []

    def on_message_complete(self):
        self.messages.append(self.fed)
        self.fed = b""
        self.bounds.begin_head()

    def read(self, ahead):
        while ahead:
            size = self.bounds.take(ahead, limit=40)
            assert 0 < size <= len(ahead)
            self.fed, piece = self.fed + ahead[:size], bytes(ahead[:size])
            del ahead[:size]
            self.parser.feed_data(piece)


@given(st.lists(st.sampled_from(MESSAGES), max_size=5), st.data())
def test_a_message_ends_where_it_ends_whatever_the_pieces_that_it_comes_in(messages, data):
    sent, whole = b"".join(messages), Whole()
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=20).map(sorted))
    for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        whole.read(bytearray(sent[begin:end]))
    assert whole.messages == messages
