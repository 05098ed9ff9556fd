"""The lock of a state directory: one gateway, or worker, at a time writes what is its own there.

Above the state directory. The kernel lets go of it when its process ends, however that was. So who
gets it knows that the one before has died: a node of a cluster may bury what that had joined as at
once, without waiting for its lease. Who has it writes its process id into the file, for whoever is
refused to tell.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from frontdesk.gateway.errors import StateUnusable
from frontdesk.gateway.state_dir import StateDir

MAX_INCARNATION_BYTES = 64

STORAGE_PATIENCE_S = 30.0
"""So long one that stores conversations waits for the one before it, which may still drain."""

POLL_S = 0.05
"""Between two looks: the kernel has no wait for a lock that ends by itself."""

MAX_PID_BYTES = 32

logger: logging.Logger = logging.getLogger("frontdesk.serve")


@contextmanager
def locked(state: StateDir, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold the lock of what is a gateway's own; `StateUnusable` where another process has it.

    `patience_s` is how long it is waited for, with a line in the log; `math.inf` until it is had.
    """
    try:
        descriptor = os.open(state.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateUnusable(str(state.lock), problem=str(error.strerror)) from error
    try:
        _lock(descriptor, state, patience_s)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(descriptor)


def is_held(state: StateDir) -> bool:
    """Say whether a process has the lock now."""
    try:
        descriptor = os.open(state.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _has_locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, state: StateDir, patience_s: float) -> None:
    if math.isinf(patience_s):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    if _has_locked(descriptor):
        return
    if patience_s > 0:
        logger.warning(
            "waiting up to %g s for another gateway to end, which has its state in %s%s",
            patience_s,
            state.own,
            _holder(descriptor),
        )
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        time.sleep(POLL_S)
        if _has_locked(descriptor):
            return
    problem = f"another gateway that runs has its state here{_holder(descriptor)}"
    raise StateUnusable(str(state.own), problem=problem)


def _has_locked(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> str:
    """Return who has it, in words; nothing where that has not said so yet."""
    pid = os.pread(descriptor, MAX_PID_BYTES, 0).strip()
    return f" (process {int(pid)})" if pid.isdigit() else ""


def last_incarnation(state: StateDir) -> str | None:
    """Return as what the node before had joined, None where it has left or there was none."""
    with suppress(OSError):
        written = state.incarnation.read_bytes()[:MAX_INCARNATION_BYTES]
        return written.decode("ascii", "replace") or None
    return None


def write_incarnation(state: StateDir, incarnation: str) -> None:
    """Write as what a node joins, before it does; an empty one where it has left."""
    aside = state.incarnation.with_suffix(".new")
    aside.write_text(incarnation, encoding="ascii")
    aside.replace(state.incarnation)
