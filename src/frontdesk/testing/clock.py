"""ManualClock: time that moves when a test moves it.

Part of the public test kit. Satisfies `frontdesk.clock.Clock`; knows nothing of who reads it.
"""

from __future__ import annotations

import threading

START_WALL_MS = 1_700_000_000_000
"""Where the wall clock of a new `ManualClock` stands: a round moment in November 2023."""


class ManualClock:
    """Stand still until `advance` moves it. Safe to read and to move from any thread.

    Monotonic time starts at 0 and moves with wall time; `set_wall_ms` moves wall time alone, as an
    administrator or a time server does.

    Examples:
        >>> clock = ManualClock()
        >>> clock.advance(1.5)
        >>> clock.monotonic(), clock.wall_ms() - START_WALL_MS
        (1.5, 1500)
    """

    __slots__ = ("_lock", "_monotonic_ms", "_wall_ms")

    def __init__(self, *, wall_ms: int = START_WALL_MS) -> None:
        self._lock = threading.Lock()
        self._monotonic_ms = 0
        self._wall_ms = wall_ms

    def monotonic(self) -> float:
        """Return the seconds that this clock was advanced by since it was made."""
        return self._monotonic_ms / 1000

    def wall_ms(self) -> int:
        """Return the wall time in milliseconds since the epoch."""
        return self._wall_ms

    def advance(self, duration_s: float) -> None:
        """Move both clocks forward by `duration_s`, rounded to milliseconds."""
        if duration_s < 0:
            raise ValueError(f"time cannot be advanced by {duration_s} s")
        duration_ms = round(duration_s * 1000)
        with self._lock:
            self._monotonic_ms += duration_ms
            self._wall_ms += duration_ms

    def set_wall_ms(self, wall_ms: int) -> None:
        """Set the wall clock, backwards too; monotonic time goes on unmoved."""
        with self._lock:
            self._wall_ms = wall_ms
