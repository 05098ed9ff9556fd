"""The subjects: the store, the dict with a timeout, the bare dict, each with its own tight loops.

`registry_scenes` times these loops. Every subject writes the loop out itself, so that what is timed
is the call that a user would write and no adapter stands in between. The loops of all subjects have
the same shape, the loop is part of every figure, and so it is in the BEAM's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from bench.baselines import BareDict, DictWithTimeout
from frontdesk import SessionStore

MODEL = "openai:gpt-5"


class Subject(Protocol):
    """Something that keeps agents under ids."""

    def create_all(self, ids: Sequence[str], agents: Sequence[Any], *, tenants: int) -> None:
        """Register every agent."""
        ...

    def get_all(self, ids: Sequence[str]) -> None:
        """Look every id up."""
        ...

    def delete_all(self, ids: Sequence[str]) -> None:
        """Remove every id."""
        ...

    def list_each(self, tenants: Sequence[str]) -> int:
        """List each of the tenants and return how many sessions that were."""
        ...


class StoreSubject:
    """Our store, as the contract's calls."""

    def __init__(self) -> None:
        self.store = SessionStore()

    def create_all(self, ids: Sequence[str], agents: Sequence[Any], *, tenants: int) -> None:
        """Register every agent, dealt out among the tenants."""
        store = self.store
        for i, (session_id, agent) in enumerate(zip(ids, agents, strict=True)):
            store.create(
                session_id,
                agent,
                api_key=f"key-{i % tenants}",
                tenant_id=f"tenant-{i % tenants}",
                model=MODEL,
            )

    def get_all(self, ids: Sequence[str]) -> None:
        """Look every id up."""
        store = self.store
        for session_id in ids:
            store.get(session_id)

    def delete_all(self, ids: Sequence[str]) -> None:
        """Remove every id."""
        store = self.store
        for session_id in ids:
            store.delete(session_id)

    def list_each(self, tenants: Sequence[str]) -> int:
        """List each of the tenants."""
        store, listed = self.store, 0
        for tenant_id in tenants:
            listed += len(store.list_by_tenant(tenant_id))
        return listed


class TimeoutSubject:
    """The dict with a timeout."""

    def __init__(self) -> None:
        self.sessions = DictWithTimeout()

    def create_all(self, ids: Sequence[str], agents: Sequence[Any], *, tenants: int) -> None:
        """Register every agent, dealt out among the tenants."""
        sessions = self.sessions
        for i, (session_id, agent) in enumerate(zip(ids, agents, strict=True)):
            sessions.create(
                session_id,
                agent,
                api_key=f"key-{i % tenants}",
                tenant_id=f"tenant-{i % tenants}",
                model=MODEL,
            )

    def get_all(self, ids: Sequence[str]) -> None:
        """Look every id up."""
        sessions = self.sessions
        for session_id in ids:
            sessions.get(session_id)

    def delete_all(self, ids: Sequence[str]) -> None:
        """Remove every id."""
        sessions = self.sessions
        for session_id in ids:
            sessions.delete(session_id)

    def list_each(self, tenants: Sequence[str]) -> int:
        """List each of the tenants."""
        sessions, listed = self.sessions, 0
        for tenant_id in tenants:
            listed += len(sessions.list_by_tenant(tenant_id))
        return listed


class BareSubject:
    """The bare dict: it holds the agents and no metadata, so it has nothing to list by."""

    def __init__(self) -> None:
        self.agents: BareDict = {}

    def create_all(self, ids: Sequence[str], agents: Sequence[Any], *, tenants: int) -> None:
        """Put every agent in; a bare dict knows no tenants."""
        del tenants
        known = self.agents
        for _, (session_id, agent) in enumerate(zip(ids, agents, strict=True)):
            known[session_id] = agent

    def get_all(self, ids: Sequence[str]) -> None:
        """Look every id up."""
        known = self.agents
        for session_id in ids:
            known[session_id]

    def delete_all(self, ids: Sequence[str]) -> None:
        """Remove every id."""
        known = self.agents
        for session_id in ids:
            del known[session_id]

    def list_each(self, tenants: Sequence[str]) -> int:
        """List nothing."""
        del tenants
        return 0


SUBJECTS: dict[str, type[StoreSubject | TimeoutSubject | BareSubject]] = {
    "store": StoreSubject,
    "dict with timeout": TimeoutSubject,
    "bare dict": BareSubject,
}
