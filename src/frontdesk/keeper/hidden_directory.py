"""A directory out of an agent's reach: the gateway's state, from agents of the gateway's account.

Two ways, as the system has them, in a process about to run an agent:

1. Root covers it with an empty file system in a mount namespace of the agent's own. Nothing else
   changes for the agent.
2. Everybody else asks Landlock, which can only allow: whatever lies beside the directory, at each
   level from the root down, is allowed, and the directory is not. So nothing new can be made at
   those levels themselves, and where an agent has to (its working directory, its home, the
   temporary directory), the directory stays within reach.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path

import msgspec

from frontdesk.keeper import landlock

MAX_BESIDE = 4096
"""Files and directories that are looked at to allow them."""

TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - where others make their files
"""Where temporary files are made, unless `TMPDIR` says otherwise."""

_OPEN = getattr(os, "O_PATH", 0) | os.O_NOFOLLOW | os.O_CLOEXEC
_IN_FILES = landlock.READ_FILE | landlock.WRITE_FILE | landlock.TRUNCATE
_RIGHTS = _IN_FILES | landlock.CHANGE_DIRECTORY
_NEW_MOUNT_NAMESPACE = 0x00020000
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _NO_EXECUTION = 1, 2, 4, 8
_RECURSIVE, _SLAVE = 1 << 14, 1 << 19


class HiddenDirectory(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be out of reach, and the directories that the agent has to be able to write in."""

    path: str
    needed: tuple[str, ...] = ()

    @classmethod
    def for_agent(
        cls, path: str, *, environment: Mapping[str, str], cwd: str | None
    ) -> HiddenDirectory:
        """Return it for an agent of this environment and working directory."""
        temporary = (environment.get("TMPDIR"),) if environment.get("TMPDIR") else TEMPORARY
        needed = (cwd or os.getcwd(), environment.get("HOME"), *temporary)
        found = tuple(os.path.realpath(each) for each in needed if each)
        return cls(path=os.path.realpath(path), needed=found)

    @property
    def within_reach(self) -> bool:
        """Tell whether the rights of files leave it to this process's account."""
        try:
            owner = os.stat(self.path).st_uid
        except OSError:
            return False
        return os.geteuid() in (0, owner)


def enter_domain_without(hidden: HiddenDirectory) -> str | None:
    """Enter a domain of Landlock's with the directory out of reach; return why it is not, if so.

    Costs a millisecond at most, and a look at whatever lies beside the directory in the second way.
    Raises `OSError` where the kernel refuses the domain.
    """
    if not hidden.within_reach:
        landlock.enter_domain()
        return None
    beside: list[str] = []
    problem = _conflict(hidden.needed, lambda needed: _lies_in(needed, hidden.path))
    if problem is None and not _cover(hidden.path):
        problem = _conflict(hidden.needed, lambda needed: _lies_in(hidden.path, needed))
        beside = list(islice(_beside(hidden.path), MAX_BESIDE + 1))
        if len(beside) > MAX_BESIDE:
            problem = f"beside it and the directories to it lie over {MAX_BESIDE} others"
        if landlock.abi() < landlock.FILES_ABI:
            problem = "it takes root, or a Linux from 6.2 on with Landlock"
    if beside and problem is None:
        landlock.enter_domain(rights=_RIGHTS, allowed=_opened(beside))
    else:
        landlock.enter_domain()
    return problem


def _conflict(needed: tuple[str, ...], matches: Callable[[str], bool]) -> str | None:
    found = next(filter(matches, needed), None)
    return None if found is None else f"agents have to be able to write in {found}"


def _lies_in(path: str, directory: str) -> bool:
    return Path(path).is_relative_to(directory)


def _cover(path: str) -> bool:
    """Put an empty file system over the directory, for this process and its descendants alone."""
    if os.geteuid() != 0:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    # Mounts come in from outside all the same, and none goes out.
    shared = ctypes.c_ulong(_RECURSIVE | _SLAVE)
    flags = ctypes.c_ulong(_READ_ONLY | _NO_SETUID | _NO_DEVICES | _NO_EXECUTION)
    return bool(
        libc.unshare(_NEW_MOUNT_NAMESPACE) == 0
        and libc.mount(b"none", b"/", None, shared, None) == 0
        and libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", flags, b"size=4k,mode=700") == 0
    )


def _beside(path: str) -> Iterator[str]:
    """Return what lies beside the directory, and beside each directory that leads to it."""
    for inner in (Path(path), *Path(path).parents[:-1]):
        # What may not be listed cannot be named either, but by who knows the name.
        with suppress(OSError), os.scandir(inner.parent) as entries:
            for entry in entries:
                if entry.name != inner.name and not entry.is_symlink():
                    yield entry.path


def _opened(paths: Iterable[str]) -> Iterator[tuple[int, int]]:
    for path in paths:
        try:
            descriptor = os.open(path, _OPEN)
        except OSError:
            continue  # gone meanwhile, or nothing that this account could reach
        try:
            is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            yield descriptor, _RIGHTS if is_directory else _IN_FILES
        finally:
            os.close(descriptor)
