"""One gateway, by one key, for programs with an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, Unpack

from frontdesk.client import gateway_calls as calls
from frontdesk.client.async_operator import AsyncClientOperator
from frontdesk.client.async_session import AsyncClientSession
from frontdesk.client.async_transport import AsyncStream, AsyncTransport
from frontdesk.client.both_clients import AnyClient
from frontdesk.client.call_options import (
    RowFilter,
    SessionOptions,
    SessionsFilter,
    UsageFilter,
)
from frontdesk.client.event_stream import FeedEvent, FeedFollowing
from frontdesk.client.gateway_address import GatewayAddress
from frontdesk.schemas.answer_schemas import BlueprintList, ModelList, SessionList, SessionSummary
from frontdesk.schemas.operator_schemas import Health
from frontdesk.schemas.row_schemas import EndedSessions
from frontdesk.schemas.usage_schemas import UsageReport


class AsyncClient(AnyClient[AsyncTransport]):
    """Ask one gateway, with one key, on an event loop of asyncio.

    What is said of `Client` holds here as well; what asks is awaited. Tasks may share it; a turn,
    or another stream, is for one of them at a time. Leaving it ends what its other tasks wait for
    with `ClientClosedError`.
    """

    def _transport_to(self, address: GatewayAddress, *, timeout_s: float) -> AsyncTransport:
        return AsyncTransport(address, timeout_s=timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every stream and connection. Closing twice is well; it takes 2 s at most."""
        await self._transport.close()

    # -- sessions --------------------------------------------------------------------------------

    async def open(self, model: str, **options: Unpack[SessionOptions]) -> AsyncClientSession:
        """Open a session, and return it once its agent has started.

        `CreateFailedError`, `AlreadyExistsError`, `SessionLimitError`, `UnavailableError`.
        """
        created = await self._transport.send(calls.open_session(model, options))
        return AsyncClientSession(self._transport, created.session_id)

    def session(self, session_id: str) -> AsyncClientSession:
        """Return a session by its id. Nothing is asked: whether there is one, its methods say."""
        return AsyncClientSession(self._transport, session_id)

    async def get(self, session_id: str) -> SessionSummary:
        """Say how a session is doing. `NotFoundError`, or `SessionDeadError` with its reason."""
        return await self.session(session_id).get()

    async def stop(self, session_id: str) -> None:
        """End and erase a session; return when it is gone. `NotFoundError`, `SessionDeadError`."""
        await self.session(session_id).stop()

    async def import_session(
        self, lines: bytes, *, session_id: str | None = None
    ) -> AsyncClientSession:
        """Have the lines of `export` read in, under the session's own id or another.

        It is dormant, or has ended as it had. All of it or nothing: `ImportRefusedError` names
        every line that is wrong. `AlreadyExistsError`, `CreateFailedError`, `NotStoredError`.
        """
        call = calls.import_session(lines, session_id=session_id)
        imported = await self._transport.send(call)
        return AsyncClientSession(self._transport, imported.session_id)

    async def list(
        self,
        *,
        limit: int | None = None,
        after: str | None = None,
        **chosen: Unpack[SessionsFilter],
    ) -> SessionList:
        """Return a page of the tenant's sessions, live and dormant, oldest first.

        `next` is the `after` of the next. `partial` is true where a node of several could not be
        asked.
        """
        call = calls.list_sessions(limit=limit, after=after, chosen=chosen)
        return await self._transport.send(call)

    async def sessions(self, **chosen: Unpack[SessionsFilter]) -> AsyncIterator[SessionSummary]:
        """Give all of the tenant's sessions, oldest first, asking page after page."""
        after: str | None = ""
        while after is not None:
            page = await self.list(limit=calls.SESSIONS_PAGE, after=after or None, **chosen)
            for each in page.sessions:
                yield each
            after = page.next

    def feed(self, **chosen: Unpack[RowFilter]) -> AsyncStream[FeedEvent]:
        """Follow the tenant's sessions, as `Client.feed` does, with `async for`."""
        target = calls.feed_target("/v1/feed", chosen)
        return self._transport.follow(FeedFollowing(target))

    # -- what else a tenant sees -----------------------------------------------------------------

    async def ends(self) -> EndedSessions:
        """Return how the tenant's last 1,000 sessions ended, the newest first."""
        return await self._transport.send(calls.ends())

    async def usage(self, **asked: Unpack[UsageFilter]) -> UsageReport:
        """Return what the key and its tenant have used, and what their budgets leave."""
        return await self._transport.send(calls.usage(asked))

    async def blueprints(self) -> BlueprintList:
        """Return the blueprints that sessions can be opened from."""
        return await self._transport.send(calls.blueprints())

    async def models(self) -> ModelList:
        """Return the models that can be asked for."""
        return await self._transport.send(calls.models())

    # -- the gateway itself ----------------------------------------------------------------------

    async def health(self) -> Health:
        """Say that the gateway lives, in which version, and how it stands to its cluster."""
        return await self._transport.send(calls.health())

    async def version(self) -> str:
        """Return the gateway's version."""
        return (await self.health()).version

    @property
    def operator(self) -> AsyncClientOperator:
        """Return what an operator's key opens; with a tenant's: `UnauthorizedError`."""
        return AsyncClientOperator(self._transport)
