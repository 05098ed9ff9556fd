"""What of another node's answer goes back to the client, and how one ends whose owner is gone.

Below what is passed on. Headers about the connection between two nodes stay between them.
"""

from __future__ import annotations

import asyncio

import msgspec

from frontdesk.agents.events import SessionEnd
from frontdesk.cluster.node import Node
from frontdesk.errors import SessionNotFound
from frontdesk.gateway.forwarding.hop_connection import Headers, HopBroken, HopConnection
from frontdesk.gateway.forwarding.signing import HEADER
from frontdesk.records import ExitKind

OF_ONE_CONNECTION = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"trailer", b"te", b"date"}
    | {b"server", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", HEADER}
)
"""Headers of an answer that are about the connection between two nodes (RFC 9110, 7.6.1)."""

LAST_WORD_S = 2.0
"""How long a stream whose owner is gone waits to be told how its session ended."""
POLL_S = 0.05


def own_headers(headers: Headers) -> Headers:
    """Return the headers of an answer that are the session's own."""
    return [each for each in headers if each[0] not in OF_ONE_CONNECTION]


def is_from_node(connection: HopConnection) -> bool:
    """Say whether an answer is the other node's own: that it is not asked rightly."""
    return any(name == HEADER for name, _ in connection.headers)


async def whole_body(connection: HopConnection, *, limit: int) -> bytes:
    """Return the body of an answer once all of it has come; `HopBroken` where it is too long."""
    body = bytearray()
    while (piece := await connection.read()) is not None:
        body += piece
        if len(body) > limit:
            raise HopBroken("its answer is too long")
    return bytes(body)


async def reason_of_end(node: Node, key: str) -> str | None:
    """Return how a session ended whose owner is gone; None where it may live on, or start again."""
    loop = asyncio.get_running_loop()
    until = loop.time() + LAST_WORD_S
    while True:
        try:
            reason = node.ended(key).ended.reason
        except SessionNotFound:
            # The log brings it, within milliseconds where the kernel has told of the death.
            if loop.time() > until:
                return None
            await asyncio.sleep(POLL_S)
        else:
            return None if reason.kind is ExitKind.RESTARTED else reason.public_text


def last_frame(reason: str, *, envelope: bool) -> bytes:
    """Return the last frame of a stream whose log is gone: without an id, as it is not of it."""
    if envelope:
        return b"data: %b\n\n" % last_message(reason)
    content = msgspec.json.encode(SessionEnd(reason=reason))
    return b"event: %b\ndata: %b\n\n" % (SessionEnd.name.encode(), content)


def last_message(reason: str) -> bytes:
    """Return the same as a message of a WebSocket."""
    content = msgspec.json.encode(SessionEnd(reason=reason))
    return b'{"event":"%b","data":%b}' % (SessionEnd.name.encode(), content)
