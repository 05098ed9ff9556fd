"""What a node remembers of other nodes' sessions, kept right by the log.

    a reply to a read       is stored, unless the log has told of something later of that id
    a change in the log     replaces what is older, removes what has ended, and is ignored where
                            the entry is newer than it: the log may lag behind the replies
    a gap, a new era        empty it: nobody can say what of it still holds

It is bounded, and holds nothing about ids that do not exist.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from frontdesk.cluster.messages import LoggedRow
from frontdesk.cluster.records import IndexEntry, LoggedChange
from frontdesk.records import Ended

__all__ = ["CacheRead", "NearCache"]


class CacheRead:
    """A read that was sent. A reply is as new as what was told since if it is of `floor` or later.

    Attributes:
        session_id (str): Whose id.
        floor (float): The last change of it that the log has told since; infinite where it was
            forgotten.
    """

    __slots__ = ("floor", "session_id")

    def __init__(self, session_id: str) -> None:
        self.session_id: str = session_id
        self.floor: float = 0


class NearCache:
    """Remember at least the last `capacity` entries that were looked up, and twice that at most.

    Two generations instead of one ordered dictionary: what is found in the old one moves to the
    young one, and what nobody asked for meanwhile goes with the old one. A lookup costs a dict
    operation. Belongs to one event loop.

    Attributes:
        connected (bool): The log is being followed: what is here was right a moment ago. False
            until it is, and while it cannot be read.
    """

    __slots__ = ("_capacity", "_old", "_reads", "_young", "connected")

    connected: bool

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._young: dict[str, IndexEntry] = {}
        self._old: dict[str, IndexEntry] = {}
        self._reads: dict[str, set[CacheRead]] = {}
        self.connected = False

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, session_id: str) -> IndexEntry | None:
        """Return what is remembered of an id."""
        found = self._young.get(session_id)
        if found is None and session_id in self._old:
            found = self._old.pop(session_id)
            self._keep(found)
        return found

    def forget(self, session_id: str) -> None:
        """Remember nothing of an id, not even what was asked before now."""
        self._young.pop(session_id, None)
        self._old.pop(session_id, None)
        self._outdate(session_id, math.inf)

    def clear(self) -> None:
        """Forget everything, also what was asked before now."""
        self._young.clear()
        self._old.clear()
        for session_id in list(self._reads):
            self._outdate(session_id, math.inf)

    # -- what comes in ---------------------------------------------------------------------------

    def begin_read(self, session_id: str) -> CacheRead:
        """Say that an id is about to be read from the engine; `end_read` follows, whatever came."""
        read = CacheRead(session_id)
        self._reads.setdefault(session_id, set()).add(read)
        return read

    def end_read(self, read: CacheRead, entry: IndexEntry | None) -> None:
        """Store what a read was answered, unless the log has told of something later since."""
        reads = self._reads.get(read.session_id)
        if reads is not None:
            reads.discard(read)
            if not reads:
                del self._reads[read.session_id]
        if entry is None or entry.version < read.floor:
            return
        known = self._young.get(read.session_id) or self._old.pop(read.session_id, None)
        # Of two replies the later read wins, whichever came first.
        self._keep(entry if known is None or known.version <= entry.version else known)

    def apply(self, logged: LoggedChange) -> None:
        """Take in a change of the log."""
        change = logged.change
        session = change.session
        self._outdate(session.session_id, change.revision)
        known = self._young.get(session.session_id) or self._old.get(session.session_id)
        if known is None or known.version >= change.revision:
            return
        if session.fence < known.fence:
            return  # of an older one of that id
        if isinstance(change, Ended) or session.fence != known.fence:
            self.forget(session.session_id)
            return
        entry = replace(known.entry, model=session.model, blueprint=session.blueprint)
        self._old.pop(session.session_id, None)
        self._keep(replace(known, entry=entry, version=change.revision))

    def apply_rows(self, rows: Iterable[LoggedRow]) -> None:
        """Take in changes of the log: those about nothing that is here cost a look at their ids."""
        for row in rows:
            session_id = row.session_id
            if session_id in self._young or session_id in self._old or session_id in self._reads:
                self.apply(row.logged)

    def _keep(self, entry: IndexEntry) -> None:
        self._young[entry.entry.session_id] = entry
        if len(self._young) >= self._capacity:
            self._old, self._young = self._young, {}

    def _outdate(self, session_id: str, revision: float) -> None:
        for read in self._reads.get(session_id, ()):
            read.floor = max(read.floor, revision)
