"""A worker's connection to the supervisor: calls out, answers in, many under way at a time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast

import msgspec

from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.cluster.local import wire

__all__ = ["CALL_DEADLINE_S", "MAX_UNDER_WAY", "CallConnection", "ReopenedConnection"]

CALL_DEADLINE_S = 2.0
"""So long an answer is waited for; then it is not known whether the call was carried out."""

MAX_UNDER_WAY = 10_000
"""So many calls wait for their answers at a time on one connection."""

T = TypeVar("T")

_answer = msgspec.msgpack.Decoder(wire.WireAnswer)


class CallConnection(asyncio.Protocol):
    """Ask verbs of the supervisor over one connection. Belongs to one event loop.

    What is asked in one step of the loop goes out at once, at its end. A caller that is cancelled
    drops its future; the answer, when it comes, is nobody's. When the connection ends, everybody
    who waits, and whoever asks later, gets `EngineUnavailable`.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._frames = wire.FrameReader(largest=wire.MAX_ANSWER_BYTES)
        self._waiting: dict[int, asyncio.Future[wire.WireAnswer]] = {}
        self._outgoing: list[bytes] = []
        self._number = 0

    @classmethod
    async def open(cls, path: Path) -> CallConnection:
        """Connect; `EngineUnavailable` where nobody listens."""
        loop = asyncio.get_running_loop()
        try:
            with wire.short_path(path) as address:
                async with asyncio.timeout(CALL_DEADLINE_S):
                    _, connection = await loop.create_unix_connection(cls, address)
        except (OSError, TimeoutError) as error:
            raise EngineUnavailable(f"the supervisor does not listen: {error}") from error
        return connection

    async def ask(
        self, verb: wire.Verb[T], *arguments: object, deadline_s: float = CALL_DEADLINE_S
    ) -> T:
        """Return what the verb returns, or raise what it raises; `EngineUnavailable`."""
        if self.lost.done():
            raise EngineUnavailable("the supervisor is gone")
        if len(self._waiting) >= MAX_UNDER_WAY:
            raise EngineUnavailable(f"{MAX_UNDER_WAY} calls wait for their answers already")
        self._number += 1
        number = self._number
        answer: asyncio.Future[wire.WireAnswer] = self._loop.create_future()
        self._waiting[number] = answer
        if not self._outgoing:
            self._loop.call_soon(self._send)
        self._outgoing.append(verb.call(number, *arguments))
        expiry = self._loop.call_later(deadline_s, self._expire, number)
        try:
            return verb.result(await answer)
        finally:
            expiry.cancel()
            self._waiting.pop(number, None)

    def close(self) -> None:
        """Hang up, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    # -- what the loop calls ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._frames.feed(data)
        try:
            while (message := self._frames.take()) is not None:
                answer = _answer.decode(message)
                waiting = self._waiting.get(answer.number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
        except (wire.BadFrame, msgspec.MsgspecError):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(None)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(EngineUnavailable("the supervisor is gone"))

    def _send(self) -> None:
        calls, self._outgoing = b"".join(self._outgoing), []
        if self._transport is not None:
            self._transport.write(calls)

    def _expire(self, number: int) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_exception(EngineUnavailable("the supervisor did not answer in time"))


class ReopenedConnection:
    """A connection that is opened anew by whoever asks after it has ended.

    A call whose answer was lost with it is asked once more, unless that could do a thing twice.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opening = asyncio.Lock()
        self._connection: CallConnection | None = None

    async def open(self) -> None:
        """Connect for the first time; `EngineUnavailable` where nobody listens."""
        self._connection = await CallConnection.open(self._path)

    async def close(self) -> None:
        """Hang up, whatever is under way."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            await asyncio.wait((connection.lost,))

    async def ask(
        self,
        verb: wire.Verb[T],
        *arguments: object,
        deadline_s: float = CALL_DEADLINE_S,
        again: bool = True,
    ) -> T:
        """Ask as `CallConnection.ask` does; `again` says that doing it twice is doing it once."""
        connection = await self._open_one()
        try:
            return await connection.ask(verb, *arguments, deadline_s=deadline_s)
        except EngineUnavailable:
            if not again or not connection.lost.done():
                raise
        connection = await self._open_one()
        return await connection.ask(verb, *arguments, deadline_s=deadline_s)

    async def lost(self) -> None:
        """Return once it has ended, or cannot be opened again."""
        with suppress(EngineUnavailable):
            while True:
                await asyncio.wait(((await self._open_one()).lost,))

    async def _open_one(self) -> CallConnection:
        async with self._opening:
            if self._connection is None:
                raise EngineUnavailable("it is not open")
            if self._connection.lost.done():
                self._connection = await CallConnection.open(self._path)
            return self._connection
