"""The memory of recent ends: how the last session of an id ended. Bounded.

Below `store.py`, which holds the lock around `note`. It keeps metadata only, never an agent.
"""

from __future__ import annotations

from frontdesk.records import Ended, ExitReason, Metadata, Session

# Flat, and made into records only when somebody asks: an end is noted a thousand times as often.
_Note = tuple[str, int, str | None, str, int, str | None, str | None, int, ExitReason, int, int]


class RecentEnds:
    """Remember at least the last `capacity` ended ids, and at most twice as many.

    Two generations instead of one ordered dictionary: when the young one is full it becomes the
    old one, and the old one is dropped whole. Noting and looking up cost a dict operation each.
    """

    __slots__ = ("_capacity", "_old", "_young")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._young: dict[str, _Note] = {}
        self._old: dict[str, _Note] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def note(self, session: Session, reason: ExitReason, at_ms: int, revision: int) -> None:
        """Remember how this session ended, in place of what was known of its id."""
        self._young[session.session_id] = (
            session.session_id,
            session.pid,
            session.api_key,
            session.tenant_id,
            session.created_at,
            session.blueprint,
            session.model,
            session.fence,
            reason,
            at_ms,
            revision,
        )
        if len(self._young) >= self._capacity:
            self._old, self._young = self._young, {}

    def of(self, session_id: str) -> Ended | None:
        """Return how the last session of this id ended, if that is still remembered."""
        note = self._young.get(session_id) or self._old.get(session_id)
        if note is None:
            return None
        return Ended(Metadata(*note[:8]), *note[8:])
