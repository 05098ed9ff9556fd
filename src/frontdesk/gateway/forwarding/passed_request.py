"""One request that another node answers: sent whole, its answer passed on as it comes.

Beside `passed_socket.py`, below the forwarding. Nothing is stored of an answer: who reads slowly
makes the owner wait, who leaves ends the connection to it, and an owner that ends ends the answer.
An event stream whose owner is dead ends as that of a session does, if it still can be written; that
of one that is stored just ends, and goes on where its client comes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from frontdesk.agents.events import SessionEnd
from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.gateway.client_connection import connection_of
from frontdesk.gateway.errors import Unauthorized
from frontdesk.gateway.forwarding.answer_copy import (
    is_from_node,
    last_frame,
    own_headers,
    reason_of_end,
)
from frontdesk.gateway.forwarding.destination import Destination, raise_unless_gone
from frontdesk.gateway.forwarding.hop_connection import HopBroken, HopConnection
from frontdesk.gateway.forwarding.hops import HopRequest, Hops
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.open_streams import StreamKind
from frontdesk.gateway.paths import Endpoint
from frontdesk.gateway.queries import EventStreamQuery, query_of
from frontdesk.gateway.request_context import RequestContext
from frontdesk.gateway.sse import RETRY
from frontdesk.sessions.errors import SessionDead

BOUNDARY = b"\n\n"
"""What a frame of a stream ends with: only after one can another be written."""


class PassedRequest:
    """A request on its way to another node, and the answer on its way back."""

    __slots__ = (
        "_connection",
        "_context",
        "_destination",
        "_gateway",
        "_hops",
        "_left",
        "_node_ends",
        "_revoked",
    )

    def __init__(
        self, gateway: Gateway, hops: Hops, context: RequestContext, *, destination: Destination
    ) -> None:
        self._gateway, self._hops, self._context = gateway, hops, context
        self._destination = destination
        self._connection: HopConnection | None = None
        self._left = self._revoked = self._node_ends = False

    async def run(self, request: HopRequest) -> bool:
        """Have it answered; False where the node says that the session is not there.

        `OwnerUnreachable` where nothing is answered within the bounds of `node_connections.py`.
        """
        to = self._destination
        try:
            with self._in_place(request):
                async with self._hops.exchange(
                    to.node, request, fence=to.fence, on_connection=self._on_connection
                ) as connection:
                    if is_from_node(connection):
                        problem = await connection.read() or b""
                        raise_unless_gone(connection.status, problem, to)
                        return False
                    await self._pass_back(connection)
        except HopBroken as broken:
            if self._left or self._context.started:
                return True
            if self._revoked:
                raise Unauthorized from None
            if to.ended is not None:
                raise SessionDead(to.session_id, reason=to.ended.ended.reason) from None
            raise OwnerUnreachable(to.session_id, problem=str(broken)) from None
        return True

    async def _pass_back(self, connection: HopConnection) -> None:
        headers = own_headers(connection.headers)
        await self._context.send(
            {"type": "http.response.start", "status": connection.status, "headers": headers}
        )
        last = b""
        try:
            while (piece := await connection.read()) is not None:
                last = piece
                await self._send(piece, more=True)
        except HopBroken:
            await self._end_in_the_middle(last)
            raise
        await self._send(b"", more=False)

    async def _send(self, body: bytes, *, more: bool) -> None:
        await self._context.send_on({"type": "http.response.body", "body": body, "more_body": more})

    async def _end_in_the_middle(self, last: bytes) -> None:
        """End an answer that the owner did not: a stream with its last word, else by an abort."""
        context = self._context
        if self._left:
            return
        if context.rule.endpoint is Endpoint.EVENT_STREAM:
            if not self._revoked and not self._node_ends and last.endswith(BOUNDARY):
                await self._send_last_word()
            await self._send(b"", more=False)
        elif (client := connection_of(context.scope)) is not None:
            client.abort()

    async def _send_last_word(self) -> None:
        query = query_of(self._context.query, EventStreamQuery)
        node = self._gateway.node
        if node is None or (query.wanted is not None and SessionEnd.name not in query.wanted):
            return
        if await self._gateway.service.owner_of(
            self._context.tenant_sessions.tenant_id, self._destination.session_id
        ):
            # It lives on without its node: who comes again finds it.
            await self._send(RETRY, more=True)
            return
        reason = await reason_of_end(node, self._destination.key)
        if reason is not None and not self._left:
            await self._send(last_frame(reason, envelope=query.envelope), more=True)

    # -- what comes from outside -----------------------------------------------------------------

    @contextmanager
    def _in_place(self, request: HopRequest) -> Iterator[None]:
        """Be notified when the client leaves, and count what stays open among its key's streams."""
        context, streams = self._context, self._gateway.streams
        stays_open = may_stay_open(context, request)
        if stays_open:
            streams.enter(context.tenant_key, self._on_key_revoked, kind=StreamKind.PASSED_ON)
        if context.rule.endpoint is Endpoint.EVENT_STREAM:
            self._hops.streams.add(self._on_node_ends)
        client = connection_of(context.scope)
        listener = None
        if client is None:
            listener = asyncio.create_task(self._wait_for_disconnect())
        else:
            client.on_disconnect = self._on_client_left
            self._left = client.transport.is_closing()
        try:
            yield
        finally:
            self._hops.streams.discard(self._on_node_ends)
            if stays_open:
                streams.leave(context.tenant_key, self._on_key_revoked)
            if client is not None:
                client.on_disconnect = None
            if listener is not None:
                listener.cancel()

    def _on_connection(self, connection: HopConnection) -> None:
        self._connection = connection
        if self._left:
            self._abort("the client has left")

    async def _wait_for_disconnect(self) -> None:
        while (await self._context.receive_on())["type"] != "http.disconnect":
            pass
        self._on_client_left()

    def _on_client_left(self) -> None:
        self._left = True
        self._abort("the client has left")

    def _on_key_revoked(self) -> None:
        self._revoked = True
        self._abort("the key opens nothing any more")
        if (client := connection_of(self._context.scope)) is not None:
            client.abort_if_stalled()

    def _on_node_ends(self) -> None:
        """End the stream, whose session lives on: its client goes on elsewhere."""
        self._node_ends = True
        self._abort("this node ends")

    def _abort(self, problem: str) -> None:
        if self._connection is not None:
            self._connection.abort(problem)


def may_stay_open(context: RequestContext, request: HopRequest) -> bool:
    """Say whether a request has a place among its key's open streams: a stream, or a wait."""
    if context.method == "GET":
        return context.rule.endpoint is Endpoint.EVENT_STREAM
    return b'"wait"' in request.body
