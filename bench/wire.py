"""The client of the groups with servers: HTTP/1.1 by hand, so that it costs little itself.

Below the scenes of `gateway`, `agents` and `others`, which use the same client on both sides of
each ratio. A `Caller` asks and waits, a `Load` asks without pause on several connections, a
`Listener` follows one answer that does not end. It knows nothing of what the servers are.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter, perf_counter_ns
from typing import Any, TypeVar

import uvloop

HOST = "127.0.0.1"
PATIENCE_S = 60.0
"""Nothing takes this long: the scene fails instead of waiting for ever."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a scene's coroutine on the loop that the servers have as well."""
    return uvloop.run(main)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that ended."""

    status: int
    head: bytes
    body: bytes

    def json(self) -> Any:
        """Return the body as a value."""
        return json.loads(self.body)

    def header(self, name: str) -> str:
        """Return a header, empty where it is missing."""
        found = re.search(rb"\r\n%b: *([^\r]*)" % name.encode(), self.head, re.IGNORECASE)
        return found[1].decode() if found else ""


class Refused(Exception):
    """A server answered with another status than the scene counts on."""


def request(
    method: str, path: str, *, headers: Mapping[str, str] | None = None, content: object = None
) -> bytes:
    """Return a request as it goes over the wire."""
    body = b"" if content is None else json.dumps(content).encode()
    lines = [f"{method} {path} HTTP/1.1", f"host: {HOST}:80"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Caller(asyncio.Protocol):
    """A connection that is kept: one request after another. `answered` is told of each answer."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiting: asyncio.Future[Answer] | None = None
        self.answered: Callable[[Answer], None] = self._hand_over

    @classmethod
    async def connect(cls, port: int) -> Caller:
        """Connect to a server."""
        loop = asyncio.get_running_loop()
        _, caller = await loop.create_connection(cls, HOST, port)
        return caller

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionError("the server hung up"))

    async def call(self, asked: bytes, *, expected: int = 200) -> Answer:
        """Ask and wait for the answer; `Refused` where it has another status."""
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(asked)
        async with asyncio.timeout(PATIENCE_S):
            answer = await self._waiting
        if answer.status != expected:
            raise Refused(f"{asked[:200]!r}\n{answer.head!r}\n{answer.body[:1000]!r}")
        return answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        answer, self._buffer = answer_in(self._buffer)
        if answer is not None:
            self.answered(answer)

    def _hand_over(self, answer: Answer) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)

    def close(self) -> None:
        """Hang up."""
        self.transport.close()


def answer_in(data: bytes) -> tuple[Answer | None, bytes]:
    """Take the first whole answer out of what has come."""
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        return None, data
    head = data[:end]
    if found := _LENGTH.search(head):
        last = end + int(found[1])
        body, whole = data[end:last], len(data) >= last
    elif _CHUNKED.search(head):
        body, last, whole = _chunks(data, end)
    else:
        body, last, whole = b"", end, True
    return (Answer(int(data[9:12]), head, body), data[last:]) if whole else (None, data)


def _chunks(data: bytes, start: int) -> tuple[bytes, int, bool]:
    pieces: list[bytes] = []
    while (line := data.find(b"\r\n", start)) >= 0:
        size = int(data[start:line], 16)
        start = line + 2 + size + 2
        if start > len(data):
            break
        if not size:
            return b"".join(pieces), start, True
        pieces.append(data[line + 2 : start - 2])
    return b"", start, False


class Load:
    """Several connections that each ask again as soon as they are answered."""

    def __init__(self, callers: Sequence[Caller], asked: bytes) -> None:
        self._callers, self._asked = callers, asked
        self._answers = 0
        self._stopping = False
        self._left = 0
        self._idle = asyncio.Event()

    @classmethod
    async def connect(cls, port: int, asked: bytes, *, connections: int) -> Load:
        """Connect; nothing is asked yet."""
        return cls([await Caller.connect(port) for _ in range(connections)], asked)

    async def run(self, seconds: float) -> tuple[int, float]:
        """Ask for so long; return how many answers came, and in how many seconds the last had."""
        self._answers, self._stopping, self._left = 0, False, len(self._callers)
        self._idle.clear()
        start = perf_counter()
        for caller in self._callers:
            caller.answered = self._again_on(caller)
            caller.transport.write(self._asked)
        await asyncio.sleep(seconds)
        self._stopping = True
        async with asyncio.timeout(PATIENCE_S):
            await self._idle.wait()
        return self._answers, perf_counter() - start

    def _again_on(self, caller: Caller) -> Callable[[Answer], None]:
        def again(answer: Answer) -> None:
            if answer.status != 200:
                raise Refused(repr(answer))
            self._answers += 1
            if not self._stopping:
                caller.transport.write(self._asked)
                return
            self._left -= 1
            if not self._left:
                self._idle.set()

        return again


class Listener(asyncio.Protocol):
    """A connection that follows one answer without an end, and counts a marker in it.

    `kept` is what came since `forget`, where the listener keeps it.
    """

    def __init__(self, asked: bytes, *, marker: bytes, keeps: bool) -> None:
        self._asked, self._marker, self._keeps = asked, marker, keeps
        self._tail = b""
        self._goal = 1
        self._reached: asyncio.Future[int] | None = None
        self.count = 0
        self.kept = b""
        self.lost = False

    @classmethod
    async def connect(
        cls, port: int, asked: bytes, *, marker: bytes, keeps: bool = True
    ) -> Listener:
        """Connect and ask."""
        loop = asyncio.get_running_loop()
        _, listener = await loop.create_connection(
            lambda: cls(asked, marker=marker, keeps=keeps), HOST, port
        )
        return listener

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.write(self._asked)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._reached is not None and not self._reached.done():
            problem = f"the stream ended after {self.count}: {self.kept[-1000:]!r}"
            self._reached.set_exception(exc or ConnectionError(problem))

    def data_received(self, data: bytes) -> None:
        # The end of the last piece may be the beginning of a marker.
        piece = self._tail + data
        self.count += piece.count(self._marker)
        self._tail = piece[1 - len(self._marker) :]
        if self._keeps:
            self.kept += data
        if self._reached is not None and self.count >= self._goal and not self._reached.done():
            self._reached.set_result(perf_counter_ns())

    def follow(self, marker: bytes) -> None:
        """Count another marker, in what is kept and in what comes."""
        self._marker = marker
        self.count, self._tail = self.kept.count(marker), self.kept[1 - len(marker) :]

    def forget(self) -> None:
        """Count anew."""
        self.count, self.kept, self._tail = 0, b"", b""

    async def until(self, goal: int = 1) -> int:
        """Wait for so many markers; return when the last of them came (`perf_counter_ns`)."""
        self._goal = goal
        if self.count >= goal:
            return perf_counter_ns()
        self._reached = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(PATIENCE_S):
            return await self._reached

    def close(self) -> None:
        """Hang up."""
        self.transport.close()
