"""When the watcher's thread looks or calls again: how long is left, whatever the clock says.

A clock is not to be trusted further than the sleep that it is asked for: test tools freeze it and
set it back, while the thread lives on. So nothing is ever due later than one interval from now, and
a sleep that nobody broke off counts in full, also where the clock stood still meanwhile.
"""

from __future__ import annotations

from math import inf

from frontdesk.waiting import steady_s

LONGEST_SLEEP_S = 86_400.0
"""What the thread sleeps at most: far from the 24 days that are all that epoll can count."""


class Repetition:
    """What is done again and again, and when it is due next."""

    __slots__ = ("_due_s", "_interval_s", "_left_s")

    def __init__(self) -> None:
        self._due_s = self._interval_s = self._left_s = inf

    def begin(self, interval_s: float) -> None:
        """Be due in that many seconds from now."""
        self._interval_s, self._due_s = interval_s, steady_s() + interval_s

    def left_s(self) -> float:
        """Return how long that is from now."""
        left_s = self._due_s - steady_s()
        if left_s > self._interval_s:  # the clock was set back
            self.begin(self._interval_s)
            left_s = self._interval_s
        self._left_s = max(0.0, left_s)
        return self._left_s

    def slept(self, slept_s: float) -> None:
        """Count a sleep of that long since `left_s()` was asked, which nobody broke off."""
        if slept_s >= self._left_s:
            self._due_s = -inf
