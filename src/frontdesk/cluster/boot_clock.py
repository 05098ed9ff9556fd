"""BootClock: the clock of leases, which goes on while the machine sleeps."""

from __future__ import annotations

import time

from frontdesk.clock import SystemClock

__all__ = ["BootClock"]


class BootClock(SystemClock):
    """The machine's clocks; durations by `CLOCK_BOOTTIME` where there is one.

    By the usual monotonic clock a laptop that slept for an hour would believe in its lease still.
    """

    __slots__ = ()

    def monotonic(self) -> float:
        """Return the seconds since the machine was started, its sleep included."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
