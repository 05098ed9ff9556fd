"""What an operator's key opens, for programs with an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Unpack

from frontdesk.agents.events import Gap
from frontdesk.agents.records import Message
from frontdesk.client import gateway_calls as calls
from frontdesk.client.async_transport import AsyncStream, AsyncTransport
from frontdesk.client.call_options import OperatorFilter, OperatorPage
from frontdesk.client.event_stream import FeedEvent, FeedFollowing, SessionFollowing, StreamEvent
from frontdesk.schemas.operator_schemas import GatewayStatus, ListedNode, ListedNodes
from frontdesk.schemas.row_schemas import EndedSessions, HostedSessionDetail, HostedSessions
from frontdesk.schemas.usage_schemas import OperatorUsage


class AsyncClientOperator:
    """What operators see and do, of all tenants. There is no text of anybody's."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def status(self) -> GatewayStatus:
        """Return what runs there."""
        return await self._transport.send(calls.gateway_status())

    async def sessions(self, **chosen: Unpack[OperatorPage]) -> HostedSessions:
        """Return the live sessions of all tenants that are as each of the fields says."""
        return await self._transport.send(calls.hosted_sessions(chosen))

    async def session(self, tenant_id: str, session_id: str) -> HostedSessionDetail:
        """Return how a tenant's session is doing, with the names of its tools. `NotFoundError`."""
        return await self._transport.send(calls.hosted_session(tenant_id, session_id))

    async def messages(self, tenant_id: str, session_id: str) -> AsyncIterator[Message]:
        """Give a session's history; `ForbiddenError` unless operators may read text."""
        after: str | None = ""
        while after is not None:
            call = calls.hosted_messages(tenant_id, session_id, after=after)
            page = await self._transport.send(call)
            for each in page.messages:
                yield each
            after = page.next

    def events(
        self, tenant_id: str, session_id: str, *, since: str | None = None
    ) -> AsyncStream[StreamEvent | Gap]:
        """Follow a session's events; `ForbiddenError` unless operators may read text."""
        path = calls.hosted_events_path(tenant_id, session_id)
        return self._transport.follow(SessionFollowing(path, since=since, types=()))

    async def stop(self, tenant_id: str, session_id: str) -> None:
        """End a session of a tenant, which keeps what is stored of it. `NotFoundError`."""
        await self._transport.send(calls.stop_hosted(tenant_id, session_id))

    async def abort(
        self,
        tenant_id: str,
        session_id: str,
        *,
        reason: str | None = None,
        kill_tools: bool = False,
    ) -> None:
        """End the turn under way of a tenant's session, which lives on. `NotFoundError`."""
        call = calls.abort_hosted(tenant_id, session_id, reason, kill_tools=kill_tools)
        await self._transport.send(call)

    async def nodes(self) -> ListedNodes:
        """Return the nodes of the cluster; none where the gateway is alone."""
        return await self._transport.send(calls.nodes())

    async def drain(self, node: str) -> ListedNode:
        """Have a node leave new sessions to others. `NotFoundError`."""
        return await self._transport.send(calls.drain_node(node))

    async def ends(self) -> EndedSessions:
        """Return how the last 1,000 sessions of all tenants ended, the newest first."""
        return await self._transport.send(calls.ends("/ops/ends"))

    async def usage(self, *, limit: int | None = None, after: str | None = None) -> OperatorUsage:
        """Return the meter by tenant and key, in pages."""
        return await self._transport.send(calls.usage_of_all(limit=limit, after=after))

    def feed(self, **chosen: Unpack[OperatorFilter]) -> AsyncStream[FeedEvent]:
        """Follow the sessions of all tenants; as `AsyncClient.feed`, and the nodes as well."""
        target = calls.feed_target("/ops/feed", chosen)
        return self._transport.follow(FeedFollowing(target))
