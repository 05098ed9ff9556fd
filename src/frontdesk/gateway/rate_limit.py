"""How much a key may ask for: requests a minute, and wrong keys a minute from one address.

Below the middleware, which asks before anything is done. The window arithmetic is the `limits`
library's (strategy and stats); what is ours is the storage under it: on the injected clock, without
the timer threads of the library's own memory storage, and bounded, so that a flood of addresses
cannot fill the memory. It knows nothing of HTTP.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.storage import MovingWindowSupport, Storage
from limits.strategies import MovingWindowRateLimiter

from frontdesk.clock import Clock
from frontdesk.gateway.errors import RateLimited

MAX_WINDOWS = 10_000
"""At most this many keys or addresses are remembered; the least recently seen is forgotten."""


# ruff: noqa: ARG002 - the signatures below are those of the library


class ClockStorage(Storage, MovingWindowSupport):
    """Moving windows in memory: for each identifier the times of its hits, oldest first.

    A hit costs amortised constant time, a window at most as many floats as its limit. For use on
    one event loop: no hit waits, so no lock is needed.
    """

    STORAGE_SCHEME: list[str] | None = (
        None  # not reachable by URI: it is made here with its clock, and only here
    )

    def __init__(self, clock: Clock, *, max_windows: int = MAX_WINDOWS) -> None:
        super().__init__()
        self._clock = clock
        self._max_windows = max_windows
        self._windows: OrderedDict[str, deque[float]] = OrderedDict()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        now = self._clock.monotonic()
        hits = self._window(key, since=now - expiry)
        if len(hits) + amount > limit:
            return False
        hits.extend([now] * amount)
        return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return when the window's oldest hit was (monotonic seconds), and how many there are."""
        now = self._clock.monotonic()
        hits = self._window(key, since=now - expiry)
        return (hits[0] if hits else now), len(hits)

    def _window(self, key: str, *, since: float) -> deque[float]:
        hits = self._windows.get(key)
        if hits is None:
            hits = self._windows[key] = deque()
            if len(self._windows) > self._max_windows:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(key)
        while hits and hits[0] <= since:
            hits.popleft()
        return hits

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        raise TypeError("only moving windows are kept here")

    def get(self, key: str) -> int:
        raise TypeError("only moving windows are kept here")

    def get_expiry(self, key: str) -> float:
        raise TypeError("only moving windows are kept here")

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        count = len(self._windows)
        self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        self._windows.pop(key, None)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left to a key: `reset_s` seconds until the oldest counted request counts no more."""

    limit: int
    remaining: int
    reset_s: int


class RateLimit:
    """At most `per_minute` of `what` in any 60 seconds, for each identifier apart."""

    __slots__ = ("_clock", "_item", "_limiter", "_what")

    def __init__(self, *, per_minute: int, what: str, clock: Clock) -> None:
        self._what = what
        self._clock = clock
        self._item = RateLimitItemPerMinute(per_minute)
        self._limiter = MovingWindowRateLimiter(ClockStorage(clock))

    @property
    def per_minute(self) -> int:
        """The limit."""
        return self._item.amount

    def change(self, *, per_minute: int) -> None:
        """Go on with another limit; what was counted so far still counts."""
        # The library keys its windows by limit as well: the old ones are forgotten with it.
        if per_minute != self._item.amount:
            self._item = RateLimitItemPerMinute(per_minute)

    def hit(self, identifier: str) -> Allowance:
        """Count one and return what is left; `RateLimited` where nothing was."""
        if not self._limiter.hit(self._item, identifier):
            raise self.refusal(self.allowance(identifier))
        return self.allowance(identifier)

    def check(self, identifier: str) -> None:
        """Raise `RateLimited` where nothing is left, without counting."""
        if not self._limiter.test(self._item, identifier):
            raise self.refusal(self.allowance(identifier))

    def allowance(self, identifier: str) -> Allowance:
        """Say what is left, without counting."""
        reset, remaining = self._limiter.get_window_stats(self._item, identifier)
        reset_s = max(1, math.ceil(reset - self._clock.monotonic()))
        return Allowance(self._item.amount, max(0, remaining), reset_s)

    def refusal(self, left: Allowance) -> RateLimited:
        """Return the refusal of whoever has nothing left."""
        return RateLimited(f"{self._what} a minute", limit=left.limit, retry_after_s=left.reset_s)
