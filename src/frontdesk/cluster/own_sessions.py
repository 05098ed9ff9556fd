"""What a node has told the index of its own sessions, and not taken back.

The node's store says what lives; this says what the index should know of it, so that the two can be
compared: by a number and an exclusive or with every renewal, by the entries where these differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from frontdesk.cluster.records import IndexEntry
from frontdesk.records import Fence

__all__ = ["OwnEntry", "OwnSessions", "Totals"]


@dataclass(frozen=True, slots=True)
class OwnEntry:
    """One of this node's sessions, as the index has it.

    Attributes:
        indexed (IndexEntry): The entry.
        local_fence (Fence): Of the session in the node's store.
    """

    indexed: IndexEntry
    local_fence: Fence

    @property
    def session_id(self) -> str:
        """Its id."""
        return self.indexed.entry.session_id


@dataclass(frozen=True, slots=True)
class Totals:
    """What a renewal tells of all entries. Replaced as a whole: another thread reads it.

    Attributes:
        count (int): How many there are.
        tokens (int): Their tokens, exclusive-ored.
    """

    count: int = 0
    tokens: int = 0


class OwnSessions:
    """The entries that were told, by session id. Belongs to one event loop.

    Attributes:
        entries (dict[str, OwnEntry]): Told and not taken back.
        homeless (dict[str, OwnEntry]): They live here, and are to be created again under the
            node's new incarnation.
        ending (set[str]): Ids in `entries` whose session has ended; that is being told.
        next_tokens (dict[str, str]): Of sessions between two agents: what holds their ids.
        unreleased (dict[str, str]): Tokens that nobody will use, with the ids that they may hold.
        under_way (dict[str, int]): Ids that calls not answered yet are about, with their number.
        activity (int): Changes with every such call's begin and end.
        totals (Totals): Of `entries`.
    """

    def __init__(self) -> None:
        self.entries: dict[str, OwnEntry] = {}
        self.homeless: dict[str, OwnEntry] = {}
        self.ending: set[str] = set()
        self.next_tokens: dict[str, str] = {}
        self.unreleased: dict[str, str] = {}
        self.under_way: dict[str, int] = {}
        self.activity: int = 0
        self.totals: Totals = Totals()

    def living(self, session_id: str) -> OwnEntry | None:
        """Return the entry of a session that has not ended here."""
        return None if session_id in self.ending else self.entries.get(session_id)

    def of_tenant(self, tenant_id: str) -> list[str]:
        """Return the ids of a tenant's. Costs a look at each entry."""
        entries = self.entries.items()
        return [name for name, own in entries if own.indexed.entry.tenant_id == tenant_id]

    def add(self, own: OwnEntry) -> None:
        """Say that the index has an entry."""
        self.remove(own.session_id)
        self.entries[own.session_id] = own
        self.next_tokens.pop(own.session_id, None)
        self._count(own, 1)

    def remove(self, session_id: str) -> OwnEntry | None:
        """Say that the index has it no more."""
        own = self.entries.pop(session_id, None)
        self.ending.discard(session_id)
        if own is not None:
            self._count(own, -1)
        return own

    def update(self, session_id: str, *, model: str | None, blueprint: str | None) -> None:
        """Say what an entry's model and blueprint are now."""
        own = self.entries.get(session_id)
        if own is None:
            return
        entry = replace(own.indexed.entry, model=model, blueprint=blueprint)
        self.entries[session_id] = replace(own, indexed=replace(own.indexed, entry=entry))

    def detach(self) -> None:
        """Say that the index has none of them: they were another incarnation's."""
        living = {name: own for name, own in self.entries.items() if name not in self.ending}
        self.homeless.update(living)
        self.entries.clear()
        self.ending.clear()
        self.next_tokens.clear()
        self.unreleased.clear()
        self.totals = Totals()

    @contextmanager
    def asking(self, *session_ids: str) -> Iterator[None]:
        """Mark ids as under way while a call about them is."""
        self.activity += 1
        for session_id in session_ids:
            self.under_way[session_id] = self.under_way.get(session_id, 0) + 1
        try:
            yield
        finally:
            self.activity += 1
            for session_id in session_ids:
                left = self.under_way[session_id] - 1
                if left:
                    self.under_way[session_id] = left
                else:
                    del self.under_way[session_id]

    def _count(self, own: OwnEntry, number: int) -> None:
        token = int(own.indexed.entry.token, 16)
        self.totals = Totals(self.totals.count + number, self.totals.tokens ^ token)
