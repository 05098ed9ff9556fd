"""The one thread that waits on the kernel for all threads and processes of a store."""

from __future__ import annotations

from collections.abc import Callable


class Watcher:
    """Wait for the ends of threads and processes, whatever their number, in one thread."""

    def __init__(self, *, use_pidfd: bool | None = None, fallback_interval_s: float = 0.05) -> None:
        self.use_pidfd, self.fallback_interval_s = use_pidfd, fallback_interval_s

    def every_second(self, callback: Callable[[], None]) -> None:
        """Call `callback` once a second."""

    def close(self) -> None:
        """End."""

    def abandon_after_fork(self) -> None:
        """Forget."""
