"""What this process uses, and how late its event loop is: looked at once a second."""

from __future__ import annotations

import os
import platform
import resource
import time
from contextlib import suppress
from pathlib import Path

from frontdesk import __version__
from frontdesk.gateway.logs import lines_dropped
from frontdesk.gateway.metrics.instruments import Distribution, Tally
from frontdesk.gateway.metrics.metric_cells import MetricCells

_OPEN = "/proc/self/fd"
_KILOBYTE = 1024


class ProcessMetrics:
    """Count what this process, the worker of a number, uses."""

    def __init__(self, cells: MetricCells, *, worker: int) -> None:
        self._worker = str(worker)
        self._lag_s = Distribution("frontdesk_loop_lag_seconds", cells)
        self._dropped = Tally("frontdesk_log_lines_dropped_total", cells)
        self._dropped_seen = lines_dropped()
        self._cpu_s = Tally("process_cpu_seconds_total", cells)
        self._cpu_seen_s = 0.0
        self._memory = Tally("process_resident_memory_bytes", cells)
        self._virtual = Tally("process_virtual_memory_bytes", cells)
        self._open = Tally("process_open_fds", cells)
        self._limit = Tally("process_max_fds", cells)
        started = Tally("process_start_time_seconds", cells)
        started.set(self._worker, value=_started_at())
        build = Tally("frontdesk_build_info", cells)
        build.set(__version__, platform.python_version(), value=1)

    def on_tick(self, lag_s: float) -> None:
        """Count by how much the event loop came late."""
        self._lag_s.observe(max(0.0, lag_s))

    def refresh(self) -> None:
        """Look at what the process uses."""
        dropped = lines_dropped()
        self._dropped.add(amount=dropped - self._dropped_seen)
        self._dropped_seen = dropped
        cpu_s = time.process_time()
        self._cpu_s.add(self._worker, amount=cpu_s - self._cpu_seen_s)
        self._cpu_seen_s = cpu_s
        self._limit.set(self._worker, value=resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        with suppress(OSError, ValueError, IndexError):
            pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
            size = resource.getpagesize()
            self._virtual.set(self._worker, value=int(pages[0]) * size)
            self._memory.set(self._worker, value=int(pages[1]) * size)
            self._open.set(self._worker, value=_open_descriptors())


def _open_descriptors() -> int:
    # Newer kernels say it of the directory itself; older ones have it listed.
    return os.stat(_OPEN).st_size or len(os.listdir(_OPEN))


def _started_at() -> float:
    """Return when this process was started; now, where the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        stat = Path("/proc/self/stat").read_text(encoding="utf-8")
        ticks = int(stat.rpartition(")")[2].split()[19])
        since_boot_s = ticks / os.sysconf("SC_CLK_TCK")
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot_s
    return time.time()
