"""The lock of a state directory: one gateway, or worker, at a time writes what is its own there.

Above the state directory. The kernel lets go of it when its process ends, however that was. So who
gets it knows that the one before has died: a node of a cluster may bury what that had joined as at
once, without waiting for its lease.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from frontdesk.gateway.errors import StateUnusable
from frontdesk.gateway.state_dir import StateDir

MAX_INCARNATION_BYTES = 64


@contextmanager
def locked(state: StateDir, *, waiting: bool = False) -> Iterator[None]:
    """Hold the lock of what is a gateway's own; `StateUnusable` where another process has it.

    `waiting` waits until that has ended, in place of it.
    """
    try:
        descriptor = os.open(state.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateUnusable(str(state.lock), problem=str(error.strerror)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waiting else fcntl.LOCK_NB))
        yield
    except BlockingIOError:
        problem = "another gateway that runs has its state here"
        raise StateUnusable(str(state.own), problem=problem) from None
    finally:
        os.close(descriptor)


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
