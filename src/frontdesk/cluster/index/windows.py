"""What nodes share besides sessions: rates in moving windows, and claims on answers."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from frontdesk.cluster.index.moment import seconds
from frontdesk.cluster.records import Claim, Taken

__all__ = ["Claimed", "Claims", "Rates"]

_SWEPT = 2
"""So many of the longest unused are looked at with each call: more than one call can add."""


@dataclass(slots=True)
class _Window:
    window_us: int = 0
    taken_us: deque[int] = field(default_factory=deque)


class Rates:
    """Count in moving windows. A window holds at most as many times as its limit."""

    def __init__(self) -> None:
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def take(self, counted: str, now: int, *, limit: int, window_us: int) -> Taken:
        """Count one if fewer than `limit` were counted since `window_us` ago, that point left out.

        `reset_s` is until the oldest that counts, counts no more; it is one, where this is the
        first, that was just counted.
        """
        for _ in range(min(_SWEPT, len(self._windows))):
            oldest, unused = next(iter(self._windows.items()))
            if unused.taken_us[-1] > now - unused.window_us:
                self._windows.move_to_end(oldest)
            else:
                del self._windows[oldest]
        window = self._windows.setdefault(counted, _Window())
        self._windows.move_to_end(counted)
        window.window_us, taken = window_us, window.taken_us
        while taken and taken[0] <= now - window_us:
            taken.popleft()
        allowed = len(taken) < limit
        if allowed:
            taken.append(now)
        return Taken(allowed, max(limit - len(taken), 0), seconds(taken[0] + window_us - now))


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim, and when it runs out, in engine time."""

    claim: Claim
    deadline_us: int


class Claims:
    """Who answers what is asked more than once."""

    def __init__(self) -> None:
        self._by_slot: OrderedDict[str, Claimed] = OrderedDict()

    def find(self, slot: str, now: int) -> Claim | None:
        """Return the claim on a slot that has not run out."""
        for _ in range(min(_SWEPT, len(self._by_slot))):
            oldest, claimed = next(iter(self._by_slot.items()))
            self._by_slot.move_to_end(oldest)
            if claimed.deadline_us <= now:
                del self._by_slot[oldest]
        claimed_slot = self._by_slot.get(slot)
        if claimed_slot is None or claimed_slot.deadline_us <= now:
            return None
        return claimed_slot.claim

    def put(self, slot: str, claimed: Claimed) -> None:
        """Put a claim in place of whatever was there."""
        self._by_slot[slot] = claimed
