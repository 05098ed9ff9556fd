"""The connection to a remote A2A agent: the protocol's own client over a transport with bounds.

The transport is where the rules are: it calls the origin of the operator's address and no other,
whatever the agent's card names, sends the credential, follows no redirect, unpacks nothing, and
reads so much and no more.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.types import SendMessageRequest
from a2a.utils.constants import TransportProtocol
from a2a.utils.errors import A2AError

from frontdesk.agents.errors import AgentFailed
from frontdesk.agents.remote_address import RemoteAddress, origin_of

MAX_EVENT_BYTES = 2**20
"""The longest event of an answer, and the longest card."""

MAX_ANSWER_BYTES = 32 * 2**20
"""All of an answer."""

CONNECT_TIMEOUT_S = 15.0

_BINDINGS: list[str] = [TransportProtocol.JSONRPC, TransportProtocol.HTTP_JSON]
_REDIRECTS = range(300, 400)


class RemoteContext:
    """What a session keeps of the remote agent: its card, and the context there."""

    __slots__ = ("card", "context_id")

    def __init__(self) -> None:
        self.card: Any = None
        self.context_id: str = ""


class A2AClient:
    """Open clients for the agent at one address."""

    __slots__ = ("_address", "_timeout", "_tls")

    def __init__(self, address: RemoteAddress, *, timeout_s: float) -> None:
        self._address = address
        self._timeout = httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))
        # Made once: reading the authorities takes longer than most requests.
        self._tls: ssl.SSLContext = httpx.create_ssl_context(trust_env=False)

    @contextlib.asynccontextmanager
    async def opened(self, there: RemoteContext) -> AsyncIterator[Client]:
        """Give a client for one turn. The agent's card is read once for a session."""
        transport = BoundTransport(self._address, tls=self._tls)
        async with httpx.AsyncClient(
            transport=transport,
            timeout=self._timeout,
            trust_env=False,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        ) as http:
            config = ClientConfig(httpx_client=http, supported_protocol_bindings=_BINDINGS)
            with failures():
                if there.card is None:
                    there.card = await self._card(http)
                client = ClientFactory(config).create(there.card)
            yield client

    async def _card(self, http: httpx.AsyncClient) -> Any:
        """Read the agent's card, and keep of its interfaces those that may be called."""
        url = self._address.url
        base, _, name = url.rpartition("/") if url.endswith(".json") else (url, "", None)
        card = await A2ACardResolver(http, base).get_agent_card(name)
        kept = [
            each
            for each in card.supported_interfaces
            if each.protocol_binding in _BINDINGS and origin_of(each.url) == self._address.origin
        ]
        if not kept:
            problem = "names no JSON-RPC or HTTP interface at the host of its own address"
            raise AgentFailed(f"the remote agent's card {problem}")
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(kept)
        return card


async def events_of(client: Client, request: SendMessageRequest) -> AsyncGenerator[Any, None]:
    """Send a message, and yield what comes of it."""
    events: Any = client.send_message(request)
    with failures():
        async with contextlib.aclosing(events):
            async for event in events:
                yield event


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Raise `AgentFailed` for what a client raises; it tells nothing of the credential."""
    try:
        yield
    except httpx.HTTPError as error:
        raise AgentFailed(f"the remote agent cannot be reached ({type(error).__name__})") from None
    except A2AError as error:
        # Its own words are the remote agent's: they may quote what was sent.
        raise AgentFailed(f"the remote agent failed ({type(error).__name__})") from None
    except (ValueError, KeyError, TypeError):
        raise AgentFailed("the remote agent's answer cannot be read") from None


class BoundTransport(httpx.AsyncBaseTransport):
    """Send requests to one origin, with the credential; read answers within bounds."""

    def __init__(self, address: RemoteAddress, *, tls: ssl.SSLContext) -> None:
        self._address = address
        self._inner = httpx.AsyncHTTPTransport(verify=tls, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; `AgentFailed` for an answer that is none."""
        if origin_of(str(request.url)) != self._address.origin:
            raise AgentFailed("the remote agent names another host than the one of its address")
        request.headers.update({**self._address.headers(), "accept-encoding": "identity"})
        response = await self._inner.handle_async_request(request)
        problem = _problem(response)
        if problem is not None:
            await response.aclose()
            raise AgentFailed(problem)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = BoundStream(response.stream)
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


def _problem(response: httpx.Response) -> str | None:
    """Return why an answer is refused. Its body is not shown: some quote the key they refuse."""
    if response.status_code in _REDIRECTS:
        return f"the remote agent answered {response.status_code}: redirects are not followed"
    if not response.is_success:
        return f"the remote agent answered {response.status_code}"
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        return f"the remote agent's answer is compressed ({encoding[:20]})"
    return None


class BoundStream(httpx.AsyncByteStream):
    """The body of an answer, as far as it may go."""

    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = line = 0
        async for piece in self._inner:
            size += len(piece)
            line = len(piece) - piece.rfind(b"\n") - 1 if b"\n" in piece else line + len(piece)
            if size > MAX_ANSWER_BYTES or line > MAX_EVENT_BYTES:
                raise AgentFailed("the remote agent's answer is too long")
            yield piece

    async def aclose(self) -> None:
        """Close the connection."""
        await self._inner.aclose()
