"""How threads wait, our callers' and our own: how long at most, by which clock, whether at all.

Below the monitors and the feed. An event loop must not be blocked, and what waits on it must wait
in its own way, so "which loop is this?" has one answer, here. Time that is waited in a real thread
cannot be moved by tests: the injected clock is not for it.
"""

from __future__ import annotations

import asyncio
import sys
import time

from frontdesk.errors import InvalidArgument, InvalidType

LONGEST_WAIT_S = 1e9
"""Thirty years: what stands in for more, infinity included, which no thread can wait for."""


def steady_s() -> float:
    """Return the seconds of the kernel's clock that only runs forwards.

    Test tools that freeze time replace `time.monotonic`, also under threads that know nothing of
    the test. They leave this clock alone.
    """
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def timeout(name: str, value: object) -> float:
    """Check a time-out in seconds; what no thread can wait for becomes the longest that one can."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidType(name, expected="a number of seconds", got=type(value).__name__)
    if not value >= 0:
        raise InvalidArgument(name, expected="a number of seconds, 0 or more", got=repr(value))
    return float(min(value, LONGEST_WAIT_S))


def running_library() -> str | None:
    """Return whose event loop runs here: `asyncio`, `trio` or another's; None where none does.

    trio may be asyncio's guest: then both run in this thread, and it is trio's turn where trio says
    so, to sniffio, which it brings. A coroutine that asyncio runs is asyncio's all the same.
    """
    sniffio = sys.modules.get("sniffio")
    name: str | None = None if sniffio is None else sniffio.thread_local.name
    if asyncio._get_running_loop() is None:
        return name
    return name if name is not None and asyncio.current_task() is None else "asyncio"
