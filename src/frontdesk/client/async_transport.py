"""What goes over the network, for programs with an event loop: sending, following, closing.

Decides nothing: what is sent again, and where a stream goes on, is said by `retrying` and
`event_stream`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar
from weakref import WeakSet

import httpx2

from frontdesk.client.answer_reading import MAX_ANSWER_BYTES, error_of, record_of
from frontdesk.client.errors import (
    ClientClosedError,
    ClientError,
    MalformedAnswerError,
    NoEventLoopError,
)
from frontdesk.client.event_stream import Following
from frontdesk.client.gateway_address import GatewayAddress
from frontdesk.client.gateway_calls import GatewayCall
from frontdesk.client.http_settings import headers_of, settings_of, unreachable, wait_for_pieces
from frontdesk.client.retrying import Retries

A = TypeVar("A")
T = TypeVar("T")

CLOSE_S = 2.0
"""How long closing waits for connections that do not close."""


class AsyncTransport:
    """Connections to one gateway."""

    def __init__(self, address: GatewayAddress, *, timeout_s: float) -> None:
        self.address: GatewayAddress = address
        self._http = httpx2.AsyncClient(**settings_of(address, timeout_s=timeout_s))
        self._closed = False
        self._streams: WeakSet[AsyncStream[Any]] = WeakSet()

    async def send(self, call: GatewayCall[A]) -> A:
        """Send a request, again where that may be, and return the record of its answer."""
        retries, headers = Retries(repeatable=call.repeatable), headers_of(call)
        while True:
            try:
                return await self._ask(call, headers)
            except ClientError as error:
                await asyncio.sleep(retries.wait_s(error))

    async def _ask(self, call: GatewayCall[A], headers: dict[str, str]) -> A:
        self.require_open()
        request = self.request(call.method, call.target, headers, call.content)
        try:
            response = await self._http.send(request, stream=True)
            try:
                body = await whole_body(response)
            finally:
                await response.aclose()
        except httpx2.HTTPError as error:
            self.require_open()
            raise unreachable(error, self.address) from error
        if not response.is_success:
            raise error_of(response.status_code, response.headers, body)
        return record_of(body, call.answer)

    def request(
        self, method: str, target: str, headers: dict[str, str], content: bytes | None = None
    ) -> httpx2.Request:
        """Return a request to the gateway."""
        url = self.address.url + target
        return self._http.build_request(method, url, headers=headers, content=content)

    def follow(self, following: Following[T]) -> AsyncStream[T]:
        """Give what a stream brings, over as many connections as it takes."""
        stream = AsyncStream(self, self._http, following)
        self._streams.add(stream)
        return stream

    def require_open(self) -> None:
        """Raise `ClientClosedError`, or `NoEventLoopError`."""
        if self._closed:
            raise ClientClosedError
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise NoEventLoopError from None

    async def close(self) -> None:
        """Close everything."""
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                for stream in list(self._streams):
                    await stream.aclose()
                await self._http.aclose()


class AsyncStream(Generic[T]):
    """What a stream brings, for `async for`.

    Its connection is closed when it ends, with `aclose`, and with its client; where it is left
    early, when Python collects it. Iterating again goes on where it was left.
    """

    def __init__(
        self, transport: AsyncTransport, http: httpx2.AsyncClient, following: Following[T]
    ) -> None:
        self._transport, self._http, self._following = transport, http, following
        self._response: httpx2.Response | None = None
        self._pieces: AsyncGenerator[bytes] | None = None
        self._items: Iterator[T] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while True:
            try:
                for item in self._items:
                    return item
            except ClientError:
                await self.aclose()
                raise
            if self._following.ended:
                await self.aclose()
                raise StopAsyncIteration
            await self._read_on()

    async def _read_on(self) -> None:
        """Read one piece, after opening a connection where there is none."""
        failed: ClientError | None = None
        try:
            pieces = self._pieces or await self._open()
            if (piece := await anext(pieces, None)) is not None:
                self._items = self._following.items(piece)
                return
        except httpx2.HTTPError as error:
            self._transport.require_open()
            failed = unreachable(error, self._transport.address)
            failed.__cause__ = error
        except ClientError as error:
            failed = error
        # Whether there is another connection or not: this one is over.
        await self.aclose()
        await asyncio.sleep(self._following.on_end(failed))

    async def _open(self) -> AsyncGenerator[bytes]:
        self._transport.require_open()
        request = self._transport.request("GET", self._following.target, self._following.headers)
        self._response = response = await self._http.send(request, stream=True)
        if not response.is_success:
            body = await whole_body(response)
            raise error_of(response.status_code, response.headers, body)
        self._following.on_answer(response.status_code, response.headers)
        wait_for_pieces(response, self._following.silence_s)
        self._pieces = response.aiter_raw()
        return self._pieces

    async def aclose(self) -> None:
        """Close its connection; closing twice is well."""
        pieces, response = self._pieces, self._response
        self._pieces = self._response = None
        if pieces is not None:
            # Another task may be reading: the connection is closed under it.
            with suppress(RuntimeError):
                await pieces.aclose()
        if response is not None:
            await response.aclose()


async def whole_body(response: httpx2.Response) -> bytes:
    """Return all of an answer's body; `MalformedAnswerError` where it is too long."""
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise MalformedAnswerError(f"the answer is over {MAX_ANSWER_BYTES} bytes long")
    return bytes(body)
