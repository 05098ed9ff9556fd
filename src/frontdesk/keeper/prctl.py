"""The switches of prctl(2) that processes are kept in hand with.

Used by the keeper, by what it starts, and by a gateway that serves. Linux only; knows nothing of
children. Source of the numbers: linux/prctl.h.
"""

from __future__ import annotations

import ctypes
import errno
import os

_SET_DEATH_SIGNAL = 1
_SET_DUMPABLE = 4
_READ_BOUNDING_SET = 23
_DROP_FROM_BOUNDING_SET = 24
_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Make orphaned descendants of this process its children, instead of those of init."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal: int) -> None:
    """Ask for `signal` when the parent thread, or a subreaper that adopts us, ends.

    Lost on a change of account, so it comes after that; survives exec.
    """
    _prctl(_SET_DEATH_SIGNAL, signal)


def become_undumpable() -> None:
    """Keep other processes of this account from reading this one's memory and environment.

    Call it when the process holds secrets and serves agents of the same account. It also means no
    core dumps and no debugger, except for root. Undone by exec.
    """
    _prctl(_SET_DUMPABLE, 0)


def drop_from_bounding_set(capability: int) -> None:
    """Keep whatever this process executes from having a capability, under root as well.

    A root that was started without any may not ask for that, and has none to lose.
    """
    if _prctl(_READ_BOUNDING_SET, capability):
        _prctl(_DROP_FROM_BOUNDING_SET, capability)


def _prctl(option: int, value: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "prctl"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    result: int = libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
