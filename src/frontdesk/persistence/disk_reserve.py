"""A file that only takes room, so that there is some when a disk is full.

It is freed when nothing could be stored for a while: then the turns that wait are ended, and that
has to be stored. Once there is room again, it is made anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from frontdesk.persistence.errors import StorageUnavailable

MAKE_EVERY_S = 60.0
"""How often it is tried to make it again."""


class DiskReserve:
    """Keep so many bytes of a disk free for what must be stored. Used by one thread at a time.

    `after_s` is how long nothing could be stored before it is freed. With a size of 0 there is
    none. Where there is no room for it, there is none either, until there is.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: int,
        after_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._size, self._after_s = path, size, after_s
        self._monotonic = monotonic
        self._full_since_s: float | None = None
        self._make_at_s = 0.0
        self.made: bool = False
        self.make()

    def make(self) -> None:
        """Take the room, where there is twice as much free as it takes."""
        self._make_at_s = self._monotonic() + MAKE_EVERY_S
        if not self._size:
            return
        with suppress(OSError):
            if self._path.exists() and self._path.stat().st_size == self._size:
                self.made = True
                return
            free = os.statvfs(self._path.parent)
            if free.f_bavail * free.f_frsize < 2 * self._size:
                return
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
            finally:
                os.close(descriptor)
            self.made = True

    def free(self) -> None:
        """Give the room back."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self.made = False

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Go by what comes of storing something: freed after a while, made anew when it is well."""
        now_s = self._monotonic()
        try:
            yield
        except StorageUnavailable:
            if self._full_since_s is None:
                self._full_since_s = now_s
            elif self.made and now_s - self._full_since_s >= self._after_s:
                self.free()
            raise
        self._full_since_s = None
        if not self.made and now_s >= self._make_at_s:
            self.make()
