"""Reading `/proc`: what runs, since when, below whom, and under which tag.

By this the keeper knows its children from everybody else. A process that ends while it is read is
simply not there: every function answers `None` or leaves it out.

A tag is how a process is known as descended from a child, whatever its group, session, parent,
environment or account have become since: a number in the hard limit of file locks, which no kernel
since 2.4.25 enforces, every child inherits through fork and exec, and anybody may read in
`/proc/<pid>/limits`. A process may lower such a limit and not raise it. So children carry a second
number, in the limit of resident memory (which no kernel since 2.4.30 enforces): the tags grow from
child to child, and the counter-tags fall, and whoever takes another child's tag cannot take the
counter-tag that belongs to it. Root with the capability to raise limits could; agents lose it.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from frontdesk.monitors.linux import Stat, read_stat

RLIMIT_LOCKS = 10
"""The number of the limit in setrlimit(2); the `resource` module has no name for it."""

RLIMIT_RSS = 5
"""The limit of resident memory: as above."""

_ENDLESS_RSS = 1 << 62
_SERIAL_BITS = 32
_RUN_BITS = 31


def stat_of(pid: int) -> Stat | None:
    """Return the state of a process, `None` where there is none of this pid that we may read."""
    try:
        return read_stat(pid)
    except PermissionError:
        return None


def tag_of(pid: int) -> int | None:
    """Return the tag of a process, `None` where it has none."""
    return _hard_limit(pid, b"Max file locks")


def counter_tag_of(pid: int) -> int | None:
    """Return the counter-tag of a process, `None` where it has none."""
    return _hard_limit(pid, b"Max resident set")


def counter_tag_for(child_id: int) -> int:
    """Return the counter-tag of a child of this process.

    Below the one that this process carries itself, for the reason that `fresh_run` has.
    """
    _, hard = resource.getrlimit(RLIMIT_RSS)
    return max(0, (_ENDLESS_RSS if hard == resource.RLIM_INFINITY else hard) - child_id)


def _hard_limit(pid: int, name: bytes) -> int | None:
    text = _read(f"/proc/{pid}/limits")
    for line in (text or b"").splitlines():
        if line.startswith(name):
            hard = line.split()[-2]
            return int(hard) if hard.isdigit() else None
    return None


def fresh_run() -> int:
    """Return the number of a new run of a keeper, at random.

    Smaller than the tag that this process carries itself (a gateway may run below another one's
    agent), because a hard limit can only be lowered.
    """
    _, hard = resource.getrlimit(RLIMIT_LOCKS)
    bound = 1 << _RUN_BITS
    if hard != resource.RLIM_INFINITY:
        bound = min(bound, hard >> _SERIAL_BITS)
    if bound < 2:
        raise OSError(errno.ERANGE, "the limit of file locks is too low to tag processes with")
    return 1 + int.from_bytes(os.urandom(8), "big") % (bound - 1)


def tag_for(run: int, child_id: int) -> int:
    """Return the tag of a child."""
    return run << _SERIAL_BITS | child_id


def untag(tag: int) -> tuple[int, int]:
    """Return the run and the child's number that a tag stands for."""
    return tag >> _SERIAL_BITS, tag & ((1 << _SERIAL_BITS) - 1)


def pids() -> Iterator[int]:
    """Return the pids of all processes."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def children_of(pid: int) -> list[int]:
    """Return the direct children of a single-threaded process, dead ones included."""
    text = _read(f"/proc/{pid}/task/{pid}/children")
    if text is not None:
        return [int(child) for child in text.split()]
    stats = ((other, stat_of(other)) for other in pids())
    return [other for other, stat in stats if stat is not None and stat.parent == pid]


def boot_id() -> str:
    """Return the id of this boot of the machine."""
    return (_read("/proc/sys/kernel/random/boot_id") or b"").decode().strip()


def _read(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
