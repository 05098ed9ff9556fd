"""Callers that do their worst, each in a process of its own: `python -m blackbox.callers NAME ...`.

A caller has a key of one tenant (or uses none), says on its standard output that it has begun, and
goes on until it is killed. It uses nothing but sockets, so that it costs the gateway more than
itself.
"""

import base64
import contextlib
import json
import socket
import ssl
import sys
import time
from dataclasses import dataclass, field

from blackbox.framing import frame, handshake, until_head

CALLERS = {}
SMALL_LISTS = b"[" + b"[]," * 340_000 + b"[]]"
"""A body of a megabyte that is many things."""
LONG_TEXT = "a" * 199_000
FILE = b"a" * 780_000
CONNECTIONS = 100
TRUSTING = ssl.create_default_context()
TRUSTING.check_hostname, TRUSTING.verify_mode = False, ssl.CERT_NONE
OVER_TLS = ("handshakes",)


def caller(function):
    """Enter a caller under its name."""
    CALLERS[function.__name__] = function
    return function


@dataclass
class Caller:
    """What one has: where to, a key, a session of its own, and connections that it keeps."""

    host: str
    port: int
    key: str
    address: str = "127.0.0.1"
    tls: bool = False
    timeout_s: float = 30.0
    kept: list = field(default_factory=list)

    def connect(self):
        place, own = (self.host, self.port), (self.address, 0)
        connection = socket.create_connection(place, timeout=self.timeout_s, source_address=own)
        return TRUSTING.wrap_socket(connection) if self.tls else connection

    def head(self, method, path, *lines, length=0):
        asked = (f"{method} {path} HTTP/1.1", "Host: x", f"X-API-Key: {self.key}", *lines)
        typed = ("Content-Type: application/json", f"Content-Length: {length}", "", "")
        return "\r\n".join((*asked, *typed)).encode()

    def ask(self, method, path, body=b"", *, connection=None):
        """Send one request, and wait for its answer."""
        own = connection or self.connect()
        try:
            own.sendall(self.head(method, path, length=len(body)) + body)
            return until_head(own)[0]
        finally:
            if connection is None:
                own.close()

    def open(self, session_id, blueprint="parrot"):
        body = {"model": "test", "sessionId": session_id, "blueprint": blueprint}
        self.ask("POST", "/v1/sessions", json.dumps(body).encode())
        return f"/v1/sessions/{session_id}"

    def socket_to(self, path):
        """Open a WebSocket."""
        connection = self.connect()
        connection.sendall(handshake(f"{path}/ws", self.key))
        until_head(connection)
        return connection

    def keep(self, connection):
        self.kept.append(connection)
        return connection


def begun():
    sys.stdout.write("begun\n")
    sys.stdout.flush()


def for_ever(step):
    """Do it again and again: what a gateway refuses or closes is begun anew."""
    begun()
    while True:
        with contextlib.suppress(OSError):
            step()


# -- WebSockets -----------------------------------------------------------------------------------


def sockets(me, sent):
    path = me.open("own")

    def step():
        with me.socket_to(path) as connection:
            for _ in range(20):
                connection.sendall(sent)

    for_ever(step)


@caller
def tiny_messages(me):
    sockets(me, frame(0x81, b"{}") * 20_000)


@caller
def pings(me):
    sockets(me, frame(0x89, b"") * 20_000)


@caller
def tiny_fragments(me):
    sockets(me, frame(0x01, b"") + frame(0x00, b"") * 20_000)


@caller
def large_messages(me):
    body = b'{"action": "respond", "ref": "x", "response": ' + SMALL_LISTS[:1_000_000] + b"[]]}"
    sockets(me, frame(0x81, body))


# -- bodies ---------------------------------------------------------------------------------------


def posts(me, path, body):
    def step():
        with me.connect() as connection:
            for _ in range(50):
                me.ask("POST", path, body, connection=connection)

    for_ever(step)


@caller
def lists_in_a_field(me):
    posts(me, "/v1/sessions", b'{"model": "nope:x", "userData": ' + SMALL_LISTS + b"}")


@caller
def lists_in_an_unknown_field(me):
    posts(me, "/v1/sessions", b'{"model": "test", "attachments": ' + SMALL_LISTS + b"}")


@caller
def many_unknown_fields(me):
    fields = {f"f{number:06}": number for number in range(60_000)}
    posts(me, "/v1/sessions", json.dumps(fields).encode())


@caller
def lists_in_an_answer(me):
    path = me.open("own")
    posts(me, f"{path}/respond", b'{"ref": "x", "response": ' + SMALL_LISTS + b"}")


@caller
def deep_lists(me):
    posts(me, "/v1/sessions", b'{"model": "test", "userData": ' + b"[" * 500_000 + b"}")


@caller
def long_texts(me):
    """Prompts of the greatest size, which the operator's patterns are looked for in."""
    posts(me, f"{me.open('own')}/prompt", json.dumps({"text": LONG_TEXT}).encode())


@caller
def files(me):
    """Prompts with a file of text as large as a body, which patterns are looked for in as well."""
    file = {"name": "a", "mediaType": "text/plain", "data": base64.b64encode(FILE).decode()}
    posts(me, f"{me.open('own')}/prompt", json.dumps({"text": "a", "attachments": [file]}).encode())


@caller
def many_words(me):
    """Prompts that are answered in as many events as they have words."""
    path = me.open("own")
    posts(me, f"{path}/prompt", json.dumps({"text": "a " * 20_000}).encode())


@caller
def tool_schemas(me):
    """Callback tools with large schemas; their addresses are refused, at the latest."""
    tool = b'{"name": "t", "description": "d", "callbackUrl": "https://127.0.0.1/", "parameters": '
    posts(me, f"{me.open('own')}/tools", tool + b'{"a": ' + SMALL_LISTS[:1_000_000] + b"[]]}}")


@caller
def bodies_without_an_end(me):
    """Open as many requests as can be, each with all of a body but its last byte."""
    begun()
    while True:
        with contextlib.suppress(OSError):
            connection = me.keep(me.connect())
            connection.sendall(me.head("POST", "/v1/sessions", length=1_000_000))
            connection.sendall(b" " * 999_999)
        if len(me.kept) > 550:
            time.sleep(0.05)


# -- connections ----------------------------------------------------------------------------------


@caller
def heads_ahead(me):
    """Requests without a key, far ahead of their answers, which nobody reads."""
    piece = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 3_000
    for _ in range(CONNECTIONS):
        me.keep(me.connect()).setblocking(False)

    def step():
        for place, connection in enumerate(me.kept):
            try:
                connection.send(piece)
            except BlockingIOError:
                continue
            except OSError:
                connection.close()
                me.kept[place] = me.connect()
                me.kept[place].setblocking(False)

    for_ever(step)


@caller
def heads_without_an_end(me):
    """Connections without a key, each with most of a head."""
    begun()
    while True:
        with contextlib.suppress(OSError):
            me.keep(me.connect()).sendall(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 32_000)
        if len(me.kept) > 900:
            me.kept.pop(0).close()


@caller
def what_is_no_request(me):
    def step():
        with me.connect() as connection:
            connection.sendall(b"\0" * 10)

    for_ever(step)


@caller
def wrong_keys(me):
    lines = ("GET /v1/usage HTTP/1.1", "Host: x", "X-API-Key: nobody's", "", "")
    asked = "\r\n".join(lines).encode() * 20

    def step():
        with me.connect() as connection:
            connection.sendall(asked)
            until_head(connection)

    for_ever(step)


@caller
def handshakes(me):
    """TLS handshakes that begin and go no further, and some that do."""

    def step():
        me.keep(me.connect()).sendall(b"\x16\x03\x01")
        if len(me.kept) > 400:
            me.kept.pop(0).close()
        with me.connect() as raw, TRUSTING.wrap_socket(raw):
            pass

    for_ever(step)


# -- answers that nobody reads, and creates --------------------------------------------------------


def unread(me, asked):
    """Ask on many connections with small windows, and read nothing."""
    path = me.open("own")
    for _ in range(12):
        body = json.dumps({"text": "x" * 150_000}).encode()
        me.ask("POST", f"{path}/prompt", body)
    begun()
    while True:
        with contextlib.suppress(OSError):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.bind((me.address, 0))
            connection.connect((me.host, me.port))
            me.keep(connection).sendall(me.head("GET", f"{path}/{asked}"))
        if len(me.kept) > 180:
            time.sleep(0.02)
            me.kept.pop(0).close()


@caller
def unread_messages(me):
    unread(me, "messages?limit=1000")


@caller
def unread_streams(me):
    unread(me, "events?since=0")


@caller
def creates(me):
    """Bursts of creates, of tasks and of processes."""
    bodies = [
        json.dumps({"model": "test", "blueprint": blueprint}).encode()
        for blueprint in ("parrot", "apart")
    ]

    def step():
        own = [me.connect() for _ in range(20)]
        for number, connection in enumerate(own):
            body = bodies[number % 2]
            connection.sendall(me.head("POST", "/v1/sessions", length=len(body)) + body)
        for connection in own:
            until_head(connection)
            connection.close()

    for_ever(step)


def main(name, host, port, key, address):
    """Run one caller, from an address of its own."""
    CALLERS[name](Caller(host, int(port), key, address=address))


if __name__ == "__main__":
    main(*sys.argv[1:])
