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
from collections.abc import Iterable

MEMORY_ABI = 2
"""The version that keeps memory in. (The first does as well, and forbids every move of a file from
one directory to another, which agents need.)"""

FILES_ABI = 3
"""The version that can keep files from being read, changed and cut short."""

SIGNALS_ABI = 6
"""The version that keeps signals and connections to abstract sockets in."""

READ_FILE, WRITE_FILE, TRUNCATE = 1 << 2, 1 << 1, 1 << 14
CHANGE_DIRECTORY = sum(1 << bit for bit in range(4, 14))
"""Making, removing and moving what is in a directory, of whatever kind."""

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_MAKE_BLOCK_DEVICE, _REFER = 1 << 11, 1 << 13
_SCOPE_ABSTRACT_SOCKET, _SCOPE_SIGNAL = 1 << 0, 1 << 1
_SET_NO_NEW_PRIVS = 38


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _layout_ = "ms"  # what `_pack_` means everywhere; not to say so is deprecated
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


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
    if version < MEMORY_ABI:
        return (
            "agents under this account can signal, and read the memory of, the gateway and other "
            "agents"
        )
    if version < SIGNALS_ABI:
        return "agents under this account can signal the gateway and other agents"
    return None


def enter_domain(*, rights: int = 0, allowed: Iterable[tuple[int, int]] = ()) -> None:
    """Keep this process, and whatever descends from it, to itself, as far as the kernel can.

    Of files, it loses `rights` everywhere but where `allowed` (a descriptor, and the rights in and
    below it) gives them back. Also means that setuid programs run without their owner's rights, and
    with `rights` that nothing is mounted. Costs four system calls, and one for each of `allowed`.
    Raises `OSError` where the kernel has Landlock and refuses.
    """
    version = abi()
    if version < MEMORY_ABI:
        return
    libc = _libc()
    if libc.prctl(_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0) != 0:
        raise _error()
    attributes = _RulesetAttributes(handled_access_fs=rights)
    if version >= SIGNALS_ABI:
        attributes.scoped = _SCOPE_SIGNAL | _SCOPE_ABSTRACT_SOCKET
    elif not rights:
        # A ruleset has to handle something: agents make no block devices anyway.
        attributes.handled_access_fs = _MAKE_BLOCK_DEVICE | _REFER
    ruleset = libc.syscall(
        _CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(ctypes.sizeof(attributes)), 0
    )
    if ruleset < 0:
        raise _error()
    try:
        _allow(ruleset, allowed)
        if attributes.handled_access_fs and not rights:
            # Whatever is not allowed is forbidden, and so is every move between directories.
            _allow_everywhere(ruleset, _REFER)
        refused = libc.syscall(_RESTRICT_SELF, ruleset, 0) != 0
        # As many domains in each other as there can be: the one around us keeps us in.
        if refused and ctypes.get_errno() != errno.E2BIG:
            raise _error()
    finally:
        os.close(ruleset)


def _allow(ruleset: int, allowed: Iterable[tuple[int, int]]) -> None:
    libc = _libc()
    for descriptor, rights in allowed:
        rule = _PathBeneath(allowed_access=rights, parent_fd=descriptor)
        if libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0) != 0:
            raise _error()


def _allow_everywhere(ruleset: int, rights: int) -> None:
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        _allow(ruleset, [(root, rights)])
    finally:
        os.close(root)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
