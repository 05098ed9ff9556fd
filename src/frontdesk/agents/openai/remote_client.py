"""The connection to a remote agent: one request, and the events of its answer, within bounds.

A connection serves one request and is closed with it, whatever ends that: an abort stops what the
remote agent does for us as far as it notices that nobody reads. Redirects are not followed, nothing
is taken from the environment, no cookie is kept, and what is compressed is not unpacked.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx2

from frontdesk.agents.errors import AgentFailed
from frontdesk.agents.remote_address import RemoteAddress
from frontdesk.agents.values import TooManyValues, read_json

MAX_EVENT_BYTES = 2**20
"""The longest event of an answer."""

MAX_ANSWER_BYTES = 32 * 2**20
"""All of an answer."""

CONNECT_TIMEOUT_S = 15.0

_REDIRECTS = range(300, 400)
_EVENTS = "text/event-stream"


class RemoteClient:
    """Ask a remote agent. A failure is an `AgentFailed`, which tells nothing of the credential."""

    __slots__ = ("_address", "_timeout", "_tls")

    def __init__(self, address: RemoteAddress, *, timeout_s: float) -> None:
        self._address = address
        self._timeout = httpx2.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))
        # Made once: reading the authorities takes longer than most requests.
        self._tls: ssl.SSLContext = httpx2.create_ssl_context(trust_env=False)

    async def events(self, path: str, body: dict[str, Any]) -> AsyncIterator[Any]:
        """Post a body; yield what each event of the answer says.

        An answer that is one JSON document is the one event.
        """
        headers = {
            **self._address.headers(),
            "accept": _EVENTS,
            "accept-encoding": "identity",
            "user-agent": "frontdesk",
        }
        async with self._open() as client:
            try:
                async with client.stream(
                    "POST", f"{self._address.url}/{path}", json=body, headers=headers
                ) as response:
                    _check(response)
                    streamed = _EVENTS in response.headers.get("content-type", "")
                    async for document in _documents(response, streamed=streamed):
                        yield _read(document)
            except httpx2.TimeoutException:
                raise AgentFailed("the remote agent took too long") from None
            except httpx2.HTTPError as error:
                # Its own words may quote what was sent.
                problem = f"the remote agent cannot be reached ({type(error).__name__})"
                raise AgentFailed(problem) from None

    def _open(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            verify=self._tls,
            timeout=self._timeout,
            trust_env=False,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )


def _check(response: httpx2.Response) -> None:
    """Refuse what is no answer. Its body is not shown: some quote the key that they refuse."""
    status = response.status_code
    if status in _REDIRECTS:
        raise AgentFailed(f"the remote agent answered {status}: redirects are not followed")
    if not response.is_success:
        raise AgentFailed(f"the remote agent answered {status}")
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise AgentFailed(f"the remote agent's answer is compressed ({encoding[:20]})")


async def _documents(response: httpx2.Response, *, streamed: bool) -> AsyncIterator[bytes]:
    """Yield the documents of an answer: the data of each event, or the whole of it."""
    waiting, size = bytearray(), 0
    data: list[bytes] = []
    async for piece in response.aiter_raw():
        size += len(piece)
        waiting += piece
        if size > MAX_ANSWER_BYTES or (streamed and len(waiting) > MAX_EVENT_BYTES):
            raise AgentFailed("the remote agent's answer is too long")
        if not streamed:
            continue
        *lines, rest = waiting.split(b"\n")
        waiting = bytearray(rest)
        for line in (each.rstrip(b"\r") for each in lines):
            if line.startswith(b"data:"):
                data.append(bytes(line[5:]).strip())
            elif not line and data:
                yield b"\n".join(data)
                data = []
    if streamed and data:
        yield b"\n".join(data)
    elif not streamed:
        yield bytes(waiting)


def _read(document: bytes) -> Any:
    if document == b"[DONE]":
        return {}
    try:
        return read_json(document)
    except (ValueError, RecursionError, TooManyValues):
        raise AgentFailed("the remote agent's answer cannot be read") from None
