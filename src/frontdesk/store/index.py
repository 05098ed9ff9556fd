"""The entries and their indexes, with the limits: what is where, never why.

Reads take no lock: a bucket is copied in one step before anybody looks through it. Dicts keep the
order of insertion, which is the order of fences, so nothing is ever sorted. The core holds the lock
around every method that writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields

from frontdesk.errors import InvalidType
from frontdesk.records import Fence, Session
from frontdesk.store import validation
from frontdesk.store.liveness import AgentKey, key_of

AgentSessions = Session | dict[str, Session]
"""The sessions of one agent, oldest first: the one that most have, or several by their ids."""


class Bucket(dict[Fence, Session]):
    """The sessions of one tenant or key, and the one string that all of them name it by."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name: str = name


_EMPTY: Mapping[Fence, Session] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many sessions may live at once: in all, of one tenant, of one API key.

    None is no limit. Sessions without a key count in no `per_api_key`.

    Examples:
        >>> Limits(total=1000, per_tenant=100)
        Limits(total=1000, per_tenant=100, per_api_key=None)
    """

    total: int | None = None
    per_tenant: int | None = None
    per_api_key: int | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            checked = validation.limit(one.name, getattr(self, one.name))
            object.__setattr__(self, one.name, checked)


def checked_limits(value: object) -> Limits:
    """Check what is given as limits."""
    if not isinstance(value, Limits):
        raise InvalidType("limits", expected="Limits", got=type(value).__name__)
    if type(value) is Limits:
        return value
    # A subclass may answer with code of its own, and the store asks under its lock.
    return Limits(total=value.total, per_tenant=value.per_tenant, per_api_key=value.per_api_key)


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit that one more session would exceed, and the sessions that fill it."""

    scope: str
    limit: int
    sessions: tuple[Session, ...]


class Index:
    """All entries: by id, by tenant, by API key and by agent."""

    __slots__ = ("agents", "api_keys", "entries", "tenants")

    def __init__(self) -> None:
        self.agents: dict[AgentKey, AgentSessions] = {}
        self.entries: dict[str, Session] = {}
        self.tenants: dict[str, Bucket] = {}
        self.api_keys: dict[str, Bucket] = {}

    def tenant_id(self, value: object) -> str:
        """Check a tenant id, and return the string that the tenant's sessions have in common.

        Every request brings a string of its own; kept, they would be a quarter of the memory. One
        that is known was checked before.
        """
        bucket = self.tenants.get(value) if type(value) is str else None
        return validation.identifier("tenant_id", value) if bucket is None else bucket.name

    def api_key(self, value: object) -> str:
        """Check a key id, and return the string that the key's sessions have in common."""
        bucket = self.api_keys.get(value) if type(value) is str else None
        return validation.identifier("api_key", value) if bucket is None else bucket.name

    def insert(self, session: Session, agent_key: AgentKey) -> None:
        """Put a session under its agent, tenant, key and id."""
        # The agent first: what goes with it is all that a signal handler that raises may leave.
        # The id last: whoever finds the entry by its id finds it everywhere.
        sessions = self.agents.setdefault(agent_key, session)
        if sessions is not session:
            self.agents[agent_key] = _joined(sessions, session)
        fence = session.fence
        bucket = self.tenants.get(session.tenant_id)
        if bucket is None:
            bucket = self.tenants[session.tenant_id] = Bucket(session.tenant_id)
        bucket[fence] = session
        api_key = session.api_key
        if api_key is not None:
            bucket = self.api_keys.get(api_key)
            if bucket is None:
                bucket = self.api_keys[api_key] = Bucket(api_key)
            bucket[fence] = session
        self.entries[session.session_id] = session

    def replace(self, session: Session) -> None:
        """Put a session in the place of its former version (same id, fence, tenant and key)."""
        self.tenants[session.tenant_id][session.fence] = session
        if session.api_key is not None:
            self.api_keys[session.api_key][session.fence] = session
        self.entries[session.session_id] = session
        agent_key = key_of(session)
        self.agents[agent_key] = _joined(self.agents[agent_key], session)

    def remove(self, session: Session) -> bool:
        """Take this very incarnation from its tenant, key and id; tell whether it was there.

        By its agent it is still found: `forget` is for that.

        The id goes last, and nothing is taken for granted: what a signal handler broke off, here or
        in `insert`, is finished by the next call.
        """
        fence, tenant_id, api_key = session.fence, session.tenant_id, session.api_key
        bucket = self.tenants.get(tenant_id)
        if bucket is not None:
            bucket.pop(fence, None)
            if not bucket:
                del self.tenants[tenant_id]
        bucket = None if api_key is None else self.api_keys.get(api_key)
        if bucket is not None and api_key is not None:
            bucket.pop(fence, None)
            if not bucket:
                del self.api_keys[api_key]
        present = self.entries.get(session.session_id)
        if present is None or present.fence != fence:
            return False
        del self.entries[session.session_id]
        return True

    def forget(self, session: Session) -> bool:
        """Take a session from its agent; tell whether it was the agent's last."""
        agent_key = key_of(session)
        sessions = self.agents[agent_key]
        if isinstance(sessions, dict):
            del sessions[session.session_id]
            if sessions:
                return False
        del self.agents[agent_key]
        return True

    def oldest_of_each_agent(self) -> list[Session]:
        """Return one session of every agent."""
        return [first_of(sessions) for sessions in self.agents.values()]

    def clear(self) -> None:
        """Forget everything: what a signal handler that raised left of a session, too."""
        for table in (self.entries, self.agents, self.tenants, self.api_keys):
            table.clear()

    def excess(self, limits: Limits, *, tenant_id: str, api_key: str | None) -> Excess | None:
        """Return the first limit that leaves no room for one more session."""
        entries = self.entries
        if limits.total is not None and len(entries) >= limits.total:
            return Excess("total", limits.total, tuple(entries.values()))
        bucket: Mapping[Fence, Session]
        if limits.per_tenant is not None:
            bucket = self.tenants.get(tenant_id, _EMPTY)
            if len(bucket) >= limits.per_tenant:
                return Excess("per_tenant", limits.per_tenant, tuple(bucket.values()))
        if limits.per_api_key is not None and api_key is not None:
            bucket = self.api_keys.get(api_key, _EMPTY)
            if len(bucket) >= limits.per_api_key:
                return Excess("per_api_key", limits.per_api_key, tuple(bucket.values()))
        return None

    def select(self, *, tenant_id: str | None, api_key: str | None) -> list[Session]:
        """Return what a watch is about: everything, a tenant's, a key's, or what is in both."""
        if tenant_id is None and api_key is None:
            return list(self.entries.values())
        if tenant_id is None:
            return bucket_copy(self.api_keys, api_key)
        if api_key is None:
            return bucket_copy(self.tenants, tenant_id)
        return [one for one in bucket_copy(self.api_keys, api_key) if one.tenant_id == tenant_id]


def bucket_copy(buckets: dict[str, Bucket], name: str | None) -> list[Session]:
    """Return a copy of a bucket, made in one step: no lock is held while others write."""
    bucket = buckets.get(name) if name is not None else None
    return list(bucket.values()) if bucket else []


def first_of(sessions: AgentSessions) -> Session:
    """Return the oldest of an agent's sessions: all have the same agent and the same liveness."""
    return next(iter(sessions.values())) if isinstance(sessions, dict) else sessions


def all_of(sessions: AgentSessions | None) -> tuple[Session, ...]:
    """Return an agent's sessions, oldest first."""
    if sessions is None:
        return ()
    return tuple(sessions.values()) if isinstance(sessions, dict) else (sessions,)


def _joined(sessions: AgentSessions, session: Session) -> AgentSessions:
    """Return an agent's sessions with one more, or with another version of one."""
    if not isinstance(sessions, dict):
        if sessions.session_id == session.session_id:
            return session
        sessions = {sessions.session_id: sessions}
    sessions[session.session_id] = session
    return sessions


def unfinished(sessions: Iterable[Session]) -> Iterator[Session]:
    """Pass on the sessions whose agents have not finished, callback run or not."""
    return (session for session in sessions if not session._liveness.done())
