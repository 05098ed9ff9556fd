"""What a store has to answer, worked out the slow way: the model of the stateful property test.

Beside the store, never below it: it imports the records and errors only. Every operation changes
the model and returns the answer, or raises the error, that the store has to give. One thing is no
promise and is taken from the store: in which order agents that were found finished in one go are
ended. `ended_revision` tells it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from frontdesk import Change, Created, Ended, ExitReason, Limits, Metadata, Snapshot, Updated
from frontdesk.errors import SessionAlreadyExists, SessionLimitExceeded, SessionNotFound

_NOT_ALIVE, _DELETED = ExitReason.of("not_alive"), ExitReason.of("deleted")
_SHUTDOWN = ExitReason.of("shutdown")


@dataclass(eq=False)
class ModelAgent:
    """An agent as the model knows it: finished is what can be read of it, not what was told."""

    real: object
    kind: str
    loop: int | None = None
    reason: ExitReason | None = None

    @property
    def finished(self) -> bool:
        return self.reason is not None


@dataclass
class Entry:
    """A session: its metadata and its agent."""

    metadata: Metadata
    agent: ModelAgent


@dataclass
class StoreModel:
    """A registry in one dict. Dicts keep the order of insertion, so entries are in fence order."""

    limits: Limits
    now_ms: Callable[[], int]
    pid: int
    ended_revision: Callable[[str], int]
    entries: dict[str, Entry] = field(default_factory=dict)
    log: list[Change] = field(default_factory=list)
    ends: dict[str, Ended] = field(default_factory=dict)

    # -- reading -------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        return len(self.log)

    def get(self, session_id: str) -> Entry:
        entry = self.entries.get(session_id)
        if entry is None or entry.agent.finished:
            raise SessionNotFound(session_id)
        return entry

    def listed(self, tenant_id: str | None = None, api_key: str | None = None) -> list[Entry]:
        return [one for one in self.held(tenant_id, api_key) if not one.agent.finished]

    def held(self, tenant_id: str | None = None, api_key: str | None = None) -> list[Entry]:
        return [one for one in self.entries.values() if concerns(one.metadata, tenant_id, api_key)]

    def ended(self, session_id: str) -> Ended:
        self._reap(session_id)
        if session_id not in self.ends:
            raise SessionNotFound(session_id)
        return self.ends[session_id]

    def snapshot(self, scope: tuple[str | None, str | None], *, resync: bool) -> Snapshot:
        sessions = tuple(one.metadata for one in self.held(*scope))
        return Snapshot(self.revision, sessions, resync)

    # -- writing -------------------------------------------------------------------------------

    def create(self, session_id, agent, *, tenant_id, api_key, blueprint, model) -> Metadata:
        self._admit(session_id, tenant_id, api_key)
        if agent.finished:
            self._end_batch(agent, agent.reason)
        metadata = Metadata(
            session_id,
            self.pid,
            api_key,
            tenant_id,
            self.now_ms(),
            blueprint,
            model,
            fence=self.revision + 1,
        )
        self.log.append(Created(self.revision + 1, metadata))
        if agent.finished:
            self._record_end(metadata, _NOT_ALIVE)
        else:
            self.entries[session_id] = Entry(metadata, agent)
        return metadata

    def _admit(self, session_id: str, tenant_id: str, api_key: str | None) -> None:
        self._reap(session_id)
        holder = self.entries.get(session_id)
        if holder is not None:
            raise SessionAlreadyExists(session_id, holder=holder)
        while (excess := self._excess(tenant_id, api_key)) is not None:
            scope, limit, held = excess
            finished = {one.agent for one in held if one.agent.finished}
            if not finished:
                raise SessionLimitExceeded(scope=scope, limit=limit)
            self.end_group(finished)

    def _excess(self, tenant_id: str, api_key: str | None):
        scopes = [
            ("total", self.limits.total, self.held()),
            ("per_tenant", self.limits.per_tenant, self.held(tenant_id)),
        ]
        if api_key is not None:
            scopes.append(("per_api_key", self.limits.per_api_key, self.held(None, api_key)))
        for scope, limit, held in scopes:
            if limit is not None and len(held) >= limit:
                return scope, limit, held
        return None

    def update(self, session_id: str, **attributes: str | None) -> Metadata:
        entry = self.get(session_id)
        entry.metadata = replace(entry.metadata, **attributes)
        self.log.append(Updated(self.revision + 1, entry.metadata))
        return entry.metadata

    def delete(self, session_id: str, fence: int | None) -> None:
        entry = self.entries.get(session_id)
        if entry is None or fence not in (None, entry.metadata.fence):
            return
        if entry.agent.finished:
            self._reap(session_id)
        else:
            del self.entries[session_id]
            self._record_end(entry.metadata, _DELETED)

    def get_or_create(self, session_id, agent, **attributes) -> Metadata:
        try:
            return self.get(session_id).metadata
        except SessionNotFound:
            return self.create(session_id, agent, **attributes)

    # -- ends ----------------------------------------------------------------------------------

    def told(self, agent: ModelAgent) -> None:
        """Take the agent's callback: its sessions go, in one batch."""
        self._end_batch(agent, agent.reason)

    def end_group(self, agents: Iterable[ModelAgent]) -> None:
        """End agents that were found finished together, in the order that the store chose."""
        registry_agent = [agent for agent in agents if self._of(agent)]
        for agent in sorted(registry_agent, key=self._ended_at):
            self._end_batch(agent, agent.reason)

    def close(self, order: Callable[[str], int]) -> None:
        """End everything as the store is closed; `order` gives the revision of each id's end."""
        self.ended_revision = order
        for agent in {one.agent for one in self.entries.values() if not one.agent.finished}:
            agent.reason = _SHUTDOWN
        self.end_group({one.agent for one in self.entries.values()})

    def _ended_at(self, agent: ModelAgent) -> int:
        return self.ended_revision(self._of(agent)[0].metadata.session_id)

    def _of(self, agent: ModelAgent) -> list[Entry]:
        return [one for one in self.entries.values() if one.agent is agent]

    def _reap(self, session_id: str) -> None:
        entry = self.entries.get(session_id)
        if entry is not None and entry.agent.finished:
            self._end_batch(entry.agent, entry.agent.reason)

    def _end_batch(self, agent: ModelAgent, reason: ExitReason | None) -> None:
        assert reason is not None
        for entry in self._of(agent):
            del self.entries[entry.metadata.session_id]
            self._record_end(entry.metadata, reason)

    def _record_end(self, metadata: Metadata, reason: ExitReason) -> None:
        ended = Ended(self.revision + 1, metadata, reason, self.now_ms())
        self.log.append(ended)
        self.ends[metadata.session_id] = ended


@dataclass
class WatchModel:
    """A watch: what it was delivered last, and what it may be delivered next."""

    store: StoreModel
    scope: tuple[str | None, str | None]
    capacity: int
    position: int

    def next_change(self) -> Change | None:
        """Return the first change after the position that this watch is about."""
        later = self.store.log[self.position :]
        return next((one for one in later if concerns(one.session, *self.scope)), None)

    def may_have_fallen_behind(self) -> bool:
        return self.store.revision - self.position > self.capacity

    def accept(self, item: Change | Snapshot) -> None:
        """Check a delivered item, and move on to it."""
        if isinstance(item, Snapshot):
            assert self.may_have_fallen_behind(), f"a resync without need: {item}"
            assert item == self.store.snapshot(self.scope, resync=True)
        else:
            assert item == self.next_change()
        self.position = item.revision

    def accept_nothing(self) -> None:
        """Check that there was nothing to deliver."""
        assert self.next_change() is None


def concerns(metadata: Metadata, tenant_id: str | None, api_key: str | None) -> bool:
    """Tell whether a session is of this tenant and key, where they are given."""
    return tenant_id in (None, metadata.tenant_id) and api_key in (None, metadata.api_key)
