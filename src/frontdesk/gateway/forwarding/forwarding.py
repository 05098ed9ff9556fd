"""What a gateway that is a node of a cluster does about other nodes: it passes on, and takes in.

Beside the middleware, which asks for every request that names a session; above the node, which
knows where sessions are. It owns the private listener and the connections to other nodes.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Collection
from typing import Self

from starlette.responses import Response

from frontdesk.agents.ids import registry_key
from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.cluster.node import Node
from frontdesk.cluster.records import IndexEntry, NodeState, NodeStatus
from frontdesk.errors import InvalidArgument
from frontdesk.gateway.client_connection import connection_of
from frontdesk.gateway.elsewhere import Drained
from frontdesk.gateway.forwarding.answer_copy import is_from_node, own_headers, whole_body
from frontdesk.gateway.forwarding.claims import CallerClaims
from frontdesk.gateway.forwarding.destination import destination_of, status_of
from frontdesk.gateway.forwarding.hop_connection import HopBroken, HopConnection
from frontdesk.gateway.forwarding.hops import HopRequest, Hops
from frontdesk.gateway.forwarding.list_cursors import ListCursors
from frontdesk.gateway.forwarding.node_calls import MAX_ANSWER_BYTES, NodeCalls
from frontdesk.gateway.forwarding.node_drains import NodeDrains
from frontdesk.gateway.forwarding.node_row_questions import NodeRowQuestions
from frontdesk.gateway.forwarding.operator_views import OperatorViews
from frontdesk.gateway.forwarding.owner_application import OwnerApplication
from frontdesk.gateway.forwarding.passed_request import PassedRequest
from frontdesk.gateway.forwarding.passed_socket import PassedSocket
from frontdesk.gateway.forwarding.private_listener import PrivateListener
from frontdesk.gateway.forwarding.request_copy import headers_of, target_of
from frontdesk.gateway.forwarding.session_lists import SessionLists
from frontdesk.gateway.forwarding.signing import HopSigner
from frontdesk.gateway.forwarding.stored_lists import StoredLists
from frontdesk.gateway.gateway import Gateway
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

LOOKUPS = 2
"""A request that a node does not answer for is looked up once more, and no more often."""


class Forwarding:
    """Pass requests on to other nodes, and take theirs. Opened by `async with`: it listens.

    Made before the node, which joins with its `address` and calls it (`NodeHooks`); `join` then
    gives it the node. Until then it passes nothing on and refuses what comes.

    Args:
        gateway: Whose requests. Its bounds hold here as well.
        listen: Where other nodes reach this one: `unix:/path` (its directory is made, 0700), or
            `host:port`, where port 0 takes a free one.
        advertise: `host:port` under which others reach `listen`, where that is another.
        secret: Of all nodes; the key of what is signed here is derived from it.
        tls_server, tls_client: Where nodes show each other certificates.
    """

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
        self._gateway = gateway
        self._node: Node | None = None
        self._signer = HopSigner(secret, clock=gateway.clock)
        self._cursors = ListCursors(secret)
        self._application = OwnerApplication(gateway, self._signer)
        self.hops: Hops = Hops(
            self._signer,
            sender=self._own_incarnation,
            status_of=self._status_of,
            stream_s=gateway.config.cluster.lease_s,
            tls=tls_client,
        )
        self._listener = PrivateListener(
            self._application,
            listen=listen,
            advertise=advertise,
            config=gateway.config,
            tls=tls_server,
            tls_client=tls_client,
            ping=lambda connection: self.hops.ping(connection, to=self._own_incarnation()),
        )

    async def __aenter__(self) -> Self:
        await self._listener.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.hops.close()
        await self._listener.__aexit__(*exc_info)

    def join(self, node: Node) -> None:
        """Pass requests on from now on, and take in what other nodes pass on."""
        self._node = self._application.node = node
        self.calls: NodeCalls = NodeCalls(self._gateway, node, self.hops)
        self._stored_lists = StoredLists(self._gateway, node, self.calls)
        self._lists = SessionLists(
            self._gateway, node, self.calls, cursors=self._cursors, stored=self._stored_lists
        )
        self._views = OperatorViews(self._gateway, node, self.calls)
        self._rows = NodeRowQuestions(self._gateway, node, self.calls)
        self._drains = NodeDrains(self._gateway, node, self.calls)
        self._application.calls = self.calls.answers
        self._gateway.forwarding = self

    def change_tls(self, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        """Show and trust what these say on new connections of nodes, where they are with TLS."""
        if self.hops.tls is not None:
            self.hops.change_tls(client)
            self._listener.change_tls(server, client)

    @property
    def address(self) -> str:
        """Where others reach this node, as `NodeRecord.address` has it."""
        return self._listener.address

    # -- what the node asks (`NodeHooks`) --------------------------------------------------------

    def listener_age_s(self) -> float:
        """Return since when the private listener has not answered. From any thread."""
        return self._listener.age_s()

    async def ask_owner(self, session_id: str, node: NodeStatus) -> IndexEntry | None:
        """Ask a node itself for a session of its own; `OwnerUnreachable` where it says nothing."""
        return await self.calls.ask_owner(session_id, node)

    # -- what requests ask -----------------------------------------------------------------------

    def route(self, context: RequestContext) -> Awaitable[None] | None:
        """Return what answers a request whose session is not here; None where this node does."""
        caller, session_id = context.key, context.session_id
        if session_id is None or context.granted_scope is None or caller is None:
            return None
        if self._node is None or caller.forwarded:
            return None
        if caller.only is not None and caller.only.session_id != session_id:
            # As unknown to it as one that never was.
            return None
        try:
            key = registry_key(context.tenant_sessions.tenant_id, session_id)
        except InvalidArgument:
            return None
        service = self._gateway.service
        if service.lives(key) or service.is_dormant(key):
            return None
        return self._answer_elsewhere(self._node, context, key)

    async def _answer_elsewhere(self, node: Node, context: RequestContext, key: str) -> None:
        """Have the owner answer.

        1. The index says where the session is, or where it ended. Here, or nowhere: answer here.
        2. The owner answers; what it sends goes on as it comes.
        3. It may say that the session is not there (any more): look once more, and give up then.
        """
        assert self._gateway.respond is not None
        kind = PassedSocket if context.websocket else PassedRequest
        request: HopRequest | None = None
        for _ in range(LOOKUPS):
            destination = await destination_of(self._gateway, node, context, key)
            if destination is None:
                await self._gateway.respond(context)
                return
            if request is None:
                request = await self.request_of(context)
                if request is None:
                    return  # the client has left
            passed = kind(self._gateway, self.hops, context, destination=destination)
            with self._gateway.metrics.requests.passing_on(context):
                if await passed.run(request):
                    return
            node.forget(key)
        raise OwnerUnreachable(context.session_id or "", problem="it moves")

    async def request_of(
        self, context: RequestContext, body: bytes | None = None
    ) -> HopRequest | None:
        """Return what travels of a request; None where its client leaves before the body is whole.

        The body is read here, bounded as everywhere: its hash is signed.
        """
        if body is None:
            body = await body_of(context)
        if body is None:
            return None
        caller = context.tenant_key
        return HopRequest(
            context.method,
            target_of(context),
            body,
            CallerClaims.of(caller, secret_tag=self._signer.secret_tag(caller.digest)),
            headers_of(context),
            context.client,
            self._gateway.proxies.prefix(context.scope),
        )

    # -- creates ---------------------------------------------------------------------------------

    def least_loaded(self) -> str | None:
        """Return the other node that takes new sessions and has the fewest, by its incarnation."""
        node = self._node
        taking = [
            each
            for each in (() if node is None else node.nodes())
            if each.state is NodeState.ALIVE
            and not each.draining
            and each.node.incarnation != self._own_incarnation()
        ]
        fewest = min(taking, key=lambda each: each.sessions, default=None)
        return None if fewest is None else fewest.node.incarnation

    async def forward_create(
        self, context: RequestContext, body: bytes, *, incarnation: str
    ) -> Response:
        """Have another node open a session, and return its answer as it is.

        `OwnerUnreachable` where it does not answer. What came here from another node is not passed
        on once more: ask `context.tenant_key.forwarded` first.
        """
        assert self._node is not None
        status = await status_of(self._node, incarnation)
        if status is None:
            raise OwnerUnreachable("", problem="it is dead")
        request = await self.request_of(context, body)
        assert request is not None
        try:
            with self._gateway.metrics.requests.passing_on(context):
                async with self.hops.exchange(status, request) as connection:
                    if (client := connection_of(context.scope)) is not None:
                        client.on_disconnect = connection.abort
                    if is_from_node(connection):
                        raise OwnerUnreachable("", problem="it cannot answer for this")
                    return await whole_answer(connection)
        except HopBroken as broken:
            raise OwnerUnreachable("", problem=str(broken)) from None
        finally:
            if (client := connection_of(context.scope)) is not None:
                client.on_disconnect = None

    def end_streams(self) -> None:
        """End what is open to other nodes' sessions: this node ends, and they live on."""
        for end in list(self.hops.streams):
            end()

    # -- lists -----------------------------------------------------------------------------------

    async def list_sessions(self, tenant_id: str, query: SessionsQuery) -> SessionList:
        """List a tenant's sessions on all nodes; `after` is the `next` of the page before."""
        return await self._lists.page(tenant_id, query)

    async def erase_tenant(self, tenant_id: str) -> int:
        """End and erase all sessions of a tenant on all nodes; return how many there were."""
        return await self._stored_lists.erase_tenant(tenant_id)

    async def drain(self, node: str) -> Drained:
        """Have a node, of this name or incarnation, leave new sessions to others."""
        return await self._drains.drain(node)

    def asking_rows(self, node: NodeStatus) -> Callable[[RowsQuestion], Awaitable[RowsAnswer]]:
        """Return what asks a node for its rows; `OwnerUnreachable` where it does not answer."""
        return self._rows.asking(node)

    async def indexed_rows(self, node: NodeStatus, tenant_id: str | None) -> list[SessionRow]:
        """Return what the index knows of a node's sessions; nothing where it does not answer."""
        return await self._rows.indexed(node, tenant_id)

    async def stored_among(self, keys: Collection[str]) -> Collection[str]:
        """Return which of these keys are those of stored sessions that have not ended."""
        return await self._gateway.service.stored_among(keys)

    def reason_of_end(self, key: str) -> str:
        """Return how a session of a dead node ended, by its key in the registry."""
        return self._rows.reason_of_end(key)

    async def last_ends(self, tenant_id: str | None) -> tuple[list[EndedSession], bool]:
        """Return the last ends of all nodes, the newest first, and whether some did not answer."""
        return await self._rows.last_ends(tenant_id)

    async def numbers(self) -> dict[str, GatewayNumbers]:
        """Return the numbers of each node that answers, by its name."""
        return await self._views.numbers()

    async def hosted_sessions(self, query: HostedQuery) -> tuple[list[HostedSession], bool]:
        """Return the first sessions of each node that answers, and whether some do not."""
        return await self._views.hosted(query)

    async def hosted_session(self, key: str) -> HostedSessionDetail | None:
        """Return a session of another node; `OwnerUnreachable` where that does not answer."""
        return await self._views.session(key)

    # -- within ----------------------------------------------------------------------------------

    def _own_incarnation(self) -> str:
        return "" if self._node is None else self._node.incarnation

    def _status_of(self, incarnation: str) -> NodeStatus | None:
        return None if self._node is None else self._node.node(incarnation)


async def body_of(context: RequestContext) -> bytes | None:
    """Return a request's whole body, None where its client leaves before."""
    if context.websocket or not context.announced_body():
        return b""
    pieces = []
    more = True
    while more:
        message = await context.receive()
        if message["type"] != "http.request":
            return None
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


async def whole_answer(connection: HopConnection) -> Response:
    """Return another node's answer once all of it has come."""
    body = await whole_body(connection, limit=MAX_ANSWER_BYTES)
    response = Response(body, status_code=connection.status)
    response.raw_headers = own_headers(connection.headers)
    return response
