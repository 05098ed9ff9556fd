"""Who is listening: every open event stream and WebSocket of the gateway.

Beside the rate limit; the streams enter and leave it. It bounds how many one key may hold open
at a time, and ends the streams of whoever would not be let in again. It knows nothing of events.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from enum import StrEnum

from frontdesk.gateway.callers import Caller
from frontdesk.gateway.errors import RateLimited

RETRY_S = 10


class StreamKind(StrEnum):
    """What is open."""

    EVENTS = "events"
    WEBSOCKET = "websocket"
    ROWS = "rows"
    """A feed of sessions."""
    WAIT = "wait"
    """A request that waits for the end of a turn."""
    PASSED_ON = "passed_on"
    """Any of these, to another node's session."""


class OpenStreams:
    """Keep the open streams by caller. Belongs to one event loop."""

    __slots__ = ("_by_caller", "_kinds", "_of_key", "per_key")

    def __init__(self, *, per_key: int) -> None:
        self.per_key: int = per_key
        self._by_caller: defaultdict[Caller, set[Callable[[], None]]] = defaultdict(set)
        self._of_key: Counter[str] = Counter()
        self._kinds: dict[Callable[[], None], StreamKind] = {}

    def enter(self, caller: Caller, end: Callable[[], None], *, kind: StreamKind) -> None:
        """Take a place for a stream; `RateLimited` where its key has as many open as it may.

        `end` is called once the caller would not be let in again. `leave` with the same `end`.
        """
        if self._of_key[caller.key_id] >= self.per_key:
            raise RateLimited("open streams", limit=self.per_key, retry_after_s=RETRY_S)
        self._by_caller[caller].add(end)
        self._kinds[end] = kind
        self._of_key[caller.key_id] += 1

    def leave(self, caller: Caller, end: Callable[[], None]) -> None:
        """Give the place back. Does nothing where none was taken."""
        ends = self._by_caller.get(caller, set())
        if end not in ends:
            return
        ends.remove(end)
        del self._kinds[end]
        if not ends:
            del self._by_caller[caller]
        self._of_key[caller.key_id] -= 1
        if not self._of_key[caller.key_id]:
            del self._of_key[caller.key_id]

    def end_where_not(self, holds: Callable[[Caller], bool]) -> None:
        """End every stream whose caller is not held any more."""
        for caller in [caller for caller in self._by_caller if not holds(caller)]:
            for end in list(self._by_caller[caller]):
                end()

    def end_waits(self) -> None:
        """Have nobody wait for a turn's end any more: the gateway ends, and the turn may not."""
        for end, kind in list(self._kinds.items()):
            if kind is StreamKind.WAIT:
                end()

    def by_kind(self) -> dict[StreamKind, int]:
        """Return how many of each kind are open."""
        return Counter(self._kinds.values())

    def __len__(self) -> int:
        return self._of_key.total()
