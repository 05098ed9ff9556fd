"""The one lock of a store: for writers only, and aware of being interrupted.

A write can be interrupted in its own thread: by a signal handler, or by a finalizer that the
garbage collector happens to run there (a collected coroutine runs its `finally` blocks). Such code
may ask the store for another write. A plain lock would deadlock on it and a recursive one would let
it see a half-done write. So every write asks `interrupting()` first: one without an answer is put
off until the interrupted one is done, the others are refused.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from frontdesk.errors import ReentrantWrite, StoreClosed
from frontdesk.lock import InterruptibleLock

_log = logging.getLogger("frontdesk")


class WriteLock:
    """Serialise writers: `with lock.held:` around a write, `run_deferred` after it.

    The hottest writes say `acquire` and `release` instead, as `frontdesk.lock` writes it out.
    """

    __slots__ = ("acquire", "deferred", "held", "interrupting", "release")

    def __init__(self) -> None:
        self.held: InterruptibleLock = InterruptibleLock()
        # Bound once: of a lock of a class of ours, CPython calls them faster so.
        self.acquire: Callable[[], bool] = self.held.acquire
        self.release: Callable[[], None] = self.held.release
        self.deferred: deque[Callable[[], None]] = deque()
        # Whether this very thread holds the lock: what threading.Condition asks of a lock.
        self.interrupting: Callable[[], bool] = self.held._is_owned  # type: ignore[attr-defined]

    def refuse_interrupting(self, operation: str) -> None:
        """Refuse an operation that has to answer, in the middle of a write of this thread."""
        if self.interrupting():
            raise ReentrantWrite(operation)

    def defer(self, write: Callable[[], None]) -> None:
        """Run `write` as soon as the write under way in this thread is done."""
        self.deferred.append(write)

    def run_deferred(self) -> None:
        """Run what was put off; called when nothing is locked any more."""
        while self.deferred:
            try:
                write = self.deferred.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                write()
            except StoreClosed:
                pass  # closed since: there is nothing left to write to
            except Exception:  # noqa: BLE001 - nobody waits for it; the log is where it is heard
                _log.exception("a deferred write failed")
