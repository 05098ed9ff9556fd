"""The reads of a store: lookups, listings, counts, recent ends, watches.

Dict lookups without a lock; what is found is asked itself whether it has finished, so that nobody
is shown an agent that is over. `SessionStore` adds the writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic

from frontdesk.errors import InvalidType, SessionNotFound
from frontdesk.monitors import KnownAgent
from frontdesk.records import Ended, Session
from frontdesk.store import validation
from frontdesk.store.core import Core
from frontdesk.store.index import bucket_copy, unfinished
from frontdesk.store.watch import Watch

if TYPE_CHECKING:
    # A default is for type checkers, which bring this module; the library itself needs no package.
    from typing_extensions import TypeVar

    AgentT = TypeVar("AgentT", default=KnownAgent)
else:
    from typing import TypeVar

    AgentT = TypeVar("AgentT")

Sessions = list[Session[AgentT]]


class Lookups(Generic[AgentT]):
    """What can be asked of a store; each of these is a method of `SessionStore`."""

    _core: Core
    _entries: dict[str, Session]

    def get(self, session_id: str) -> Session[AgentT]:
        """Return the live session of this id. Also `session_id in store`.

        Never returns one whose agent has finished. One exception, and its bound: a task that is
        **pending on an event loop that was closed** never finishes. It is found, and ended as
        `lost`, by the next `create`, listing or count, or within about a second.

        It knows no tenants: it finds the sessions of all. Raises `SessionNotFound`. Costs a dict
        lookup and one question to the agent; for a thread or process that question is a system call
        or two.
        """
        try:
            session = self._entries[session_id]
            if not session._liveness.done():
                return session
        except (KeyError, TypeError):
            pass
        return self._absent(session_id)

    def _absent(self, session_id: object) -> Session[AgentT]:
        self._core.require_open()
        if not isinstance(session_id, str):
            raise InvalidType("session_id", expected="a str", got=type(session_id).__name__)
        raise SessionNotFound(session_id)

    def __contains__(self, session_id: object) -> bool:
        core = self._core
        session = self._entries.get(session_id) if isinstance(session_id, str) else None
        if session is not None:
            return not session._liveness.done()
        core.require_open()
        return False

    def list(self) -> Sessions[AgentT]:
        """Return all live sessions, oldest first. Also `for session in store`.

        The list is your own: what happens next does not change it. Costs as much as it returns.
        """
        self._core.end_closed_loops()
        return list(unfinished(list(self._entries.values())))

    def list_by_tenant(self, tenant_id: str) -> Sessions[AgentT]:
        """Return a tenant's live sessions, oldest first.

        Costs as much as it returns, not as much as the store holds.
        """
        validation.name("tenant_id", tenant_id)
        self._core.end_closed_loops()
        return list(unfinished(bucket_copy(self._core.index.tenants, tenant_id)))

    def list_by_api_key(self, api_key: str) -> Sessions[AgentT]:
        """Return the live sessions of a key (its id), oldest first.

        Sessions without a key are in no such list. Costs as much as it returns, not as much as the
        store holds.
        """
        validation.optional_name("api_key", api_key)
        self._core.end_closed_loops()
        return list(unfinished(bucket_copy(self._core.index.api_keys, api_key)))

    def __iter__(self) -> Iterator[Session[AgentT]]:
        return iter(self.list())

    def count(self) -> int:
        """Return the number of sessions, in constant time. Also `len(store)`.

        **It may for a moment include an agent that has finished and whose callback has not run**:
        `count() >= len(list())`.
        """
        self._core.end_closed_loops()
        return len(self._entries)

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True

    def count_by_tenant(self, tenant_id: str) -> int:
        """Return the number of a tenant's sessions, in constant time; see `count`."""
        validation.name("tenant_id", tenant_id)
        self._core.end_closed_loops()
        return len(self._core.index.tenants.get(tenant_id, ()))

    def count_by_api_key(self, api_key: str) -> int:
        """Return the number of a key's sessions, in constant time; see `count`."""
        validation.optional_name("api_key", api_key)
        self._core.end_closed_loops()
        return len(self._core.index.api_keys.get(api_key, ()))

    @property
    def revision(self) -> int:
        """The number of the last change: contiguous, never reused."""
        return self._core.changes.revision

    @property
    def closed(self) -> bool:
        """Tell whether the store was closed, or came into this process by `fork()`."""
        return self._core.closed is not None

    def ended(self, session_id: str) -> Ended:
        """Return how the last session of this id ended.

        It knows the end of a finished agent before its callback has run. While a session of the id
        lives, it tells of the one before. It comes from a bounded memory of at least
        `ends_capacity` ids, which holds no agents and knows no tenants. Raises `SessionNotFound`
        when nothing is remembered: it never was, or was too long ago. Costs constant time.
        """
        core = self._core
        core.require_open()
        session = self._entries.get(validation.identifier("session_id", session_id))
        if session is not None and session._liveness.done() and not core.lock.interrupting():
            core.reap(session)
        ended = core.changes.ends.get(session_id)
        if ended is None:
            raise SessionNotFound(session_id)
        return ended

    def watch(self, *, tenant_id: str | None = None, api_key: str | None = None) -> Watch:
        """Subscribe: one snapshot, then every later change, of a tenant, a key, or everything.

        Costs the store nothing but the records that all watches share.
        """
        tenant_id = validation.optional_identifier("tenant_id", tenant_id)
        api_key = validation.optional_identifier("api_key", api_key)
        return Watch(self._core, tenant_id=tenant_id, api_key=api_key)
