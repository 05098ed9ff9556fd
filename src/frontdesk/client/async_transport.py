"""What goes over the network, for programs with an event loop: sending, following, closing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, TypeVar

from frontdesk.agents.events import Gap
from frontdesk.client.event_stream import FeedEvent, StreamEvent
from frontdesk.client.gateway_address import GatewayAddress
from frontdesk.client.gateway_calls import GatewayCall

A = TypeVar("A")


class AsyncTransport:
    """Connections to one gateway."""

    def __init__(self, address: GatewayAddress, *, timeout_s: float) -> None:
        self.address: GatewayAddress = address
        self._timeout_s = timeout_s

    async def send(self, call: GatewayCall[A]) -> A:
        """Send a request, again where that may be, and return the record of its answer."""
        raise NotImplementedError

    def follow_events(
        self, session_id: str, *, since: str | None, types: Sequence[str]
    ) -> AsyncGenerator[StreamEvent | Gap]:
        """Follow the events of a session."""
        raise NotImplementedError

    def follow_feed(self, path: str, chosen: Mapping[str, Any]) -> AsyncGenerator[FeedEvent]:
        """Follow the rows of sessions."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close everything."""
        raise NotImplementedError
