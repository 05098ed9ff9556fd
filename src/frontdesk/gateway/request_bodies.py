"""Bodies of requests that are not answered yet: bounded for each key.

Beside the rate limit, which counts requests and not what they hold; the middleware enters a request
before any of its body is read, and takes it out with its answer. A body that comes slowly, or stays
without its last byte, is held all the while, and one key may have many of them. It belongs to one
event loop and knows nothing of HTTP.
"""

from __future__ import annotations

from collections import Counter

from frontdesk.gateway.errors import RateLimited

RETRY_S = 1


class RequestBodies:
    """Keep how many bytes each key's unanswered requests have announced."""

    __slots__ = ("_by_key", "_max_bytes")

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._by_key: Counter[str] = Counter()

    def enter(self, key_id: str, size: int) -> None:
        """Take room for a body; `RateLimited` where there is too little. `leave` with the same.

        One alone always has room: how large it may be is another limit.
        """
        held = self.held(key_id)
        if held and held + size > self._max_bytes:
            raise RateLimited(
                "bytes of bodies at once", limit=self._max_bytes, retry_after_s=RETRY_S
            )
        self._by_key[key_id] = held + size

    def leave(self, key_id: str, size: int) -> None:
        """Give the room back."""
        self._by_key[key_id] -= size
        if not self._by_key[key_id]:
            del self._by_key[key_id]

    def held(self, key_id: str) -> int:
        """Return what a key's bodies have room for now."""
        return self._by_key.get(key_id, 0)
