"""What a gateway that is a node of a cluster asks of whoever passes requests on to other nodes.

Below the gateway, which is alone as a rule and has nobody to ask; `forwarding/` has it. It stands
apart from that, so that each can be read, and tried, without the other.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    # Late: a gateway that is alone needs none of it for this.
    from starlette.responses import Response

    from frontdesk.cluster.records import NodeStatus
    from frontdesk.gateway.queries import SessionsQuery
    from frontdesk.gateway.request_context import RequestContext
    from frontdesk.gateway.rows.hosted_rows import HostedQuery
    from frontdesk.gateway.rows.row_questions import RowsAnswer, RowsQuestion
    from frontdesk.schemas.answer_schemas import SessionList
    from frontdesk.schemas.operator_schemas import GatewayNumbers
    from frontdesk.schemas.row_schemas import (
        EndedSession,
        HostedSession,
        HostedSessionDetail,
        SessionRow,
    )


class Drained(NamedTuple):
    """What came of an operator's order to drain a node."""

    node: NodeStatus
    new: bool
    """Whether it begins now; else it drains already."""


class Elsewhere(Protocol):
    """Passes requests on to the nodes that can answer them."""

    def route(self, context: RequestContext) -> Awaitable[None] | None:
        """Return what answers a request whose session is not here; None where this node does.

        Costs a lookup of the local store for a session that is here.
        """
        ...

    def least_loaded(self) -> str | None:
        """Return the other node that takes new sessions and has the fewest, by its incarnation."""
        ...

    async def forward_create(
        self, context: RequestContext, body: bytes, *, incarnation: str
    ) -> Response:
        """Have another node open a session, and return its answer as it is.

        `OwnerUnreachable` where it does not answer. What came here from another node is not passed
        on once more: ask `context.tenant_key.forwarded` first.
        """
        ...

    def change_tls(self, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        """Show and trust what these say on new connections of nodes, where they are with TLS."""
        ...

    def end_streams(self) -> None:
        """End what is open to other nodes' sessions: this node ends, and they live on."""
        ...

    async def list_sessions(self, tenant_id: str, query: SessionsQuery) -> SessionList:
        """List a tenant's sessions on all nodes; `after` is the `next` of the page before."""
        ...

    async def erase_tenant(self, tenant_id: str) -> int:
        """End and erase all sessions of a tenant on all nodes; return how many there were."""
        ...

    async def numbers(self) -> dict[str, GatewayNumbers]:
        """Return the numbers of each node that answers, by its name."""
        ...

    async def drain(self, node: str) -> Drained:
        """Have a node, of this name or incarnation, leave new sessions to others.

        `NodeNotFound`; `OwnerUnreachable` where it does not answer.
        """
        ...

    def asking_rows(self, node: NodeStatus) -> Callable[[RowsQuestion], Awaitable[RowsAnswer]]:
        """Return what asks a node for its rows; `OwnerUnreachable` where it does not answer."""
        ...

    async def indexed_rows(self, node: NodeStatus, tenant_id: str | None) -> list[SessionRow]:
        """Return what the index knows of a node's sessions; nothing where it does not answer."""
        ...

    async def stored_among(self, keys: Collection[str]) -> Collection[str]:
        """Return which of these keys are those of stored sessions that have not ended."""
        ...

    def reason_of_end(self, key: str) -> str:
        """Return how a session of a dead node ended, by its key in the registry."""
        ...

    async def last_ends(self, tenant_id: str | None) -> tuple[list[EndedSession], bool]:
        """Return the last ends of all nodes, the newest first, and whether some did not answer."""
        ...

    async def hosted_sessions(self, query: HostedQuery) -> tuple[list[HostedSession], bool]:
        """Return the first sessions of each node that answers, and whether some do not."""
        ...

    async def hosted_session(self, key: str) -> HostedSessionDetail | None:
        """Return a session of another node; `OwnerUnreachable` where that does not answer."""
        ...
