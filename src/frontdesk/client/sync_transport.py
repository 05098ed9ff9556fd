"""What goes over the network, for programs without an event loop: sending, following, closing.

Decides nothing: what is sent again, and where a stream goes on, is said by `retrying` and
`event_stream`.
"""

from __future__ import annotations

from collections.abc import Generator
from threading import Event as Flag
from typing import TypeVar

import httpx2

from frontdesk.client.answer_reading import MAX_ANSWER_BYTES, error_of, record_of
from frontdesk.client.errors import ClientClosedError, ClientError, MalformedAnswerError
from frontdesk.client.event_stream import Following
from frontdesk.client.gateway_address import GatewayAddress
from frontdesk.client.gateway_calls import GatewayCall
from frontdesk.client.http_settings import headers_of, settings_of, unreachable, wait_for_pieces
from frontdesk.client.retrying import Retries

A = TypeVar("A")
T = TypeVar("T")


class SyncTransport:
    """Connections to one gateway."""

    def __init__(self, address: GatewayAddress, *, timeout_s: float) -> None:
        self.address: GatewayAddress = address
        self._http = httpx2.Client(**settings_of(address, timeout_s=timeout_s))
        self._closed = Flag()

    def send(self, call: GatewayCall[A]) -> A:
        """Send a request, again where that may be, and return the record of its answer."""
        retries, headers = Retries(repeatable=call.repeatable), headers_of(call)
        while True:
            try:
                return self._ask(call, headers)
            except ClientError as error:
                self._pause(retries.wait_s(error))

    def _ask(self, call: GatewayCall[A], headers: dict[str, str]) -> A:
        url = self.address.url + call.target
        self._require_open()
        try:
            with self._http.stream(
                call.method, url, content=call.content, headers=headers
            ) as response:
                body = self._whole_body(response)
        except httpx2.HTTPError as error:
            self._require_open()
            raise unreachable(error, self.address) from error
        if not response.is_success:
            raise error_of(response.status_code, response.headers, body)
        return record_of(body, call.answer)

    def follow(self, following: Following[T]) -> Generator[T]:
        """Give what a stream brings, over as many connections as it takes."""
        while not following.ended:
            try:
                yield from self._follow_once(following)
                wait_s = following.on_end()
            except httpx2.HTTPError as error:
                self._require_open()
                wait_s = following.on_end(unreachable(error, self.address))
            except ClientError as error:
                wait_s = following.on_end(error)
            self._pause(wait_s)

    def _follow_once(self, following: Following[T]) -> Generator[T]:
        url = self.address.url + following.target
        self._require_open()
        with self._http.stream("GET", url, headers=following.headers) as response:
            if not response.is_success:
                body = self._whole_body(response)
                raise error_of(response.status_code, response.headers, body)
            following.on_answer(response.status_code, response.headers)
            wait_for_pieces(response, following.silence_s)
            for piece in response.iter_raw():
                yield from following.items(piece)
                if following.ended:
                    return

    def _whole_body(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        for piece in response.iter_raw():
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                raise MalformedAnswerError(f"the answer is over {MAX_ANSWER_BYTES} bytes long")
        return bytes(body)

    def _pause(self, wait_s: float) -> None:
        if self._closed.wait(wait_s):
            raise ClientClosedError

    def _require_open(self) -> None:
        if self._closed.is_set():
            raise ClientClosedError

    def close(self) -> None:
        """Close everything."""
        self._closed.set()
        self._http.close()
