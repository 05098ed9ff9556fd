"""One gateway, by one key, for programs without an event loop."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Self, Unpack

from frontdesk.client import gateway_calls as calls
from frontdesk.client.both_clients import AnyClient
from frontdesk.client.call_options import (
    RowFilter,
    SessionOptions,
    SessionsFilter,
    UsageFilter,
)
from frontdesk.client.event_stream import FeedEvent, FeedFollowing
from frontdesk.client.gateway_address import GatewayAddress
from frontdesk.client.sync_operator import ClientOperator
from frontdesk.client.sync_session import ClientSession
from frontdesk.client.sync_transport import SyncTransport
from frontdesk.schemas.answer_schemas import BlueprintList, ModelList, SessionList, SessionSummary
from frontdesk.schemas.operator_schemas import Health
from frontdesk.schemas.row_schemas import EndedSessions
from frontdesk.schemas.usage_schemas import UsageReport


class Client(AnyClient[SyncTransport]):
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

    def _transport_to(self, address: GatewayAddress, *, timeout_s: float) -> SyncTransport:
        return SyncTransport(address, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every stream and connection. Closing twice is well; it takes 2 s at most."""
        self._transport.close()

    # -- sessions --------------------------------------------------------------------------------

    def open(self, model: str, **options: Unpack[SessionOptions]) -> ClientSession:
        """Open a session, and return it once its agent has started.

        `CreateFailedError`, `AlreadyExistsError`, `SessionLimitError`, `UnavailableError`.
        """
        created = self._transport.send(calls.open_session(model, options))
        return ClientSession(self._transport, created.session_id)

    def session(self, session_id: str) -> ClientSession:
        """Return a session by its id. Nothing is asked: whether there is one, its methods say."""
        return ClientSession(self._transport, session_id)

    def get(self, session_id: str) -> SessionSummary:
        """Say how a session is doing. `NotFoundError`, or `SessionDeadError` with its reason."""
        return self.session(session_id).get()

    def stop(self, session_id: str) -> None:
        """End and erase a session; return when it is gone. `NotFoundError`, `SessionDeadError`."""
        self.session(session_id).stop()

    def import_session(self, lines: bytes, *, session_id: str | None = None) -> ClientSession:
        """Have the lines of `export` read in, under the session's own id or another.

        It is dormant, or has ended as it had. All of it or nothing: `ImportRefusedError` names
        every line that is wrong. `AlreadyExistsError`, `CreateFailedError`, `NotStoredError`.
        """
        call = calls.import_session(lines, session_id=session_id)
        imported = self._transport.send(call)
        return ClientSession(self._transport, imported.session_id)

    def list(
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
        return self._transport.send(call)

    def sessions(self, **chosen: Unpack[SessionsFilter]) -> Iterator[SessionSummary]:
        """Give all of the tenant's sessions, oldest first, asking page after page."""
        after: str | None = ""
        while after is not None:
            page = self.list(limit=calls.SESSIONS_PAGE, after=after or None, **chosen)
            yield from page.sessions
            after = page.next

    def feed(self, **chosen: Unpack[RowFilter]) -> Generator[FeedEvent]:
        """Follow the tenant's sessions: pages of all that there are, then what changes.

        A feed that is cut goes on; where it cannot, a new snapshot comes (`first` is true), which
        replaces what was known. It ends when the client is closed.
        """
        target = calls.feed_target("/v1/feed", chosen)
        return self._transport.follow(FeedFollowing(target))

    # -- what else a tenant sees -----------------------------------------------------------------

    def ends(self) -> EndedSessions:
        """Return how the tenant's last 1,000 sessions ended, the newest first."""
        return self._transport.send(calls.ends())

    def usage(self, **asked: Unpack[UsageFilter]) -> UsageReport:
        """Return what the key and its tenant have used, and what their budgets leave."""
        return self._transport.send(calls.usage(asked))

    def blueprints(self) -> BlueprintList:
        """Return the blueprints that sessions can be opened from."""
        return self._transport.send(calls.blueprints())

    def models(self) -> ModelList:
        """Return the models that can be asked for."""
        return self._transport.send(calls.models())

    # -- the gateway itself ----------------------------------------------------------------------

    def health(self) -> Health:
        """Say that the gateway lives, in which version, and how it stands to its cluster."""
        return self._transport.send(calls.health())

    def version(self) -> str:
        """Return the gateway's version."""
        return self.health().version

    @property
    def operator(self) -> ClientOperator:
        """Return what an operator's key opens; with a tenant's: `UnauthorizedError`."""
        return ClientOperator(self._transport)
