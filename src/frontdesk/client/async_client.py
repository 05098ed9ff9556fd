"""One gateway, by one key, for programs with an event loop."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, Unpack

from frontdesk.client import gateway_calls as calls
from frontdesk.client.async_operator import AsyncClientOperator
from frontdesk.client.async_session import AsyncClientSession
from frontdesk.client.async_transport import AsyncStream, AsyncTransport
from frontdesk.client.call_options import RowFilter, SessionOptions, UsageFilter
from frontdesk.client.event_stream import FeedEvent, FeedFollowing
from frontdesk.client.gateway_address import GatewayAddress
from frontdesk.schemas.answer_schemas import (
    BlueprintList,
    ModelList,
    SessionList,
    SessionSummary,
)
from frontdesk.schemas.operator_schemas import Health
from frontdesk.schemas.row_schemas import EndedSessions
from frontdesk.schemas.usage_schemas import UsageReport


class AsyncClient:
    """Ask one gateway, with one key.

    `url` is the gateway's address, else `FRONTDESK_URL`, else `http://127.0.0.1:4000`. The key is
    `key`, or what `key_file` has, else `FRONTDESK_KEY`; a tenant's key, a session token or an
    operator's key. It is in no repr, error or log. `timeout_s` bounds connecting, and each answer
    that is not a stream or a wait. A key goes over plain `http` to this machine only, unless
    `insecure` (or `FRONTDESK_INSECURE=1`).

    Requests that cannot do anything twice are sent up to five times more where the gateway cannot
    be reached or says that it is busy. Use it in a `with`: leaving it closes every stream and
    connection within a second or two, whatever the gateway does. May be used by several threads;
    a turn, or another iterator, by one at a time.

    Raises `InvalidArgument` for what cannot be an address or a key.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        timeout_s: float = 30.0,
        insecure: bool = False,
    ) -> None:
        address = GatewayAddress.of(url, key=key, key_file=key_file, insecure=insecure)
        self._transport = AsyncTransport(address, timeout_s=timeout_s)

    @property
    def url(self) -> str:
        """Return the gateway's address."""
        return self._transport.address.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

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
        """End a session, and return when it is gone. `NotFoundError`, `SessionDeadError`."""
        await self.session(session_id).stop()

    async def list(self, *, limit: int | None = None, after: str | None = None) -> SessionList:
        """Return a page of the tenant's sessions, oldest first; `next` is the `after` of the next.

        `partial` is true where a node of several could not be asked.
        """
        return await self._transport.send(calls.list_sessions(limit=limit, after=after))

    async def sessions(self) -> AsyncIterator[SessionSummary]:
        """Give all of the tenant's sessions, oldest first, asking page after page."""
        after: str | None = ""
        while after is not None:
            page = await self.list(limit=calls.SESSIONS_PAGE, after=after or None)
            for each in page.sessions:
                yield each
            after = page.next

    def feed(self, **chosen: Unpack[RowFilter]) -> AsyncStream[FeedEvent]:
        """Follow the tenant's sessions: pages of all that there are, then what changes.

        A feed that is cut goes on; where it cannot, a new snapshot comes (`first` is true), which
        replaces what was known. It ends when the client is closed.
        """
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
