"""The capabilities that an agent under root loses: those that lead around whatever keeps it in.

What is left is root to files and the network, as in most containers. Source of the numbers:
linux/capability.h.
"""

from __future__ import annotations

import ctypes
import os

from frontdesk.keeper import prctl

DROPPED = {
    "dac_read_search": 2,
    "sys_module": 16,
    "sys_rawio": 17,
    "sys_ptrace": 19,
    "sys_admin": 21,
    "sys_boot": 22,
    "sys_resource": 24,
    "mknod": 27,
    "perfmon": 38,
    "bpf": 39,
    "checkpoint_restore": 40,
}
"""Reading any memory or environment, mounting, opening a disk, raising a limit, and the like."""

_VERSION_3 = 0x20080522
_WORDS = 2


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Word(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def drop() -> None:
    """Give up `DROPPED`, for this process and whatever it executes. Does nothing but for root.

    Two dozen system calls. Raises `OSError`.
    """
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, words = _Header(_VERSION_3, 0), (_Word * _WORDS)()
    _check(libc.capget(ctypes.byref(header), words))
    for number in DROPPED.values():
        prctl.drop_from_bounding_set(number)
        word, keep = words[number // 32], ~(1 << number % 32)
        word.effective &= keep
        word.permitted &= keep
        word.inheritable &= keep
    _check(libc.capset(ctypes.byref(header), words))


def _check(result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
