"""The look for ends that nobody told, or that were not heard.

A callback can be lost in its caller's hands: at the recursion limit not even its first line runs,
and nobody calls it again. So a store looks at its futures, some each second, round and round.
Lookups never show one that has finished: this is for counts, limits and the feed.
"""

from __future__ import annotations

import asyncio

from frontdesk.records import Session
from frontdesk.store.liveness import is_finished

AT_ONCE = 1000
"""How many sessions are looked at each second: a tenth of a millisecond's work."""


class OverlookedEnds:
    """Go round the sessions of a store."""

    __slots__ = ("_entries", "_to_come")

    def __init__(self, entries: dict[str, Session]) -> None:
        self._entries = entries
        # Ids, not sessions: what waits here for its turn keeps no agent.
        self._to_come: list[str] = []

    def next_finished(self) -> list[Session]:
        """Look at the next sessions; return those whose agent has finished. Under no lock."""
        if not self._to_come:
            self._to_come = list(self._entries)
        ids, self._to_come[-AT_ONCE:] = self._to_come[-AT_ONCE:], []
        sessions = filter(None, map(self._entries.get, ids))
        return [session for session in sessions if is_finished(session) or _is_done(session)]


def _is_done(session: Session) -> bool:
    # Of asyncio's kind only: others may wait for a lock, and the watcher's thread is everybody's.
    return asyncio.isfuture(session.agent) and session.agent.done()
