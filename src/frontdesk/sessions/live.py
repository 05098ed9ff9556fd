"""Who is in the house: every session of a desk by its registered id, with its agent of the moment.

Above the runner, below the desk, which changes it. One place adds and one removes, so that counts
and index cannot differ. All on one event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

from frontdesk.agents.ids import registry_key
from frontdesk.agents.restart import RestartState
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.runner import Runner
from frontdesk.sessions.supervised_agent import SupervisedAgent


class LiveSession:
    """One session: its conversation, and the agent that answers in it now.

    `runner` is None while no agent does: between two of them, and at the end.
    """

    __slots__ = (
        "conversation",
        "ending",
        "may_restart",
        "registered_id",
        "registrant",
        "restart_state",
        "runner",
    )

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.registered_id = registry_key(conversation.tenant_id, conversation.session_id)
        self.runner: Runner | None = None
        self.registrant: SupervisedAgent | None = None
        self.restart_state = RestartState()
        self.may_restart = True
        self.ending: asyncio.Task[None] | None = None


class LiveSessions:
    """The sessions of a desk, and how many each tenant has of each blueprint."""

    __slots__ = ("_by_id", "_counts")

    def __init__(self) -> None:
        self._by_id: dict[str, LiveSession] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, resident: LiveSession) -> None:
        """Enter a session."""
        self._by_id[resident.registered_id] = resident
        self._counts[_pair(resident)] += 1

    def remove(self, resident: LiveSession) -> bool:
        """Take a session out; say whether it was there."""
        if self._by_id.get(resident.registered_id) is not resident:
            return False
        del self._by_id[resident.registered_id]
        pair = _pair(resident)
        self._counts[pair] -= 1
        if not self._counts[pair]:
            del self._counts[pair]
        return True

    def get(self, registered: str) -> LiveSession | None:
        """Return the session of a registered id."""
        return self._by_id.get(registered)

    def of(self, conversation: Conversation) -> LiveSession | None:
        """Return the session of a conversation, if it is still here."""
        found = self._by_id.get(registry_key(conversation.tenant_id, conversation.session_id))
        return found if found is not None and found.conversation is conversation else None

    def count(self, tenant_id: str, blueprint: str) -> int:
        """Return how many sessions a tenant has of a blueprint."""
        return self._counts.get((tenant_id, blueprint), 0)

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[LiveSession]:
        return iter(list(self._by_id.values()))


def _pair(resident: LiveSession) -> tuple[str, str]:
    return resident.conversation.tenant_id, resident.conversation.blueprint
