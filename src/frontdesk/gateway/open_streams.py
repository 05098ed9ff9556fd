"""Who is listening: every open event stream and WebSocket of the gateway.

Beside the rate limit; the streams enter and leave it. It bounds how many one key may hold open
at a time, and ends the streams of a key that no longer opens anything. It knows nothing of events.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from frontdesk.gateway.errors import RateLimited
from frontdesk.gateway.keys import Key

RETRY_S = 10


class OpenStreams:
    """Keep the open streams by key. Belongs to one event loop."""

    __slots__ = ("_by_key", "per_key")

    def __init__(self, *, per_key: int) -> None:
        self.per_key = per_key
        self._by_key: defaultdict[Key, set[Callable[[], None]]] = defaultdict(set)

    def enter(self, key: Key, end: Callable[[], None]) -> None:
        """Take a place for a stream; `RateLimited` where the key has as many open as it may.

        `end` is called once the key opens nothing any more. `leave` with the same `end`.
        """
        if len(self._by_key[key]) >= self.per_key:
            raise RateLimited("open streams", limit=self.per_key, retry_after_s=RETRY_S)
        self._by_key[key].add(end)

    def leave(self, key: Key, end: Callable[[], None]) -> None:
        """Give the place back. Does nothing where none was taken."""
        self._by_key[key].discard(end)
        if not self._by_key[key]:
            del self._by_key[key]

    def end_where_not(self, holds: Callable[[Key], bool]) -> None:
        """End every stream whose key is not held any more."""
        for key in [key for key in self._by_key if not holds(key)]:
            for end in list(self._by_key[key]):
                end()

    def __len__(self) -> int:
        return sum(map(len, self._by_key.values()))
