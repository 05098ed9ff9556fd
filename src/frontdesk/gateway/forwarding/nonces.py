"""The nonces that have come, for as long as their requests could come again.

Below the signing. Bounded: where as many came as are stored, further ones are refused, for a nonce
that is forgotten too early lets a request in twice.
"""

from __future__ import annotations

from collections import deque

MAX_NONCES = 262_144
"""More than 4,000 requests a second for a minute; some 50 MB then."""


class SeenNonces:
    """Remember nonces for a while. Costs constant time, and memory only for those of late."""

    __slots__ = ("_by_age", "_for_s", "_max_nonces", "_seen")

    def __init__(self, *, for_s: float, max_nonces: int = MAX_NONCES) -> None:
        self._for_s, self._max_nonces = for_s, max_nonces
        self._seen: set[str] = set()
        self._by_age: deque[tuple[float, str]] = deque()

    def add(self, nonce: str, *, now_s: float) -> bool:
        """Remember one; False where it is remembered already, or there is no room."""
        while self._by_age and self._by_age[0][0] <= now_s - self._for_s:
            self._seen.discard(self._by_age.popleft()[1])
        if nonce in self._seen or len(self._seen) >= self._max_nonces:
            return False
        self._seen.add(nonce)
        self._by_age.append((now_s, nonce))
        return True

    def __len__(self) -> int:
        return len(self._seen)
