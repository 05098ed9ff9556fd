"""What both clients tell the HTTP library, and what they make of its errors."""

from __future__ import annotations

import secrets
import ssl
from typing import Any, TypedDict

import httpx2

from frontdesk._version import __version__
from frontdesk.client.errors import UnreachableError
from frontdesk.client.gateway_address import GatewayAddress
from frontdesk.client.gateway_calls import GatewayCall

MAX_IDLE_CONNECTIONS = 20


class HTTPSettings(TypedDict):
    """What an HTTP client is made with."""

    headers: dict[str, str]
    timeout: httpx2.Timeout
    limits: httpx2.Limits
    follow_redirects: bool
    trust_env: bool
    verify: bool | ssl.SSLContext


def settings_of(address: GatewayAddress, *, timeout_s: float) -> HTTPSettings:
    """Return how a gateway is asked.

    Nothing is followed to another address, which would get the key. Proxies of the environment
    are for other machines. Answers come as they are: one that is small when compressed, and
    endless when not, is nobody's.
    """
    headers = {
        "User-Agent": f"frontdesk-client/{__version__}",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        **address.headers,
    }
    return {
        "headers": headers,
        "timeout": httpx2.Timeout(timeout_s),
        # A stream is a connection: how many there may be is the gateway's to say.
        "limits": httpx2.Limits(
            max_connections=None, max_keepalive_connections=MAX_IDLE_CONNECTIONS
        ),
        "follow_redirects": False,
        "trust_env": not address.loopback,
        # The certificates of the system take 20 ms to read: not for who speaks no TLS.
        "verify": address.url.startswith("https:") or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    }


def headers_of(call: GatewayCall[Any]) -> dict[str, str]:
    """Return what one request says beside the key; the same each time that it is sent."""
    kind = "application/jsonl" if isinstance(call.body, bytes) else "application/json"
    headers = {} if call.body is None else {"Content-Type": kind}
    if call.once:
        headers["Idempotency-Key"] = secrets.token_hex(16)
    return headers


def wait_for_pieces(response: httpx2.Response, silence_s: float) -> None:
    """Have an answer whose head has come wait so long for each piece of its body."""
    timeout = response.request.extensions.get("timeout")
    if isinstance(timeout, dict):
        timeout["read"] = silence_s


def unreachable(error: httpx2.HTTPError, address: GatewayAddress) -> UnreachableError:
    """Return what went wrong on the way, in words; nothing that was sent is in it."""
    problem = str(error) or type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            problem = f"its certificate is not trusted, or it speaks no TLS: {problem}"
            break
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx2.TimeoutException):
        problem = "nothing came in time"
    return UnreachableError(f"no answer from {address.url}: {problem}")
