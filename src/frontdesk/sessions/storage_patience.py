"""How long turns wait for a storage that takes nothing, or less than they say.

While it takes nothing, nobody sees what they say, and what they say is held in memory. It may pass;
after a while they are ended. Their ends are stored, and seen, once that can be done again.
"""

from __future__ import annotations

import asyncio

from frontdesk.clock import Clock
from frontdesk.persistence.commit_queue import MAX_BYTES_EACH, CommitQueue
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.live import LiveSessions
from frontdesk.sessions.stop_reason import StopReason

CHECK_S = 0.5

STORAGE = StopReason("storage", silent=True)
"""Why a turn ended that could not be stored."""


class StoragePatience:
    """End the turns that have waited for the storage for too long. On one event loop."""

    def __init__(
        self, commits: CommitQueue, *, live_sessions: LiveSessions, clock: Clock, patience_s: float
    ) -> None:
        self._commits, self._live, self._clock = commits, live_sessions, clock
        self._patience_s = patience_s
        self._waits_since_s: dict[int, float] = {}

    async def run(self) -> None:
        """Check again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(min(CHECK_S, self._patience_s / 4))
            self.check()

    def check(self) -> None:
        """End turns whose time is over. Costs nothing while little waits to be stored."""
        waits = self._commits.unavailable is not None
        if not waits and self._commits.backlog() <= MAX_BYTES_EACH:
            self._waits_since_s.clear()
            return
        before, self._waits_since_s = self._waits_since_s, {}
        now_s = self._clock.monotonic()
        for each in self._live:
            conversation = each.conversation
            number = conversation.number
            if conversation.record is None or conversation.turn is None:
                continue
            if conversation.suspended is not None:  # it has no agent that says anything
                continue
            if waits or self._commits.overfull(number):
                since_s = self._waits_since_s[number] = before.get(number, now_s)
                if now_s - since_s >= self._patience_s or self._is_too_much(conversation):
                    conversation.turn.stop(STORAGE)

    def _is_too_much(self, conversation: Conversation) -> bool:
        """Say whether it says so much that no memory would last: it is not waited for longer."""
        return self._commits.backlog(conversation.number) > 2 * MAX_BYTES_EACH
