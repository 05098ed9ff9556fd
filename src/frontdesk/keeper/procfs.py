"""Reading `/proc`: what runs, since when, below whom, and under which tag.

Used by the keeper to know its wards from everybody else; knows nothing of orders. A process that
ends while it is read is simply not there: every function answers `None` or leaves it out.

A tag is how a process is known as descended from a ward, whatever its group, session, parent,
environment or account have become since: a number in the hard limit of file locks, which no kernel
since 2.4.25 enforces, every child inherits through fork and exec, and anybody may read in
`/proc/<pid>/limits`. It is a fence against accidents; a hostile process could lower its own.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RLIMIT_LOCKS = 10
"""The number of the limit in setrlimit(2); the `resource` module has no name for it."""

_SERIAL_BITS = 32
_RUN_BITS = 31


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What `/proc/<pid>/stat` says; `start_time` in clock ticks since boot, field 22."""

    pid: int
    state: str
    parent: int
    group: int
    start_time: int

    @property
    def dead(self) -> bool:
        """Tell whether it only waits to be reaped."""
        return self.state in "ZXx"


def state_of(pid: int) -> ProcessState | None:
    """Return the state of a process, `None` where there is none of this pid."""
    text = _read(f"/proc/{pid}/stat")
    if text is None:
        return None
    # The name in parentheses may itself hold parentheses and spaces: the last one closes it.
    fields = text[text.rindex(b")") + 2 :].split()
    state, parent, group, start_time = fields[0], fields[1], fields[2], fields[19]
    return ProcessState(pid, state.decode(), int(parent), int(group), int(start_time))


def tag_of(pid: int) -> int | None:
    """Return the tag of a process, `None` where it has none."""
    text = _read(f"/proc/{pid}/limits")
    for line in (text or b"").splitlines():
        if line.startswith(b"Max file locks"):
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


def tag_for(run: int, ward: int) -> int:
    """Return the tag of a ward."""
    return run << _SERIAL_BITS | ward


def untag(tag: int) -> tuple[int, int]:
    """Return the run and the ward that a tag stands for."""
    return tag >> _SERIAL_BITS, tag & ((1 << _SERIAL_BITS) - 1)


def pids() -> Iterator[int]:
    """Return the pids of all processes."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def children_of(pid: int) -> list[int]:
    """Return the direct children of a single-threaded process, dead ones included."""
    text = _read(f"/proc/{pid}/task/{pid}/children")
    if text is not None:
        return [int(child) for child in text.split()]
    states = (state_of(other) for other in pids())
    return [state.pid for state in states if state is not None and state.parent == pid]


def boot_id() -> str:
    """Return what tells this boot of the machine from every other."""
    return (_read("/proc/sys/kernel/random/boot_id") or b"").decode().strip()


def _read(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
