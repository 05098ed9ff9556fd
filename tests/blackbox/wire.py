"""Bytes for sockets: requests in every framing, what is nearly a request, frames of WebSockets.

A `Request` knows which answer is its own: its path has a mark, which the answer repeats. What looks
like a request within its body has another, which no answer may repeat.
"""

import json
from dataclasses import dataclass
from itertools import pairwise

import hypothesis.strategies as st

from blackbox.framing import frame

MARK, HIDDEN = "m-{:04}", "hidden-in-a-body"
H2C = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
)
UPGRADES = ((), (), H2C, ("Upgrade: h2c",), ("Connection: upgrade", "Upgrade: foo/2"))
ODD_BUT_RIGHT = (
    (),
    ("X-A:",),
    ("X-A: b \t ",),
    ("Expect: 100-continue",),
    ("Connection: keep-alive",),
    ("Accept-Encoding: gzip, br", "Cookie: a=b; c=d", "Range: bytes=0-1"),
    ("X-Long: " + "y" * 4096,),
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as bytes, and what its one answer holds."""

    raw: bytes
    mark: bytes


def hidden(key, victim):
    """Return what a body may look like: a request that would do harm, or show itself."""
    aim = f"DELETE {victim} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n".encode()
    shown = f"GET /{HIDDEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    return st.sampled_from((aim, shown, b"0\r\n\r\n" + shown, shown * 3, b"{}" + aim))


def bodies(key, victim):
    return st.binary(max_size=60) | hidden(key, victim) | st.just(b"{}")


def chunked(body, sizes):
    """Write a body in chunks of these sizes, the rest in one."""
    written = b""
    for size in sizes:
        piece, body = body[:size], body[size:]
        if piece:
            written += b"%x;a=b\r\n%b\r\n" % (len(piece), piece)
    rest = b"%X\r\n%b\r\n" % (len(body), body) if body else b""
    return written + rest + b"0\r\nX-Trailer: a\r\n\r\n"


@st.composite
def requests(draw, *, number, key, victim):
    """A request that is framed rightly, whatever it holds."""
    mark = MARK.format(number)
    method = draw(st.sampled_from(("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")))
    session = draw(st.booleans())
    path = f"/v1/sessions/{mark}" if session else f"/{mark}"
    body = draw(bodies(key, victim))
    framing = draw(st.sampled_from(("none", "length", "chunks", "chunks")))
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"X-API-Key: {key}"]
    lines += [*draw(st.sampled_from(UPGRADES)), *draw(st.sampled_from(ODD_BUT_RIGHT))]
    if framing == "length":
        lines.append(f"Content-Length: {len(body)}")
    elif framing == "chunks":
        lines.append("Transfer-Encoding: chunked")
        body = chunked(body, draw(st.lists(st.integers(1, 20), max_size=4)))
    else:
        body = b""
    raw = "\r\n".join([*lines, "", ""]).encode() + body
    # Only a session's GET and DELETE, and what is no route, name in their answer what was asked.
    named = not session or method in ("GET", "DELETE")
    return Request(raw, mark.encode() if named else b"")


@st.composite
def pipelines(draw, *, key, victim):
    """Requests one after another, as the client of a kept connection sends them."""
    size = draw(st.integers(1, 4))
    return [draw(requests(number=number, key=key, victim=victim)) for number in range(size)]


def cuts(data, places):
    """Cut bytes at some places, which may lie beyond their end."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


PLACES = st.lists(st.integers(0, 2**16), max_size=6)

# -- what is nearly a request ---------------------------------------------------------------------

NASTY = st.binary(min_size=1, max_size=8) | st.sampled_from(
    (
        *(b"\r\n", b"\n", b"\r", b"\0", b":", b" ", b"\t", b"\xff\xfe", b"%", b"%00", b"?", b"#"),
        *(b"Content-Length: 5\r\n", b"Content-Length: +5\r\n", b"Content-Length: 99999999999\r\n"),
        *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Host: y\r\n"),
        *(b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Upgrade: websocket\r\n"),
        *(b"HTTP/1.0", b"HTTP/2.0", b"/../", b"//", b"*", b"http://x/v1", b"/events?since=0"),
        *(b"?types=", b"/ws?api_key=", b"Last-Event-ID: 1-1\r\n", b"Idempotency-Key: \xe9\r\n"),
    )
)
SPOILING = st.lists(
    st.tuples(st.integers(0, 2**16), st.sampled_from(("put", "take", "swap")), NASTY),
    min_size=1,
    max_size=4,
)


def spoiled(data, changes):
    """Return bytes with some put in, taken out or replaced."""
    for place, how, piece in changes:
        at = place % (len(data) + 1)
        data = data[:at] + (b"" if how == "take" else piece) + data[at + (how != "put") * 3 :]
    return data


ODD_TEXT = st.sampled_from(
    (
        *("", "%", "%00", "%ff%fe", "%ED%A0%80", "[", "[::1", "a:b:c", "..", ".", "%2e%2e", "%2F"),
        *("http://[", "null", "1" * 400, "-1", "1e999", "\u0661", "\xb2", "\xff", "\u2028", "a;b"),
    )
) | st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=30)
HEADERS = (
    *("Origin", "Host", "Last-Event-ID", "Idempotency-Key", "Content-Type", "Accept", "Cookie"),
    *("X-Forwarded-For", "Forwarded", "Authorization", "Accept-Encoding", "If-None-Match", "Range"),
    *("Access-Control-Request-Method", "Sec-WebSocket-Protocol", "traceparent"),
)
ODD_JSON = st.sampled_from(
    (
        *(b"", b"{", b"[]", b"null", b"NaN", b"[" * 5000, '{"text": "x"}'.encode("utf-16")),
        *(b'{"text": NaN}', b'{"text": 1e999}', b'{"text": "x", "text": "y"}', b"\xef\xbb\xbf{}"),
        *(b'{"text": "\\ud800"}', b'{"text": "\xff"}', b'{"": 1, "__proto__": 2}'),
        *(b'{"text": ' + b"9" * 5000 + b"}", b'{"model": "\\udfff", "userData": 1e308}'),
        *(b'{"model": "test", "sessionId": "\\u0000"}', b'{"model": "test", "maxTokens": -0.0}'),
        b'{"model": "test", "providerOpts": {"baseUrl": "//["}}',
    )
)
ASKED = (
    *("/v1/sessions", "/v1/sessions/talk", "/v1/sessions/gone", "/v1/sessions/none"),
    *("/v1/sessions/gone/events", "/v1/sessions/gone/events", "/v1/sessions/gone/events"),
    *("/v1/sessions/talk/prompt", "/v1/sessions/talk/steer", "/v1/sessions/talk/messages"),
    *("/v1/sessions/talk/respond", "/v1/sessions/talk/tools", "/v1/sessions/gone/ws", "/v1/usage"),
    *("/healthz", "/readyz", "/docs", "/.well-known/agent.json", "/ops/status", "/metrics", "/v1/"),
)
QUERIES = ("limit", "after", "since", "types", "api_key", "by", "x")


@st.composite
def odd_requests(draw, *, key):
    """A request of a right form, with odd values."""
    method = draw(st.sampled_from(("GET", "GET", "POST", "POST", "HEAD", "OPTIONS", "DELETE")))
    path = draw(st.sampled_from(ASKED).filter(lambda each: method != "DELETE" or "none" in each))
    if draw(st.integers(0, 3)) == 0:
        path += f"/{draw(ODD_TEXT)}"
    names = draw(st.lists(st.sampled_from(QUERIES), max_size=2))
    if names:
        path += "?" + "&".join(f"{name}={draw(ODD_TEXT)}" for name in names)
    lines = {"Host": "x", "X-API-Key": key, "Content-Type": "application/json"}
    named = draw(st.lists(st.sampled_from(HEADERS), max_size=2))
    if path.endswith("/events") and draw(st.booleans()):
        named.append("Last-Event-ID")
    lines |= {name: draw(ODD_TEXT) for name in named}
    body = draw(ODD_JSON) if method in ("POST", "DELETE") else b""
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())]
    head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1", "replace") + body


# -- frames of a WebSocket ------------------------------------------------------------------------

ACTIONS = ("prompt", "approve", "reject", "respond", "abort", "steer", "nope", None, 5)
VALUES = st.sampled_from(("x", "", "go", None, 5, 1e300, [], {}, {"a": [1]}, True, "\0", "é" * 10))
FIELDS = ("text", "approvalId", "reason", "ref", "response", "killTools", "more")
CONTROLS = st.sampled_from(((9, b""), (9, b"x" * 125), (10, b""), (10, b"x")))
WRONG = st.sampled_from(
    (
        *(b"\x83\x80\0\0\0\0", b"\x8f\x80\0\0\0\0", b"\xc1\x80\0\0\0\0", b"\x81\x01x"),
        *(b"\x09\x80\0\0\0\0", b"\x80\x80\0\0\0\0", b"\x89\xfe\0\x7e\0\0\0\0" + b"x" * 126),
        *(b"\x81\x82\0\0\0\0\xff\xfe", b"\x88\x81\0\0\0\0x", b"\x88\x82\0\0\0\0\x03\xed"),
        *(b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", b"\x81\xff\0\0\0\0\x7f\xff\xff\xff"),
    )
)  # fmt: skip
"""Frames that no client may send."""


@st.composite
def messages(draw):
    """A message, right or wrong, as the frames that it comes in: pings may come between."""
    message = draw(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3))
    if draw(st.integers(0, 9)):
        message["action"] = draw(st.sampled_from(ACTIONS))
    content = json.dumps(message).encode()
    content = draw(st.sampled_from((content, content, content, b"", b"[1]", b"{", b"\xc3\xa9")))
    opcode = draw(st.sampled_from((1, 1, 1, 2)))
    pieces = cuts(content, draw(st.lists(st.integers(0, 2**16), max_size=3))) or [b""]
    sent = b""
    for number, piece in enumerate(pieces):
        final = 0x80 if number == len(pieces) - 1 else 0
        sent += frame(final | (0 if number else opcode), piece, draw(MASKS))
        if draw(st.integers(0, 4)) == 0:
            kind, payload = draw(CONTROLS)
            sent += frame(0x80 | kind, payload, draw(MASKS))
    return sent


MASKS = st.binary(min_size=4, max_size=4)
