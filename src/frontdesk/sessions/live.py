"""The sessions that live now, with the agent of the moment, and those that ended recently.

One place adds and one removes, so that counts and index cannot differ. All on one event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

from frontdesk.agents.ids import registry_key
from frontdesk.agents.records import MemoryOutcome
from frontdesk.agents.restart import RestartState
from frontdesk.errors import FrontdeskError
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.runner import Runner
from frontdesk.sessions.supervised_agent import SupervisedAgent


class LiveSession:
    """One session: its conversation, and the agent that answers in it now.

    `runner` is None while no agent does: between two of them, and at the end. `minted` says that
    its id was drawn here, so that nobody else can get it. `goes_dormant` says that its agent is
    being ended, or was, and not the conversation.
    """

    __slots__ = (
        "conversation",
        "ending",
        "goes_dormant",
        "memory",
        "minted",
        "refused",
        "registry_key",
        "restart_state",
        "restarting",
        "resuming",
        "runner",
        "supervised_agent",
    )

    def __init__(self, conversation: Conversation, *, key: str, minted: bool) -> None:
        self.conversation: Conversation = conversation
        self.registry_key: str = key
        self.minted: bool = minted
        self.runner: Runner | None = None
        self.supervised_agent: SupervisedAgent | None = None
        self.restart_state: RestartState = RestartState()
        self.restarting: asyncio.Task[None] | None = None
        self.ending: asyncio.Task[None] | None = None
        self.resuming: asyncio.Task[None] | None = None
        self.goes_dormant: bool = False
        self.refused: FrontdeskError | None = None
        """Why it has no agent that was to be resumed last."""
        self.memory: MemoryOutcome | None = None
        """What an agent that took over knows of the turns before."""


class LiveSessions:
    """The live sessions of a service, by registry key and by tenant. All on one event loop."""

    __slots__ = ("_by_key", "_by_tenant", "_counts")

    def __init__(self) -> None:
        self._by_key: dict[str, LiveSession] = {}
        self._by_tenant: dict[str, dict[str, LiveSession]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, live_session: LiveSession) -> None:
        """Add a session."""
        key, conversation = live_session.registry_key, live_session.conversation
        self._by_key[key] = live_session
        self._by_tenant.setdefault(conversation.tenant_id, {})[key] = live_session
        self._counts[conversation.tenant_id, conversation.blueprint] += 1

    def remove(self, live_session: LiveSession) -> bool:
        """Remove a session; say whether it was there."""
        key, conversation = live_session.registry_key, live_session.conversation
        if self._by_key.get(key) is not live_session:
            return False
        del self._by_key[key]
        of_tenant = self._by_tenant[conversation.tenant_id]
        del of_tenant[key]
        if not of_tenant:
            del self._by_tenant[conversation.tenant_id]
        counted = conversation.tenant_id, conversation.blueprint
        self._counts[counted] -= 1
        if not self._counts[counted]:
            del self._counts[counted]
        return True

    def get(self, key: str) -> LiveSession | None:
        """Return the session of a registry key."""
        return self._by_key.get(key)

    def of(self, conversation: Conversation) -> LiveSession | None:
        """Return the session of a conversation, if it is still here."""
        found = self._by_key.get(registry_key(conversation.tenant_id, conversation.session_id))
        return found if found is not None and found.conversation is conversation else None

    def of_tenant(self, tenant_id: str) -> list[LiveSession]:
        """Return a tenant's sessions. Costs what it returns."""
        return list(self._by_tenant.get(tenant_id, {}).values())

    def count(self, tenant_id: str, blueprint: str) -> int:
        """Return how many sessions a tenant has of a blueprint."""
        return self._counts.get((tenant_id, blueprint), 0)

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[LiveSession]:
        return iter(list(self._by_key.values()))


class RecentlyEnded:
    """Hold the last `limit` ended conversations, and of those at most `max_bytes`."""

    __slots__ = ("_bytes", "_ended", "_limit", "_max_bytes")

    def __init__(self, *, limit: int, max_bytes: int) -> None:
        self._limit, self._max_bytes = limit, max_bytes
        self._ended: dict[str, Conversation] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._ended)

    def get(self, key: str) -> Conversation | None:
        """Return the conversation that ended last under this id, if it is still held."""
        return self._ended.get(key)

    def remove(self, key: str) -> None:
        """Hold it no longer."""
        self._drop(key)

    def of_tenant(self, tenant_id: str) -> list[str]:
        """Return the keys of a tenant's that are held."""
        return [key for key, each in self._ended.items() if each.tenant_id == tenant_id]

    def add(self, key: str, conversation: Conversation) -> None:
        """Keep a conversation that has ended; forget the oldest that are too many."""
        self._drop(key)
        self._ended[key] = conversation
        self._bytes += conversation.held_bytes
        while len(self._ended) > self._limit or self._bytes > self._max_bytes:
            self._drop(next(iter(self._ended)))

    def _drop(self, key: str) -> None:
        dropped = self._ended.pop(key, None)
        if dropped is None:
            return
        self._bytes -= dropped.held_bytes
        if dropped.record is not None and dropped.log.over:
            dropped.record.close()
