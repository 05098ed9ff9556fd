"""A connection to another node: HTTP/1.1, one request at a time, the answer as it comes.

Below the connections of a node. It buffers little: who reads an answer slowly makes the other node
wait. Whatever ends the connection ends the answer with `HopBroken`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

import httptools

Headers = list[tuple[bytes, bytes]]

PAUSE_BYTES = 64 * 1024
"""What of an answer may wait to be read before the other node is made to wait."""


class HopBroken(Exception):
    """The connection ended before the answer did. `begun` says whether any of it had come."""

    begun: bool

    def __init__(self, problem: str, *, begun: bool = False) -> None:
        self.begun = begun
        super().__init__(problem)


class HopConnection(asyncio.Protocol):
    """One connection. `ask`, then `read` until None; `reusable` says whether it can be asked again.

    Belongs to one event loop. `abort` from anywhere on it ends whatever waits.
    """

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.status: int = 0
        self.headers: Headers = []
        self.asked: bool = False
        self.aborted: bool = False
        """Whether it was used before; whether this side has ended it."""
        self.received_at: float = 0.0
        """When anything last came, by the loop's clock: a sign of life. That a connection was made
        is none: the kernel makes it for a process that is stopped."""
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._news: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._problem: str | None = None
        self._head_complete = self._complete = True
        self._paused = self._without_body = False
        self._parser: Any = None

    # -- asking ----------------------------------------------------------------------------------

    async def ask(self, head: bytes, body: bytes, *, without_body: bool = False) -> int:
        """Send a request, wait for the head of its answer, and return the status.

        `without_body` is of HEAD, whose answer has none. The caller bounds the wait.
        """
        self._raise_broken()
        self.asked = True
        self._pieces.clear()
        self._resume_reading()
        self.headers, self._waiting_bytes, self.status = [], 0, 0
        self._head_complete = self._complete = False
        self._without_body = without_body
        self._parser = httptools.HttpResponseParser(self)
        self.transport.write(head + body)
        if self._writable is not None:
            await self._writable
        while not self._head_complete:
            await self._wait()
        return self.status

    async def read(self) -> bytes | None:
        """Return what came of the body, waiting for some; None at its end."""
        while not self._pieces:
            if self._complete:
                return None
            await self._wait()
        pieces = b"".join(self._pieces)
        self._pieces.clear()
        self._waiting_bytes = 0
        self._resume_reading()
        return pieces

    def _resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    def abort(self, problem: str = "this side closed it") -> None:
        """End it at once; who waits for it is told the problem. Idempotent."""
        if self._problem is None:
            self._problem, self.aborted = problem, True
            self.transport.abort()
            self._notify()

    @property
    def reusable(self) -> bool:
        """Whether the answer is complete and another request may follow it."""
        return self._complete and self._problem is None and not self.transport.is_closing()

    @property
    def complete(self) -> bool:
        """Whether the whole answer has come, read or not."""
        return self._complete

    async def _wait(self) -> None:
        """Wait for news of the answer. What came before an end is read first."""
        self._raise_broken()
        self._news = self._loop.create_future()
        await self._news
        if not self._pieces and not self._complete:
            self._raise_broken()

    def _raise_broken(self) -> None:
        if self._problem is not None:
            raise HopBroken(self._problem, begun=self._head_complete)

    def _notify(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
        if self._problem is not None and self._writable is not None:
            self.resume_writing()

    # -- the transport's -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none by its class.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received_at = self._loop.time()
        if self._complete:
            self.abort("it sent what nobody had asked for")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort("its answer is not HTTP")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._problem is None:
            self._problem = "it closed the connection" if exc is None else str(exc)
        self._notify()

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # -- the parser's ----------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_complete:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._head_complete = True
        if self._without_body:
            # The parser knows of no HEAD, and would wait for the body that the head announces.
            self._complete = True
            self._problem = "an answer without its body ends the connection"
            self.transport.close()
        self._notify()

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._waiting_bytes += len(body)
        if self._waiting_bytes > PAUSE_BYTES and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._notify()

    def on_message_complete(self) -> None:
        self._complete = True
        if not self._parser.should_keep_alive():
            self._problem = self._problem or "it closed the connection"
            self.transport.close()
        self._notify()
