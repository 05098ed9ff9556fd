"""Monitors of `threading.Thread`.

It knows how Python and the kernel name a thread, and which of the two to believe: Python when it
says that a thread is over, the kernel for the moment.
"""

from __future__ import annotations

import os
import threading
from threading import Thread

from frontdesk.errors import AgentNotStarted, InvalidArgument
from frontdesk.monitors import linux
from frontdesk.monitors.green_threads import threads_are_green
from frontdesk.monitors.pollable import PolledMonitor
from frontdesk.monitors.protocol import ExitCallback
from frontdesk.monitors.watcher import Watcher
from frontdesk.records import ExitKind, ExitReason


class ThreadMonitor(PolledMonitor):
    """Watch a thread. The reason is always `unknown`: a thread keeps neither result nor exception.

    `alive` is read from the thread itself, whatever a subclass says of it. Where the kernel has
    pidfds for threads (Linux 6.9) it tells of the end at once; else the watcher looks, at least
    every `fallback_interval_s`.

    A thread that is not started yet is refused with `AgentNotStarted`. The main thread may be
    watched, and ends with the process. A thread that Python did not start (a *dummy* thread) may
    register itself, from inside; nobody else can tell it from a later thread of the same number,
    and is refused.
    """

    __slots__ = ("_native_id", "_unmanaged_start_time")

    fd: int | None

    _agent: Thread | None

    def __init__(self, agent: Thread, on_exit: ExitCallback, *, watcher: Watcher | None) -> None:
        self._unmanaged_start_time: int | None = None
        self._native_id = _native_id_of(agent)
        super().__init__(agent, on_exit, watcher=watcher)

    def _open(self) -> ExitReason | None:
        thread = self._agent
        if isinstance(thread, threading._DummyThread):
            self._unmanaged_start_time = _unmanaged_start_time(thread)
        # The number of a greenlet is that of the thread that it shares with others.
        if self._watcher.abilities.threads and self._native_id and not threads_are_green():
            self.fd = self._descriptor(self._native_id)
        # Read after opening: a thread that lives now has not given its number to another.
        return None if self._alive() else self._status()

    def _descriptor(self, native_id: int) -> int | None:
        if not os.path.exists(f"/proc/self/task/{native_id}"):
            return None  # the number that the thread had in the parent, before fork()
        try:
            return os.pidfd_open(native_id, linux.PIDFD_THREAD)
        except ProcessLookupError:
            return None

    def _status_or_retry(self) -> ExitReason:
        return self._status()

    def _status(self) -> ExitReason:
        return ExitReason.of(ExitKind.UNKNOWN)

    def _alive(self) -> bool:
        """Ask both: a thread may end (pthread_exit) without Python's noticing."""
        thread, fd = self._agent, self.fd
        if thread is None or (fd is not None and linux.readable(fd)):
            return False
        if self._unmanaged_start_time is not None:
            try:
                return _start_time(self._native_id) == self._unmanaged_start_time
            except OSError:
                return True  # no descriptor is free to look with, so it lives until there is
        return Thread.is_alive(thread)


def _native_id_of(thread: Thread) -> int | None:
    """Return the kernel's number of a started thread."""
    try:
        started = thread.ident is not None
    except (AssertionError, RuntimeError):  # Thread.__init__ was never called
        started = False
    if not started or not thread._started.is_set():  # type: ignore[attr-defined]
        raise AgentNotStarted(f"{type(thread).__name__} that was not started")
    return threading.get_native_id() if thread is threading.current_thread() else thread.native_id


def _unmanaged_start_time(thread: Thread) -> int | None:
    if thread is not threading.current_thread():
        raise InvalidArgument(
            "agent",
            expected="a thread made with threading.Thread, or the current thread",
            got="a dummy thread, whose end Python does not notice",
        )
    linux.require_own_proc()
    return _start_time(threading.get_native_id())


def _start_time(native_id: int | None) -> int | None:
    stat = None if native_id is None else linux.read_stat(os.getpid(), task=native_id)
    return None if stat is None or stat.over else stat.start_time
