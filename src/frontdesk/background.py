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
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

OF_THE_THREAD = frozenset(
    {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS", "SIGSTKFLT"}
)
"""Signals for what a thread has done itself: blocked, they would kill without a word."""

T = TypeVar("T")


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

    def run() -> None:
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

    start_without_signals(threading.Thread(target=run, name=f"frontdesk-{name}", daemon=daemon))
    return await asyncio.wrap_future(outcome)
