"""Requests from this node to others: signed, sent, and their answers as they come.

Above the connections, below what is passed on and what nodes ask each other. It knows nodes by
their incarnations, and nothing of sessions.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from frontdesk.cluster.records import NodeState, NodeStatus
from frontdesk.gateway.forwarding.claims import CallerClaims, HopClaims
from frontdesk.gateway.forwarding.hop_connection import HopBroken, HopConnection
from frontdesk.gateway.forwarding.node_connections import NodeConnections
from frontdesk.gateway.forwarding.signing import (
    HEADER,
    MAX_CLOCK_DIFFERENCE_S,
    HopSigner,
    digest_of_body,
    fresh_nonce,
)

GONE_STATUS, REFUSED_STATUS = 421, 403
"""A node's own answers: it cannot answer for that (RFC 9110, 15.5.20), or it will not."""

PING = "/-/ping"
"""What every node answers that is there; below no path of the gateway's."""


@dataclass(frozen=True, slots=True)
class HopRequest:
    """What is sent to another node. The fields are those of `HopClaims`."""

    method: str
    target: str
    body: bytes = b""
    caller: CallerClaims | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    client: str = "-"
    prefix: str = ""


class Hops:
    """Send requests to other nodes. Belongs to one event loop; `close` it.

    `status_of` tells what is known of a node now, None of one that is dead; `sender` what this one
    is called in what it signs.
    """

    def __init__(
        self,
        signer: HopSigner,
        *,
        sender: Callable[[], str],
        status_of: Callable[[str], NodeStatus | None],
        stream_s: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._signer, self._sender, self._status_of = signer, sender, status_of
        self._stream_s = stream_s
        self.tls: ssl.SSLContext | None = tls
        self._by_incarnation: dict[str, NodeConnections] = {}
        self.streams: set[Callable[[], None]] = set()
        """What ends each event stream and WebSocket that goes through this node to another."""

    def envelope(self, request: HopRequest, *, to: str, fence: int | None = None) -> bytes:
        """Return the signed claims of a request, good for one use."""
        now_ms = self._signer.now_ms()
        return self._signer.sign(
            HopClaims(
                to=to,
                sender=self._sender(),
                at_ms=now_ms,
                nonce=fresh_nonce(),
                method=request.method,
                target=request.target,
                body_digest=digest_of_body(request.body),
                deadline_ms=now_ms + int(MAX_CLOCK_DIFFERENCE_S * 1000),
                caller=request.caller,
                fence=fence,
                headers=request.headers,
                client=request.client,
                prefix=request.prefix,
            )
        )

    @asynccontextmanager
    async def exchange(
        self,
        node: NodeStatus,
        request: HopRequest,
        *,
        fence: int | None = None,
        on_connection: Callable[[HopConnection], None] = lambda _: None,
    ) -> AsyncIterator[HopConnection]:
        """Ask a node; give the connection once the head of the answer is there. `HopBroken`.

        `on_connection` is given each that is tried, before. Leaving the block before the whole
        answer was read ends the connection.
        """
        connections = self.connections(node)
        head = head_of(request, self.envelope(request, to=node.node.incarnation, fence=fence))
        for fresh in (False, True):
            connection = await connections.connection(fresh=fresh)
            reused = connection.asked
            on_connection(connection)
            with connections.exchange(connection):
                try:
                    await connection.ask(head, request.body, without_body=request.method == "HEAD")
                except HopBroken:
                    # As idle, it was closed on the other side. If the request was taken all the
                    # same, the second one is refused, by its nonce: nothing is done twice.
                    if reused and not connection.aborted:
                        continue
                    raise
                connections.on_answer(connection)
                yield connection
                return

    def connections(self, node: NodeStatus) -> NodeConnections:
        """Return the connections to a node, and drop those to nodes that are dead."""
        incarnation = node.node.incarnation
        found = self._by_incarnation.get(incarnation)
        if found is not None:
            return found
        for each in [each for each in self._by_incarnation if self._status_of(each) is None]:
            self._by_incarnation.pop(each).close("it is dead")

        async def ping(connection: HopConnection) -> None:
            await self.ping(connection, to=incarnation)

        def problem() -> str | None:
            status = self._status_of(incarnation)
            if status is None:
                return "it is dead"
            return "it has stalled" if status.state is NodeState.STALLED else None

        def suspect() -> bool:
            status = self._status_of(incarnation)
            return status is not None and status.state is NodeState.SUSPECT

        made = NodeConnections(
            node.node.address,
            ping=ping,
            problem=problem,
            suspect=suspect,
            stream_s=self._stream_s,
            tls=self.tls,
        )
        self._by_incarnation[incarnation] = made
        return made

    def change_tls(self, tls: ssl.SSLContext) -> None:
        """Show and trust what a context says on new connections; those that are open stay."""
        self.tls = tls
        for each in self._by_incarnation.values():
            each.tls = tls

    async def ping(self, connection: HopConnection, *, to: str) -> None:
        """Ask on a connection whether that node is there. `HopBroken` where it is not."""
        request = HopRequest("GET", PING)
        if await connection.ask(head_of(request, self.envelope(request, to=to)), b"") != 200:
            raise HopBroken("it is another node")

    def close(self) -> None:
        """End all that is under way."""
        for each in self._by_incarnation.values():
            each.close("this node ends")
        self._by_incarnation.clear()


def head_of(request: HopRequest, envelope: bytes) -> bytes:
    """Return a request's head as it is written."""
    return b"%b %b HTTP/1.1\r\nhost: node\r\n%b: %b\r\ncontent-length: %d\r\n\r\n" % (
        request.method.encode("ascii"),
        request.target.encode("ascii"),
        HEADER,
        envelope,
        len(request.body),
    )
