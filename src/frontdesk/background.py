"""Threads of our own, which take none of the program's signals.

At the bottom: the watcher starts its thread so, and the gateway its writers'. The kernel gives a
signal that is sent to a process to any thread that does not block it. So a program that blocks one
in its main thread, to wait for it there or to have it later, is interrupted or killed by it all the
same where a library's thread was started before and does not block it too.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from frontdesk.lock import InterruptibleLock

OF_THE_THREAD = frozenset(
    {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS", "SIGSTKFLT"}
)
"""Signals for what a thread has done itself: blocked, they would kill without a word."""

T = TypeVar("T")
P = ParamSpec("P")


def start_without_signals(thread: threading.Thread) -> None:
    """Start a thread in which every signal is blocked that is not about itself.

    What the thread starts in turn inherits that: a program executed from it has to unblock what it
    wants. Costs four system calls more than `thread.start()`, and raises what that does.
    """
    if not hasattr(signal, "pthread_sigmask"):
        thread.start()
        return
    # A real-time signal between the first and the last is a bare number, without a name.
    blocked = {n for n in signal.valid_signals() if getattr(n, "name", "") not in OF_THE_THREAD}
    # A thread begins with its starter's mask: from its first instruction on, nothing gets in.
    # The mask is asked for first: the call that blocks may raise what a signal handler does.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def in_own_thread(function: Callable[[], T], *, name: str, daemon: bool = False) -> T:
    """Call what blocks in a thread of its own; return or raise what it does.

    A pool would let whoever is slow delay everybody else. Cancelling ends the wait, not the call.
    The program's end waits for the call, unless it is a `daemon`. Costs a tenth of a millisecond.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()
    run = partial(_complete, outcome, function)
    start_without_signals(threading.Thread(target=run, name=f"frontdesk-{name}", daemon=daemon))
    return await asyncio.wrap_future(outcome)


class OwnThreads(Executor):
    """Threads for one owner's calls that block, so many at a time: it delays nobody but itself.

    A thread ends when nothing waits for it. The program's end does not wait for one. From any
    thread.
    """

    def __init__(self, limit: int, *, name: str) -> None:
        self._free, self._name = limit, name
        self._lock = InterruptibleLock()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in one of the threads, after what was submitted before."""
        outcome: Future[T] = Future()
        with self._lock:
            self._waiting.append((outcome, partial(fn, *args, **kwargs)))
            if self._free == 0:
                return outcome
            self._free -= 1
        name = f"frontdesk-{self._name}"
        try:
            start_without_signals(threading.Thread(target=self._work, name=name, daemon=True))
        except BaseException:
            outcome.cancel()  # it waits, and is not called
            with self._lock:
                self._free += 1
            raise
        return outcome

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                outcome, function = self._waiting.popleft()
            if outcome.set_running_or_notify_cancel():
                _complete(outcome, function)
            del outcome, function  # nothing is kept while the next one runs


def _complete(outcome: Future[T], function: Callable[[], T]) -> None:
    try:
        result = function()
    except StopIteration as error:
        # asyncio can hand on every error but this one, and would wait for ever.
        stopped = RuntimeError("what was called raised StopIteration")
        stopped.__cause__ = error
        outcome.set_exception(stopped)
    except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
        outcome.set_exception(error)
    else:
        outcome.set_result(result)
