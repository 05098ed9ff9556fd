"""Landlock: what a process can do to others of its account, as far as this kernel can say.

An agent runs under the gateway's account unless it has one of its own, and may then signal the
gateway, the keeper and every other agent, and read their memory. In a Landlock domain of its own it
can do neither: it reaches its own descendants alone. No rights are needed, and none are regained by
executing anything. Source of the numbers: linux/landlock.h, and the kernel's
userspace-api/landlock; the system calls have the same numbers on every architecture.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

SIGNALS_ABI = 6
"""The version of Landlock that keeps signals in; memory is kept by every version."""

_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_VERSION = 1
_MAKE_BLOCK_DEVICE = 1 << 11
_SCOPE_SIGNAL = 1 << 1
_SET_NO_NEW_PRIVS = 38


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def abi() -> int:
    """Return the version of Landlock that this kernel has; 0 where it has none, or it is off."""
    if sys.platform != "linux":
        return 0
    version = int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION))
    return max(0, version)


def not_enforced(version: int) -> str | None:
    """Return what an agent of the gateway's own account can do, in a sentence; None if nothing.

    >>> not_enforced(SIGNALS_ABI)
    >>> not_enforced(0)
    'agents under this account can signal, and read the memory of, the gateway and other agents'
    """
    if version == 0:
        return (
            "agents under this account can signal, and read the memory of, the gateway and other "
            "agents"
        )
    if version < SIGNALS_ABI:
        return "agents under this account can signal the gateway and other agents"
    return None


def enter_domain() -> None:
    """Keep this process, and whatever descends from it, to itself, as far as the kernel can.

    Also means that setuid programs run without their owner's rights. Costs four system calls.
    Raises `OSError` where the kernel has Landlock and refuses.
    """
    version = abi()
    if version == 0:
        return
    libc = _libc()
    if libc.prctl(_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0) != 0:
        raise _error()
    # A ruleset has to handle something: agents make no block devices anyway.
    attributes = _RulesetAttributes(handled_access_fs=_MAKE_BLOCK_DEVICE)
    size = 8
    if version >= SIGNALS_ABI:
        attributes.scoped, size = _SCOPE_SIGNAL, ctypes.sizeof(attributes)
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0)
    if ruleset < 0:
        raise _error()
    try:
        refused = libc.syscall(_RESTRICT_SELF, ruleset, 0) != 0
        # As many domains in each other as there can be: the one around us keeps us in.
        if refused and ctypes.get_errno() != errno.E2BIG:
            raise _error()
    finally:
        os.close(ruleset)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
