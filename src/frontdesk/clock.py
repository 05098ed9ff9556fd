"""Time, injected.

Everything that waits or stamps takes a `Clock`, so that tests move time instead of sleeping.
Durations are monotonic; wall time appears in `created_at` and `ended_at` only. Imports nothing of
ours.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where Frontdesk gets its time from: what `SessionStore(clock=...)` takes."""

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        ...

    def wall_ms(self) -> int:
        """Return the wall clock in whole milliseconds since the epoch."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Return the wall clock in whole milliseconds since the epoch."""
        return time.time_ns() // 1_000_000
