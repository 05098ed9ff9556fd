"""The thread's own side of a `Watcher`: what it waits for, what it looks at, what it calls.

Between `poller.py` (how to sleep) and `watcher.py` (who owns the thread). It knows that a watched
thing can be looked at and told, and nothing of agents or sessions. The thread holds the lookout and
not the `Watcher`, so that a forgotten `Watcher` is collected and ends its thread.

The lock is held for table changes only: never while something is looked at or called. It may be
taken again by its holder, because a signal handler or finalizer can come in anywhere.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Protocol

from frontdesk.lock import InterruptibleLock
from frontdesk.monitors.poller import Poller, make_poller
from frontdesk.records import ExitKind, ExitReason

TICK_S = 1.0
LOOKING_SHARE = 4
"""After a look at everything the thread rests at least this many times as long as it took."""

_logger = logging.getLogger("frontdesk")


class Pollable(Protocol):
    """Something that ends: told of by a descriptor, or looked at now and then where `fd` is None.

    `undecided` says that it is over, but that how is worth another look a little later.
    """

    fd: int | None
    undecided: bool

    def look(self) -> ExitReason | None:
        """Return how it ended, or None: it lives, or is `undecided`."""
        ...

    def told(self, reason: ExitReason) -> None:
        """Take the end, once; it is watched no more and its descriptor is closed."""
        ...


class _Tick:
    """A callback for every second; a method does not keep its object."""

    __slots__ = ("callback", "failing")

    def __init__(self, callback: Callable[[], None]) -> None:
        held = partial(_itself, callback)
        self.callback: Callable[[], Callable[[], None] | None] = (
            weakref.WeakMethod(callback) if isinstance(callback, MethodType) else held
        )
        self.failing = False


def _itself(callback: Callable[[], None]) -> Callable[[], None]:
    return callback


class WatchLoop:
    """Wait for all watched things of one `Watcher` in one thread, which starts when needed."""

    def __init__(self, *, interval_s: float) -> None:
        self._interval_s = interval_s
        self._lock = InterruptibleLock()
        self._by_fd: dict[int, Pollable] = {}
        self._looked_at: dict[Pollable, None] = {}
        self._ticks: list[_Tick] = []
        self._next_look = self._next_tick = 0.0
        self._waiting: Poller | None = None
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self.closed = False

    def __len__(self) -> int:
        return len(self._by_fd) + len(self._looked_at)

    # -- what any thread may call --------------------------------------------------------------

    def add(self, watched: Pollable) -> None:
        """Watch. From then on the descriptor is ours to close. `OSError` leaves it the caller's."""
        self._notice_fork()
        with self._lock:
            if self.closed:
                raise OSError(errno.EBADF, "the watcher is closed")
            waiting = self._started()
            fd = watched.fd
            if fd is None:
                self._look_later(watched)
                return
            # Entered first: the descriptor may be ready before add() returns.
            self._by_fd[fd] = watched
            try:
                waiting.add(fd)
            except BaseException:
                del self._by_fd[fd]
                raise

    def remove(self, watched: Pollable) -> bool:
        """Watch no more and close the descriptor. True for the one caller who ended the watching:
        only the thread that gets it from here may tell of the end.
        """
        self._notice_fork()
        with self._lock:
            fd = watched.fd
            if fd is not None and self._by_fd.get(fd) is watched:
                del self._by_fd[fd]
                self._leave(fd)
            elif watched in self._looked_at:
                del self._looked_at[watched]
            else:
                return False
            watched.fd = None
        _close_quietly(fd)
        return True

    def every_second(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once a second; return what ends that."""
        tick = _Tick(callback)
        self._notice_fork()
        with self._lock:
            if not self.closed:
                if not self._ticks:
                    self._next_tick = time.monotonic() + TICK_S
                self._ticks.append(tick)
                self._start_for_ticks()
        return partial(self._drop_tick, tick)

    def close(self) -> None:
        """End the thread, close every descriptor, tell nobody. Never waits."""
        if self._pid != os.getpid():
            self.abandon()
            return
        with self._lock:
            # Also where it was closed before: a signal handler may have broken that off.
            self.closed = True
            self._ticks.clear()
            self._close_all()
            self._wake()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread, unless this is it."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def abandon(self) -> None:
        """In a forked child: forget everything, and close our copies of the parent's descriptors.

        Nothing is taken out of the epoll set: the set is the parent's too. A lock that was held
        when the process forked is held for ever, hence the new one.
        """
        if self._pid == os.getpid():
            self.close()
            return
        self._lock = InterruptibleLock()
        self.closed = True
        waiting, self._waiting, self._thread = self._waiting, None, None
        for watched in (*self._by_fd.values(), *self._looked_at):
            fd, watched.fd = watched.fd, None
            _close_quietly(fd)
        self._by_fd, self._looked_at, self._ticks = {}, {}, []
        if waiting is not None:
            with contextlib.suppress(OSError):
                waiting.close()

    # -- what the thread does ------------------------------------------------------------------

    def run(self, waiting: Poller) -> None:
        """Wait, look, call, until closed."""
        try:
            while not self.closed:
                for fd in waiting.wait(self._timeout_s()):
                    self._descriptor_ready(fd)
                self._look_around()
                self._call_ticks()
        except Exception:
            _logger.exception("the watcher failed: ends of processes and threads go unnoticed")
        finally:
            # Under the lock: a wake-up in another thread must not write to a closed descriptor.
            with self._lock:
                self._waiting = None
                waiting.close()

    def _timeout_s(self) -> float | None:
        with self._lock:
            due = [self._next_look] if self._looked_at else []
            due += [self._next_tick] if self._ticks else []
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _descriptor_ready(self, fd: int) -> None:
        watched = self._by_fd.get(fd)
        if watched is not None:
            self._look(watched)
            return
        with self._lock:
            if fd not in self._by_fd:
                self._leave(fd)

    def _look(self, watched: Pollable) -> None:
        """Look, and tell of an end. The number of a descriptor may have been used anew since the
        kernel reported it: `look` asks the kernel again, so a stale report does no harm.
        """
        try:
            reason = watched.look()
        except Exception:
            _logger.exception("a look at a process or thread failed")
            reason = ExitReason.of(ExitKind.UNKNOWN)
        if reason is None:
            if watched.undecided:
                self._look_again(watched)
        elif self.remove(watched):
            self._tell(watched, reason)

    def _tell(self, watched: Pollable, reason: ExitReason) -> None:
        try:
            watched.told(reason)
        except BaseException:  # SystemExit included: the thread is everybody's
            _logger.exception("an exit callback raised (the agent's exit: %s)", reason)

    def _look_again(self, watched: Pollable) -> None:
        with self._lock:
            fd = watched.fd
            if fd is not None and self._by_fd.get(fd) is watched:
                del self._by_fd[fd]
                self._leave(fd)
                self._look_later(watched)

    def _look_around(self) -> None:
        began = time.monotonic()
        if not self._looked_at or began < self._next_look:
            return
        with self._lock:
            everything = list(self._looked_at)
        for watched in everything:
            self._look(watched)
        ended = time.monotonic()
        self._next_look = ended + max(self._interval_s, LOOKING_SHARE * (ended - began))

    def _call_ticks(self) -> None:
        now = time.monotonic()
        if not self._ticks or now < self._next_tick:
            return
        self._next_tick = now + TICK_S
        with self._lock:
            ticks = list(self._ticks)
        for tick in ticks:
            self._call_tick(tick)

    def _call_tick(self, tick: _Tick) -> None:
        callback = tick.callback()
        if callback is None:
            self._drop_tick(tick)
            return
        try:
            callback()
            tick.failing = False
        except BaseException:  # SystemExit included: the thread is everybody's
            if not tick.failing:
                _logger.exception("what is called every second raised; it is called again")
            tick.failing = True

    # -- under the lock ------------------------------------------------------------------------

    def _started(self) -> Poller:
        if self._waiting is not None:
            return self._waiting
        waiting = make_poller()
        thread = threading.Thread(
            target=self.run, args=(waiting,), name="frontdesk-watcher", daemon=True
        )
        # Entered first: a signal handler may come in while the thread starts, and want one too.
        self._waiting, self._thread = waiting, thread
        try:
            thread.start()
        except BaseException as error:
            self._waiting = self._thread = None
            waiting.close()
            if isinstance(error, RuntimeError):
                raise OSError(errno.EAGAIN, str(error)) from error
            raise
        return waiting

    def _start_for_ticks(self) -> None:
        try:
            self._started()
        except OSError as error:
            _logger.warning("nothing is called every second until a thread can start: %s", error)
        else:
            self._wake()

    def _look_later(self, watched: Pollable) -> None:
        if not self._looked_at:
            self._next_look = time.monotonic() + self._interval_s
        self._looked_at[watched] = None
        self._wake()

    def _drop_tick(self, tick: _Tick) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._ticks.remove(tick)

    def _leave(self, fd: int) -> None:
        if self._waiting is not None:
            self._waiting.remove(fd)

    def _close_all(self) -> None:
        for watched in (*self._by_fd.values(), *self._looked_at):
            self._close_watched(watched)
        self._by_fd.clear()
        self._looked_at.clear()

    def _close_watched(self, watched: Pollable) -> None:
        fd, watched.fd = watched.fd, None
        if fd is not None:
            self._leave(fd)
        _close_quietly(fd)

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.wake()

    def _notice_fork(self) -> None:
        if self._pid != os.getpid():
            self.abandon()


def _close_quietly(fd: int | None) -> None:
    if fd is not None:
        with contextlib.suppress(OSError):
            os.close(fd)
