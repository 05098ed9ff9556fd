"""The lookups of a store: dict reads without a lock, and a question to the agent.

Below `store.py`, which inherits them. A lookup never returns a session whose task, thread or
future has finished, whether or not the store was told of it yet.
"""

from __future__ import annotations

from collections.abc import Iterator

from frontdesk.errors import InvalidType, SessionNotFound, StoreClosed
from frontdesk.records import Session
from frontdesk.store import validation
from frontdesk.store.index import Index, held, unfinished

Sessions = list[Session]


class Lookups:
    """What can be asked of a store without changing it."""

    __slots__ = ()

    _entries: dict[str, Session]
    _index: Index
    _closed: StoreClosed | None
    _revision: int

    def get(self, session_id: str) -> Session:
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
            if not session._life.done():
                return session
        except (KeyError, TypeError):
            pass
        return self._absent(session_id)

    def __contains__(self, session_id: object) -> bool:
        session = self._entries.get(session_id) if isinstance(session_id, str) else None
        if session is not None:
            return not session._life.done()
        self._require_open()
        return False

    def list(self) -> Sessions:
        """Return all live sessions, oldest first. Also `for session in store`.

        The list is your own: what happens next does not change it. Costs as much as it returns.
        """
        self._look_at_loops()
        return list(unfinished(list(self._entries.values())))

    def list_by_tenant(self, tenant_id: str) -> Sessions:
        """Return a tenant's live sessions, oldest first.

        Costs as much as it returns, not as much as the store holds.
        """
        validation.name("tenant_id", tenant_id)
        self._look_at_loops()
        return list(unfinished(held(self._index.tenants, tenant_id)))

    def list_by_api_key(self, api_key: str) -> Sessions:
        """Return the live sessions of a key (its id), oldest first.

        Sessions without a key are in no such list. Costs as much as it returns, not as much as the
        store holds.
        """
        validation.optional_name("api_key", api_key)
        self._look_at_loops()
        return list(unfinished(held(self._index.api_keys, api_key)))

    def __iter__(self) -> Iterator[Session]:
        return iter(self.list())

    def count(self) -> int:
        """Return the number of sessions, in constant time. Also `len(store)`.

        **It may for a moment include an agent that has finished and whose callback has not run**:
        `count() >= len(list())`.
        """
        self._look_at_loops()
        return len(self._entries)

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True

    def count_by_tenant(self, tenant_id: str) -> int:
        """Return the number of a tenant's sessions, in constant time; see `count`."""
        validation.name("tenant_id", tenant_id)
        self._look_at_loops()
        return len(self._index.tenants.get(tenant_id, ()))

    def count_by_api_key(self, api_key: str) -> int:
        """Return the number of a key's sessions, in constant time; see `count`."""
        validation.optional_name("api_key", api_key)
        self._look_at_loops()
        return len(self._index.api_keys.get(api_key, ()))

    @property
    def revision(self) -> int:
        """The number of the last change: contiguous, never reused."""
        return self._revision

    @property
    def closed(self) -> bool:
        """Tell whether the store was closed, or came into this process by `fork()`."""
        return self._closed is not None

    # -- within --------------------------------------------------------------------------------

    def _absent(self, session_id: object) -> Session:
        self._require_open()
        if not isinstance(session_id, str):
            raise InvalidType("session_id", expected="a str", got=type(session_id).__name__)
        raise SessionNotFound(session_id)

    def _require_open(self) -> None:
        if self._closed is not None:
            raise StoreClosed(forked=self._closed.forked)

    def _look_at_loops(self) -> None:
        """End what nobody else tells of; the store says how."""
        raise NotImplementedError
