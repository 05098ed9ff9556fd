"""`Watcher`: one thread that waits for the threads and processes of a store, and its loop.

It knows that a watched thing can be polled and notified, and nothing of agents.

Two classes, because the thread holds the `WatchLoop` and not the `Watcher`: a forgotten `Watcher`
is collected so, and ends its thread. The lock is held for table changes only: never while something
is polled or called. It may be taken again by its holder, because a signal handler or finalizer can
come in anywhere.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import weakref
from collections.abc import Callable
from contextvars import Context
from functools import partial
from types import MethodType, TracebackType
from typing import Protocol

from frontdesk.background import start_without_signals
from frontdesk.errors import InvalidArgument
from frontdesk.lock import InterruptibleLock
from frontdesk.monitors.linux import Abilities, probe_abilities
from frontdesk.monitors.poller import Poller, make_poller
from frontdesk.monitors.repetition import LONGEST_SLEEP_S, Repetition
from frontdesk.records import ExitKind, ExitReason
from frontdesk.waiting import steady_s, timeout

TICK_S = 1.0
REST_FACTOR = 4
"""After polling everything the thread rests at least this many times as long as it took."""

_logger = logging.getLogger("frontdesk")


class Pollable(Protocol):
    """Something that ends: a descriptor says so, or it is polled now and then where `fd` is None.

    `pending_status` says that it is over, but that how is to be asked again a little later.
    """

    fd: int | None
    pending_status: bool

    def poll(self) -> ExitReason | None:
        """Return how it ended, or None: it lives, or its status is pending."""
        ...

    def notify(self, reason: ExitReason) -> None:
        """Be told of the end, once; it is watched no more and its descriptor is closed."""
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

    closed: bool

    def __init__(self, *, interval_s: float) -> None:
        self._interval_s = interval_s
        self._lock = InterruptibleLock()
        self._by_fd: dict[int, Pollable] = {}
        self._polled: dict[Pollable, None] = {}
        self._ticks: list[_Tick] = []
        self._next_poll, self._next_tick = Repetition(), Repetition()
        self._poller: Poller | None = None
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self.closed = False

    def __len__(self) -> int:
        return len(self._by_fd) + len(self._polled)

    # -- what any thread may call --------------------------------------------------------------

    def add(self, watched: Pollable) -> None:
        """Watch. From then on the descriptor is ours to close. `OSError` leaves it the caller's."""
        self._check_fork()
        with self._lock:
            if self.closed:
                raise OSError(errno.EBADF, "the watcher is closed")
            poller = self._started()
            fd = watched.fd
            if fd is None:
                self._add_polled(watched)
                return
            # Entered first: the descriptor may be ready before add() returns.
            self._by_fd[fd] = watched
            try:
                poller.add(fd)
            except BaseException:
                del self._by_fd[fd]
                raise

    def remove(self, watched: Pollable) -> bool:
        """Watch no more and close the descriptor. True for the one caller who ended the watching:
        only the thread that gets it from here may notify of the end.
        """
        self._check_fork()
        with self._lock:
            fd = watched.fd
            if fd is not None and self._by_fd.get(fd) is watched:
                del self._by_fd[fd]
                self._unregister(fd)
            elif watched in self._polled:
                del self._polled[watched]
            else:
                return False
            watched.fd = None
        _close_quietly(fd)
        return True

    def every_second(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once a second; return what ends that."""
        tick = _Tick(callback)
        self._check_fork()
        with self._lock:
            if not self.closed:
                if not self._ticks:
                    self._next_tick.begin(TICK_S)
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
        poller, self._poller, self._thread = self._poller, None, None
        for watched in (*self._by_fd.values(), *self._polled):
            fd, watched.fd = watched.fd, None
            _close_quietly(fd)
        self._by_fd, self._polled, self._ticks = {}, {}, []
        if poller is not None:
            with contextlib.suppress(OSError):
                poller.close()

    # -- what the thread does ------------------------------------------------------------------

    def run(self, poller: Poller) -> None:
        """Wait, poll, call, until closed."""
        try:
            while not self.closed:
                self._sleep(poller)
                self._poll_all()
                self._call_ticks()
        except Exception:
            _logger.exception("the watcher failed: ends of processes and threads go unnoticed")
        finally:
            # Under the lock: a wake-up in another thread must not write to a closed descriptor.
            with self._lock:
                self._poller = None
                poller.close()

    def _sleep(self, poller: Poller) -> None:
        with self._lock:
            due = [self._next_poll] if self._polled else []
            due += [self._next_tick] if self._ticks else []
        timeout_s = min([LONGEST_SLEEP_S, *(one.left_s() for one in due)]) if due else None
        ready = poller.wait(timeout_s)
        if ready is None and timeout_s is not None:
            for one in due:
                one.slept(timeout_s)
        for fd in ready or ():
            self._descriptor_ready(fd)

    def _descriptor_ready(self, fd: int) -> None:
        watched = self._by_fd.get(fd)
        if watched is not None:
            self._poll(watched)
            return
        with self._lock:
            if fd not in self._by_fd:
                self._unregister(fd)

    def _poll(self, watched: Pollable) -> None:
        """Poll, and notify of an end. The number of a descriptor may have been used anew since the
        kernel reported it: `poll` asks the kernel again, so a stale report does no harm.
        """
        try:
            reason = watched.poll()
        except Exception:
            _logger.exception("polling a process or thread failed")
            reason = ExitReason.of(ExitKind.UNKNOWN)
        if reason is None:
            if watched.pending_status:
                self._switch_to_polling(watched)
        elif self.remove(watched):
            try:
                # In a context of its own: what a callback sets there is not seen by the next.
                Context().run(watched.notify, reason)
            except BaseException:  # SystemExit included: the thread is everybody's
                _logger.exception("an exit callback raised (the agent's exit: %s)", reason)

    def _switch_to_polling(self, watched: Pollable) -> None:
        with self._lock:
            fd = watched.fd
            if fd is not None and self._by_fd.get(fd) is watched:
                del self._by_fd[fd]
                self._unregister(fd)
                self._add_polled(watched)

    def _poll_all(self) -> None:
        if not self._polled or self._next_poll.left_s():
            return
        began = steady_s()
        with self._lock:
            everything = list(self._polled)
        for watched in everything:
            self._poll(watched)
        self._next_poll.begin(max(self._interval_s, REST_FACTOR * (steady_s() - began)))

    def _call_ticks(self) -> None:
        if not self._ticks or self._next_tick.left_s():
            return
        self._next_tick.begin(TICK_S)
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
            Context().run(callback)
            tick.failing = False
        except BaseException:  # SystemExit included: the thread is everybody's
            if not tick.failing:
                _logger.exception("what is called every second raised; it is called again")
            tick.failing = True

    # -- under the lock ------------------------------------------------------------------------

    def _started(self) -> Poller:
        if self._poller is not None:
            return self._poller
        poller = self._new_poller()
        thread = threading.Thread(
            target=self.run, args=(poller,), name="frontdesk-watcher", daemon=True
        )
        # Entered first: a signal handler may come in while the thread starts, and want one too.
        self._poller, self._thread = poller, thread
        try:
            start_without_signals(thread)
        except BaseException as error:
            self._poller = self._thread = None
            poller.close()
            if isinstance(error, RuntimeError):
                raise OSError(errno.EAGAIN, str(error)) from error
            raise
        return poller

    def _new_poller(self) -> Poller:
        """Make a poller, also for what is watched already: a thread before may have failed."""
        poller = make_poller()
        for fd, watched in list(self._by_fd.items()):
            try:
                poller.add(fd)
            except OSError:
                del self._by_fd[fd]
                self._add_polled(watched)
        return poller

    def _start_for_ticks(self) -> None:
        try:
            self._started()
        except OSError as error:
            _logger.warning("nothing is called every second until a thread can start: %s", error)
        else:
            self._wake()

    def _add_polled(self, watched: Pollable) -> None:
        if not self._polled:
            self._next_poll.begin(self._interval_s)
        self._polled[watched] = None
        self._wake()

    def _drop_tick(self, tick: _Tick) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._ticks.remove(tick)

    def _unregister(self, fd: int) -> None:
        if self._poller is not None:
            self._poller.remove(fd)

    def _close_all(self) -> None:
        for watched in (*self._by_fd.values(), *self._polled):
            fd, watched.fd = watched.fd, None
            if fd is not None:
                self._unregister(fd)
            _close_quietly(fd)
        self._by_fd.clear()
        self._polled.clear()

    def _wake(self) -> None:
        if self._poller is not None:
            self._poller.wake()

    def _check_fork(self) -> None:
        if self._pid != os.getpid():
            self.abandon()


class Watcher:
    """Wait for the ends of threads and processes, whatever their number, in one daemon thread.

    Pass one to several `monitor()` calls, or to several stores: it is one thread for all of them,
    and yours to close. **A watcher that is closed tells nobody any more**: close it after
    everything that uses it. The thread and its two descriptors come with the first thing to watch;
    each watched process or thread costs one descriptor more. Usable with `with`; a `Watcher` that
    nobody refers to and that watches nothing is closed by the garbage collector.

    Callbacks run in that thread, one after the other: **one that blocks delays every later exit of
    this watcher**. One that raises is logged and harms nobody. (A store's own never block.)

    Args:
        use_pidfd: None asks the kernel what it can do, once, when first needed; False switches to
            the fallback everywhere.
        fallback_interval_s: How often is looked where there are no pidfds (or, for threads, before
            Linux 6.9): an end is told at most that much later, or five times what one look at all
            of them takes, whichever is more.

    Examples:
        >>> import subprocess, threading
        >>> from frontdesk import Watcher, monitor
        >>> over = threading.Event()
        >>> with Watcher() as watcher:
        ...     process = subprocess.Popen(["sleep", "0.1"])
        ...     watched = monitor(process, lambda reason: over.set(), watcher=watcher)
        ...     over.wait(10) or not watched.alive
        True
        >>> process.wait()
        0
    """

    __slots__ = ("__weakref__", "_abilities", "_loop")

    def __init__(self, *, use_pidfd: bool | None = None, fallback_interval_s: float = 0.05) -> None:
        interval_s = timeout("fallback_interval_s", fallback_interval_s)
        if not interval_s:
            raise InvalidArgument("fallback_interval_s", expected="more than 0", got="0")
        self._abilities: Abilities | None = None
        if use_pidfd is False:
            self._abilities = Abilities(processes=False, threads=False)
        self._loop = WatchLoop(interval_s=interval_s)
        if use_pidfd and not self.abilities.processes:
            raise InvalidArgument("use_pidfd", expected="False or None on this kernel", got="True")
        # Not at exit: a daemon thread needs no farewell, and callbacks then would find ruins.
        weakref.finalize(self, self._loop.close).atexit = False

    @property
    def abilities(self) -> Abilities:
        """Return what the kernel lets this watcher open. `OSError` where it cannot be tried."""
        if self._abilities is None:
            self._abilities = probe_abilities()
        return self._abilities

    @property
    def closed(self) -> bool:
        """Tell whether it was closed, or belongs to another process (it came by `fork()`)."""
        return self._loop.closed

    def __len__(self) -> int:
        """Return the number of things watched."""
        return len(self._loop)

    def __bool__(self) -> bool:
        return True

    def add(self, watched: Pollable) -> None:
        """Watch one thing. `OSError` where that cannot be; its descriptor is then still yours."""
        self._loop.add(watched)

    def remove(self, watched: Pollable) -> bool:
        """Watch it no more. False where its end was noticed, or it was removed, before."""
        return self._loop.remove(watched)

    def every_second(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` in the thread once a second; return a function that ends that.

        A bound method is held weakly, and the calls end with its object; anything else is held. One
        that raises is logged, once until it succeeds again, and goes on being called.
        """
        return self._loop.every_second(callback)

    def close(self, *, wait_s: float = 0.0) -> None:
        """End the thread. Idempotent, from anywhere: callbacks, finalizers, signal handlers.

        What is still watched is let go: nobody is told, and its descriptors are closed on return.
        The thread ends as soon as it wakes up; `wait_s` waits that long for it at most.
        """
        longest_s = timeout("wait_s", wait_s)
        self._loop.close()
        if longest_s:
            self._loop.join(longest_s)

    def abandon_after_fork(self) -> None:
        """Forget what the parent watches: to be called in the child of a `fork()`.

        The parent's watcher is unaffected. Every other method does the same by itself when it finds
        itself in another process, so this only gives the copied descriptors back sooner.
        """
        self._loop.abandon()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(wait_s=1.0)


def _close_quietly(fd: int | None) -> None:
    if fd is not None:
        with contextlib.suppress(OSError):
            os.close(fd)
