"""Where a request ends, and what its head must be: RFC 9110 and 9112, as strict as they allow.

Below the server's protocol (`http_protocol.py`), which feeds its parser with these. Two programs
that read the same bytes differently are how a request is smuggled past the first of them: whatever
can be read in two ways is refused, and nothing behind a request is looked at before the request
is answered. Pure: bytes in, numbers and sentences out.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

HEAD_END = b"\r\n\r\n"
VERSIONS = frozenset({"1.0", "1.1"})
FRAMING = frozenset({b"content-length", b"transfer-encoding"})
"""What a request has that brings a body; one without has come whole with its head."""

HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
"""What `Host` may be."""

_ABSOLUTE = re.compile(rb"https?://([^/?]+)(/[^?]*)?(?:\?(.*))?", re.IGNORECASE | re.DOTALL)
_TARGET = re.compile(rb"[\x21\x22\x24-\x7e]+")
"""All that is visible, without `#`: a fragment is never sent."""

Headers = list[tuple[bytes, bytes]]


class MessageBounds:
    """Says how much of what has come belongs to the message that is being read.

    The parser behind it decides what a message is; this only keeps it from seeing the bytes of the
    next one too early. `take` returns a number of bytes that may be fed at once.
    """

    __slots__ = ("_chunked", "_left", "_line", "_tail", "_trailers")

    def __init__(self) -> None:
        self.begin_head()

    def begin_head(self) -> None:
        """What comes next is a head."""
        self._tail = b""
        self._chunked = self._trailers = False
        self._left: int | None = None
        self._line = b""

    def begin_body(self, headers: Headers) -> bool:
        """What comes next is the body that a head announced; say whether there is one."""
        framing = {name: value for name, value in headers if name in FRAMING}
        self._chunked = b"transfer-encoding" in framing
        self._left = 0 if self._chunked else int(framing.get(b"content-length", b"0"))
        return self._chunked or self._left > 0

    def take(self, ahead: bytearray, *, limit: int) -> int:
        """Return how many of these bytes (at most `limit`, unless of a body) are the message's."""
        if self._left is None:
            return self._take_head(ahead, limit)
        if self._chunked and self._left == 0:
            return self._take_line(ahead, limit)
        taken = min(self._left, len(ahead))
        self._left -= taken
        return taken

    def _take_head(self, ahead: bytearray, limit: int) -> int:
        window = self._tail + ahead[:limit]
        end = window.find(HEAD_END)
        size = len(window) if end < 0 else end + len(HEAD_END)
        taken, self._tail = size - len(self._tail), bytes(window[:size][-3:])
        return taken

    def _take_line(self, ahead: bytearray, limit: int) -> int:
        """Take a line between chunks. One that is no size is the parser's to refuse."""
        taken = ahead.find(b"\n", 0, limit) + 1
        self._line += ahead[: taken or limit]
        if not taken:
            return min(limit, len(ahead))
        line, self._line = self._line, b""
        if not self._trailers:
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError:
                return taken
            self._trailers = size == 0
            self._left = max(size, 0) and size + len(b"\r\n")
        return taken


class RequestHead:
    """The head of a request as the parser read it; the names of headers are in lower case."""

    __slots__ = ("_by_name", "headers", "method", "target", "version")
    method: str
    target: bytes
    version: str

    def __init__(self, method: str, target: bytes, version: str, headers: Headers) -> None:
        self.method, self.target, self.version = method, target, version
        self.headers: Headers = headers
        # Asked for by name half a dozen times for each request.
        self._by_name: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            self._by_name.setdefault(name, []).append(value)

    def mistake(self) -> str | None:
        """Say what is wrong with it, None where nothing is. The rules name their RFC."""
        return self.mistake_of_version() or self.mistake_of_host() or self.mistake_of_target()

    def mistake_of_version(self) -> str | None:
        """Say what is wrong with version and coding."""
        if self.version not in VERSIONS:
            return "HTTP/1.1 is spoken here"
        codings = self._values(b"transfer-encoding")
        if not codings:
            return None
        # 9112, 6.1: one that HTTP/1.0 knows nothing of, and what is not understood.
        if self.version == "1.0":
            return "Transfer-Encoding is not of HTTP/1.0"
        if [coding.lower() for coding in codings] != [b"chunked"]:
            return "Transfer-Encoding must be chunked"
        return (
            "Content-Length beside Transfer-Encoding" if self._values(b"content-length") else None
        )

    def mistake_of_host(self) -> str | None:
        """Say what is wrong with the host."""
        # 9112, 3.2.
        hosts = self._values(b"host")
        if len(hosts) > 1 or (not hosts and self.version == "1.1"):
            return "a request has exactly one Host"
        return None if all(map(HOST.fullmatch, hosts)) else "Host is not a host"

    def mistake_of_target(self) -> str | None:
        """Say what is wrong with the target."""
        # 9112, 3.2.1 to 3.2.4; 9110, 4.2.4 on what a user's name in an authority is good for.
        if self.method == "CONNECT":
            return "this is no proxy"
        if self.target == b"*":
            return None if self.method == "OPTIONS" else "* is for OPTIONS"
        if not _TARGET.fullmatch(self.target):
            return "the target of the request is not a URL"
        if self.target.startswith(b"/"):
            return None
        absolute = _ABSOLUTE.fullmatch(self.target)
        if absolute is not None:
            return None if HOST.fullmatch(absolute[1]) else "the target's host is not a host"
        return "the target of the request is not a path"

    def origin_form(self) -> tuple[bytes, bytes, Headers]:
        """Return path, query and headers; a host in the target is the Host (9112, 3.2.2)."""
        absolute = None if self.target.startswith(b"/") else _ABSOLUTE.fullmatch(self.target)
        if absolute is None:
            path, _, query = self.target.partition(b"?")
            return path, query, self.headers
        others = [each for each in self.headers if each[0] != b"host"]
        return absolute[2] or b"/", absolute[3] or b"", [(b"host", absolute[1]), *others]

    def target_in(self, root_path: str) -> dict[str, Any]:
        """Return what it asks for, as an ASGI scope has it."""
        path, query, headers = self.origin_form()
        return {
            "path": root_path + unquote(path.decode("ascii")),
            "raw_path": root_path.encode("ascii") + path,
            "query_string": query,
            "headers": headers,
        }

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection goes on after the answer (9112, 9.3). HTTP/1.0 ends with it."""
        return self.version == "1.1" and b"close" not in self._tokens(b"connection")

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a 100 before it sends (9110, 10.1.1)."""
        return self.version == "1.1" and b"100-continue" in self._tokens(b"expect")

    @property
    def wants_websocket(self) -> bool:
        """Whether it asks to go on as a WebSocket (6455, 4.2.1); other protocols are ignored."""
        tokens = self._tokens(b"upgrade")
        return b"websocket" in tokens and b"upgrade" in self._tokens(b"connection")

    def handshake_mistake(self) -> str | None:
        """Say why a WebSocket cannot be opened by this, None where it can (6455, 4.2.1)."""
        # Some devices send a length of 0, which is no body.
        if self.method != "GET" or any(
            name in FRAMING and value != b"0" for name, value in self.headers
        ):
            return "a WebSocket is opened by a GET without a body"
        if self.version != "1.1" or self._tokens(b"upgrade") != [b"websocket"]:
            return "a WebSocket is opened from HTTP/1.1, and nothing else with it"
        keys = self._values(b"sec-websocket-key")
        if len(keys) != 1 or not re.fullmatch(rb"[A-Za-z0-9+/]{22}==", keys[0]):
            return "Sec-WebSocket-Key must be 16 bytes in base64"
        return None

    @property
    def websocket_key(self) -> bytes:
        """The key of a handshake that is right."""
        return self._values(b"sec-websocket-key")[0]

    @property
    def speaks_version_13(self) -> bool:
        return self._values(b"sec-websocket-version") == [b"13"]

    def _values(self, name: bytes) -> list[bytes]:
        return self._by_name.get(name, [])

    def _tokens(self, name: bytes) -> list[bytes]:
        values = self._by_name.get(name)
        if values is None:
            return []
        tokens = b",".join(values).lower().split(b",")
        return [token.strip(b" \t") for token in tokens if token.strip(b" \t")]
