"""What a gateway that is a node of a cluster does about other nodes: it passes on, and takes in.

Beside the middleware, which asks for every request that names a session; above the node, which
knows where sessions are. It owns the private listener and the connections to other nodes.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable
from typing import Self

from starlette.responses import Response

from frontdesk.cluster.node import Node
from frontdesk.cluster.records import IndexEntry, NodeStatus
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.request_context import RequestContext


class Forwarding:
    """Pass requests on to other nodes, and take theirs. Opened by `async with`: it listens.

    Made before the node, which joins with its `address` and calls it (`NodeHooks`); `join` then
    gives it the node. Until then it passes nothing on and refuses what comes.

    Args:
        gateway: Whose requests.
        listen: Where other nodes reach this one: `unix:/path` (its directory is made, 0700), or
            `host:port`, where port 0 takes a free one.
        advertise: `host:port` under which others reach `listen`, where that is another.
        secret: Of all nodes; the key of what is signed here is derived from it.
        tls_server, tls_client: Where nodes show each other certificates.
    """

    address: str
    """Where others reach this node, as `NodeRecord.address` has it."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        listen: str,
        secret: bytes,
        advertise: str | None = None,
        tls_server: ssl.SSLContext | None = None,
        tls_client: ssl.SSLContext | None = None,
    ) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(self, *exc_info: object) -> None:
        raise NotImplementedError

    def join(self, node: Node) -> None:
        """Pass requests on from now on, and take in what other nodes pass on."""
        raise NotImplementedError

    # -- what the node asks (`NodeHooks`) --------------------------------------------------------

    def listener_age_s(self) -> float:
        """Return since when the private listener has not answered. From any thread."""
        raise NotImplementedError

    async def ask_owner(self, session_id: str, node: NodeStatus) -> IndexEntry | None:
        """Ask a node itself for a session of its own; `OwnerUnreachable` where it says nothing."""
        raise NotImplementedError

    # -- what requests ask -----------------------------------------------------------------------

    def route(self, context: RequestContext) -> Awaitable[None] | None:
        """Return what answers a request whose session is not here; None where this node does."""
        raise NotImplementedError

    def least_loaded(self) -> str | None:
        """Return the other node that takes new sessions and has the fewest, by its incarnation."""
        raise NotImplementedError

    async def forward_create(
        self, context: RequestContext, body: bytes, *, incarnation: str
    ) -> Response:
        """Have another node open a session, and return its answer as it is.

        `OwnerUnreachable` where it does not answer. What came here from another node is not passed
        on once more: ask `context.tenant_key.forwarded` first.
        """
        raise NotImplementedError
