"""What happened in a store, numbered: its revision, the feed that watches read, the recent ends.

Changes carry metadata only, never an agent. Without a watch no change is made: then an end is one
entry in a bounded memory, and everything else a number. The core holds the lock around every
method that writes.
"""

from __future__ import annotations

from frontdesk.feed import Ring, Wakers
from frontdesk.records import Change, Ended, ExitReason, Metadata, Session, Updated

# Flat, and made into records only when somebody asks: an end is kept a thousand times as often.
_Row = tuple[str, int, str | None, str, int, str | None, str | None, int, ExitReason, int, int]


class RecentEnds:
    """Remember at least the last `capacity` ended ids, and at most twice as many.

    Two generations instead of one ordered dictionary: when the young one is full it becomes the
    old one, and the old one is dropped whole. Adding and looking up cost a dict operation each.
    """

    __slots__ = ("_capacity", "_old", "_young")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._young: dict[str, _Row] = {}
        self._old: dict[str, _Row] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def add(self, session: Session, reason: ExitReason, at_ms: int, revision: int) -> None:
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

    def get(self, session_id: str) -> Ended | None:
        """Return how the last session of this id ended, if that is still remembered."""
        row = self._young.get(session_id) or self._old.get(session_id)
        if row is None:
            return None
        reason, ended_at, revision = row[8:]
        return Ended(revision, Metadata(*row[:8]), reason, ended_at)


class Changes:
    """Number the changes of a store, and keep what watches and `ended` need of them.

    `watches` are the subscriptions, each by a token of its own; `wakers` wake those that wait.
    """

    revision: int

    def __init__(self, *, feed_capacity: int, ends_capacity: int) -> None:
        self.revision = 0
        self.ends: RecentEnds = RecentEnds(ends_capacity)
        self.feed: Ring[Change] = Ring(capacity=feed_capacity)
        self.wakers: Wakers = Wakers()
        self.watches: dict[object, None] = {}

    def subscribe(self, token: object) -> None:
        """Publish changes from now on, for one more watch."""
        if not self.watches:
            self.feed.restart(self.revision)
        self.watches[token] = None

    def unsubscribe(self, token: object) -> None:
        """Publish for one watch less. Idempotent, under no lock: one dict operation."""
        self.watches.pop(token, None)

    def record_update(self, session: Session) -> None:
        """Number an update."""
        self.revision += 1
        if self.watches:
            self.publish(Updated(self.revision, session.metadata))

    def record_end(self, session: Session, reason: ExitReason, at_ms: int) -> None:
        """Number an end, and remember it."""
        self.revision += 1
        self.ends.add(session, reason, at_ms, self.revision)
        if self.watches:
            self.publish(Ended(self.revision, session.metadata, reason, at_ms))

    def publish(self, change: Change) -> None:
        """Put a change into the feed. Who waits for it is woken when nothing is locked any more."""
        if self.feed.head != change.revision - 1:
            # A signal handler broke a write off before its change was told: watches begin anew.
            self.feed.restart(change.revision - 1)
        self.feed.append(change)
