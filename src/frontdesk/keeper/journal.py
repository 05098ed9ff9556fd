"""The journal: what a keeper has started, in a file, for whoever starts after both were killed.

One file for each keeper in a directory of the operator's, locked while that keeper lives: a file
whose lock can be had belongs to a dead one, and what it names is ended. A process is known by boot,
pid and start time, and by its tag, which finds descendants as well.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
from collections.abc import Iterable
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from frontdesk.keeper.procfs import boot_id, pids, stat_of, tag_of, untag
from frontdesk.keeper.seqpacket import close_all

SUFFIX = ".keeper"
SWEEP_DEADLINE_S = 10.0
"""How long a killed process may take to go: one that hangs in the kernel is left to its fate."""

_COMPACT_AFTER = 256


class Known(NamedTuple):
    """A process, distinct from a later one of the same pid."""

    pid: int
    start_time: int


class _Opening(msgspec.Struct, frozen=True):
    boot: str
    run: int


class Journal(Protocol):
    """Where a keeper writes down what it starts."""

    def add(self, process: Known) -> None:
        """Write down a process that now exists."""

    def remove(self, process: Known) -> None:
        """Take out a process that is gone, together with all that descended from it."""

    def close(self) -> None:
        """Say that nothing is left at all."""


class NoJournal:
    """Writes nothing: for a keeper without a directory."""

    def add(self, process: Known) -> None: ...

    def remove(self, process: Known) -> None: ...

    def close(self) -> None: ...


class JournalFile:
    """A journal that survives its keeper. An entry costs one write, no sync: it has to survive
    processes being killed, not the machine, since with the machine everything it names is dead."""

    def __init__(self, directory: Path, *, run: int) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._opening = _Opening(boot_id(), run)
        self._path = directory / f"{run:x}{SUFFIX}"
        self._known: set[Known] = set()
        self._removed = 0
        self._file = self._write_anew()

    def add(self, process: Known) -> None:
        self._known.add(process)
        # On a full disk the tag still finds what is not written down.
        with suppress(OSError):
            _write(self._file, process)

    def remove(self, process: Known) -> None:
        self._known.discard(process)
        self._removed += 1
        if self._removed >= _COMPACT_AFTER + len(self._known):
            with suppress(OSError):
                outgrown, self._file = self._file, self._write_anew()
                outgrown.close()

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()

    def _write_anew(self) -> TextIOWrapper:
        # Locked under another name before it is visible: a sweep never sees it unlocked.
        draft = self._path.with_suffix(".draft")
        file = draft.open("w", encoding="ascii")
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(msgspec.json.encode(self._opening).decode() + "\n")
        for process in self._known:
            _write(file, process)
        file.flush()
        draft.rename(self._path)
        self._removed = 0
        return file


def _write(file: TextIOWrapper, process: Known) -> None:
    file.write(f"{process.pid} {process.start_time}\n")
    file.flush()


def sweep_journals(directory: Path) -> int:
    """End what dead keepers of this directory have left, and return how many processes that were.

    Costs one look at every process of the machine for each dead keeper that left anything.
    """
    return sum(_sweep_one(path) for path in sorted(directory.glob(f"*{SUFFIX}")))


def _sweep_one(path: Path) -> int:
    with suppress(FileNotFoundError), path.open(encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0  # its keeper lives, and ends its own
        ended = _end_what_it_names(file.read().splitlines())
        path.unlink(missing_ok=True)
        return ended
    return 0


def _end_what_it_names(lines: list[str]) -> int:
    try:
        opening = msgspec.json.decode(lines[0], type=_Opening)
    except (IndexError, msgspec.MsgspecError):
        return 0  # cut off before its first line was whole: it never started anything
    if opening.boot != boot_id():
        return 0
    known = set()
    for line in lines[1:]:
        # A last line cut off by the kill names a process that its tag finds all the same.
        with suppress(ValueError):
            pid, start_time = line.split()
            known.add(Known(int(pid), int(start_time)))
    return sweep_run(opening.run, known=known)


def sweep_run(run: int, *, known: Iterable[Known] = ()) -> int:
    """Kill every living process of a keeper's run, wait for their ends, and count them."""
    killed: set[Known] = set()
    looked_at: set[Known] = set()
    found = set(known) | _tagged(run)
    # Again, until nobody new is found: one that was killed may have forked just before.
    while fresh := found - looked_at:
        looked_at |= fresh
        killed |= _kill_all(fresh)
        found = _tagged(run)
    return len(killed)


def _tagged(run: int) -> set[Known]:
    found = set()
    for pid in pids():
        tag = tag_of(pid)
        if tag is not None and untag(tag)[0] == run and pid != os.getpid():
            stat = stat_of(pid)
            if stat is not None and not stat.over:
                found.add(Known(pid, stat.start_time))
    return found


def _kill_all(processes: Iterable[Known]) -> set[Known]:
    killed = {process: fd for process in processes if (fd := _kill(process)) is not None}
    try:
        for descriptor in killed.values():
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll(SWEEP_DEADLINE_S * 1000)
    finally:
        close_all(killed.values())
    return set(killed)


def _kill(process: Known) -> int | None:
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return None
    # Only now is the pid pinned down: what is read of it is read of the process that is killed.
    stat = stat_of(process.pid)
    if stat is not None and not stat.over and stat.start_time == process.start_time:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            return descriptor
    os.close(descriptor)
    return None
