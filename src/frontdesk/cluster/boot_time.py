"""The time of leases, which goes on while the machine sleeps."""

from __future__ import annotations

import time

__all__ = ["boot_time_s"]


def boot_time_s() -> float:
    """Return the seconds since the machine was started, its sleep included.

    By the usual monotonic clock, a laptop that slept for an hour would believe in its lease still.
    Where there is no `CLOCK_BOOTTIME`, it is that clock all the same.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
