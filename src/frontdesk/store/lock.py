"""The one lock of a store: for writers only, and aware of being interrupted.

Below `store.py`. A write can be interrupted in its own thread: by a signal handler, or by a
finalizer that the garbage collector happens to run there (a collected coroutine runs its `finally`
blocks). Such code may ask the store for another write. A plain lock would deadlock on it and a
recursive one would let it see a half-done write; this one lets writes without an answer be put off
until the interrupted one is done, and refuses the others.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from frontdesk.errors import ReentrantWrite, StoreClosed

_log = logging.getLogger("frontdesk")


class WriteLock:
    """Serialise writers; `with lock:` around every write."""

    __slots__ = ("_later", "_lock", "_writer")

    def __init__(self) -> None:
        # Recursive, so that an interruption between acquire and the note of the writer, when
        # nothing has been written yet, may do its own write in peace.
        self._lock = threading.RLock()
        self._writer: int | None = None
        self._later: deque[Callable[[], None]] = deque()

    def interrupted(self) -> bool:
        """Tell whether this thread is in the middle of a write."""
        return self._writer == threading.get_ident()

    def defer(self, write: Callable[[], None]) -> None:
        """Run `write` as soon as the write that was interrupted is done."""
        self._later.append(write)

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._writer is not None:
            self._lock.release()
            raise ReentrantWrite("a write")
        self._writer = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._writer = None
        self._lock.release()
        if self._later:
            self._run_deferred()

    def _run_deferred(self) -> None:
        while self._later:
            try:
                write = self._later.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                write()
            except StoreClosed:
                pass  # closed since: there is nothing left to write to
            except Exception:  # noqa: BLE001 - whose write it was is long gone; the log is all there is
                _log.exception("a deferred write failed")
