"""What an operator's key opens, for programs without an event loop."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Unpack

from frontdesk.agents.events import Gap
from frontdesk.agents.records import Message
from frontdesk.client import gateway_calls as calls
from frontdesk.client.call_options import OperatorFilter, OperatorPage
from frontdesk.client.event_stream import FeedEvent, FeedFollowing, SessionFollowing, StreamEvent
from frontdesk.client.sync_transport import SyncTransport
from frontdesk.schemas.operator_schemas import GatewayStatus, ListedNode, ListedNodes
from frontdesk.schemas.row_schemas import EndedSessions, HostedSessionDetail, HostedSessions
from frontdesk.schemas.usage_schemas import OperatorUsage


class ClientOperator:
    """What operators see and do, of all tenants. There is no text of anybody's."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def status(self) -> GatewayStatus:
        """Return what runs there."""
        return self._transport.send(calls.gateway_status())

    def sessions(self, **chosen: Unpack[OperatorPage]) -> HostedSessions:
        """Return the live sessions of all tenants that are as each of the fields says."""
        return self._transport.send(calls.hosted_sessions(chosen))

    def session(self, tenant_id: str, session_id: str) -> HostedSessionDetail:
        """Return how a tenant's session is doing, with the names of its tools. `NotFoundError`."""
        return self._transport.send(calls.hosted_session(tenant_id, session_id))

    def messages(self, tenant_id: str, session_id: str) -> Iterator[Message]:
        """Give a session's history; `ForbiddenError` unless operators may read text."""
        after: str | None = ""
        while after is not None:
            call = calls.hosted_messages(tenant_id, session_id, after=after)
            page = self._transport.send(call)
            yield from page.messages
            after = page.next

    def events(
        self, tenant_id: str, session_id: str, *, since: str | None = None
    ) -> Generator[StreamEvent | Gap]:
        """Follow a session's events; `ForbiddenError` unless operators may read text."""
        path = calls.hosted_events_path(tenant_id, session_id)
        return self._transport.follow(SessionFollowing(path, since=since, types=()))

    def stop(self, tenant_id: str, session_id: str) -> None:
        """End a session of a tenant, which keeps what is stored of it. `NotFoundError`."""
        self._transport.send(calls.stop_hosted(tenant_id, session_id))

    def abort(
        self,
        tenant_id: str,
        session_id: str,
        *,
        reason: str | None = None,
        kill_tools: bool = False,
    ) -> None:
        """End the turn under way of a tenant's session, which lives on. `NotFoundError`."""
        call = calls.abort_hosted(tenant_id, session_id, reason, kill_tools=kill_tools)
        self._transport.send(call)

    def nodes(self) -> ListedNodes:
        """Return the nodes of the cluster; none where the gateway is alone."""
        return self._transport.send(calls.nodes())

    def drain(self, node: str) -> ListedNode:
        """Have a node leave new sessions to others. `NotFoundError`."""
        return self._transport.send(calls.drain_node(node))

    def ends(self) -> EndedSessions:
        """Return how the last 1,000 sessions of all tenants ended, the newest first."""
        return self._transport.send(calls.ends("/ops/ends"))

    def usage(self, *, limit: int | None = None, after: str | None = None) -> OperatorUsage:
        """Return the meter by tenant and key, in pages."""
        return self._transport.send(calls.usage_of_all(limit=limit, after=after))

    def feed(self, **chosen: Unpack[OperatorFilter]) -> Generator[FeedEvent]:
        """Follow the sessions of all tenants; as `Client.feed`, and the nodes as well."""
        target = calls.feed_target("/ops/feed", chosen)
        return self._transport.follow(FeedFollowing(target))
