"""Monitors of operating-system processes: of `asyncio`, `subprocess`, `multiprocessing`, anyone's.

A pid is a number that the kernel gives away again, so it is never trusted alone here: first the
descriptor is opened, then it is made sure that it is of the process that was meant. It never reaps,
polls or joins: that is the owner's. So it knows the attributes of each kind of process object, the
private ones that there is no public way to.
"""

from __future__ import annotations

import asyncio.subprocess
import errno
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from frontdesk.errors import AgentNotStarted, InvalidArgument, InvalidType, ProcessNotFound
from frontdesk.monitors import linux
from frontdesk.monitors.pollable import PolledMonitor
from frontdesk.monitors.protocol import ExitCallback
from frontdesk.monitors.watcher import Watcher
from frontdesk.records import ExitKind, ExitReason

_UNKNOWN = ExitReason.of(ExitKind.UNKNOWN)


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """Name a process of anyone's, so that no later process of the same pid is taken for it.

    A subclass may have a `returncode`: it is asked where the kernel does not say how the process
    ended.

    Attributes:
        pid (int): The number of the process.
        start_time (int): Field 22 of `/proc/<pid>/stat`: clock ticks since the boot. Read it where
            you learned the pid.

    Examples:
        >>> import os
        >>> ref = ProcessRef.of(os.getpid())
        >>> ref.pid == os.getpid()
        True
    """

    pid: int
    start_time: int

    def __post_init__(self) -> None:
        for name, value in (("pid", self.pid), ("start_time", self.start_time)):
            if type(value) is not int:
                raise InvalidType(name, expected="an int", got=type(value).__name__)
        if not 0 < self.pid < 2**31:
            raise InvalidArgument("pid", expected="a positive pid", got=str(self.pid))
        if self.start_time < 0:
            raise InvalidArgument("start_time", expected="0 or more", got=str(self.start_time))

    @classmethod
    def of(cls, pid: int) -> ProcessRef:
        """Name the process that has this pid now, a zombie included.

        Safe for a child that was not waited for: its pid cannot be given away. Raises
        `ProcessNotFound` if there is none, `OSError` where `/proc` cannot be read, hides the
        process, or is another pid namespace's.
        """
        ref = cls(pid, 0)
        linux.require_own_proc()
        stat = linux.read_stat(pid)
        if stat is None or linux.process_of(pid) != pid:
            raise ProcessNotFound(pid)
        return cls(ref.pid, stat.start_time)


class ProcessKind:
    """How one kind of process object is asked, without reaping, polling or joining anything.

    This one asks what has made its process itself: `subprocess.Popen` and asyncio's `Process`.
    """

    __slots__ = ()

    def identity_of(self, process: Any) -> tuple[int, int | None]:
        """Return the pid, and the start time where the object knows it."""
        if not process.pid:
            raise AgentNotStarted(f"{type(process).__name__} without a pid")
        return int(process.pid), None

    def returncode_of(self, process: Any) -> int | None:
        """Return what its owner knows by now."""
        returncode: int | None = process.returncode
        return returncode

    def still_has(self, process: Any, pid: int, fd: int | None) -> bool:  # noqa: ARG002 - others ask it
        """Tell whether a pid (and its descriptor, where there is one) is still its process's.

        An object that makes children has lost its pid when that is no child of this process.
        """
        return linux.is_child(pid, fd=fd)


class _KindOfRef(ProcessKind):
    __slots__ = ()

    def identity_of(self, process: ProcessRef) -> tuple[int, int]:
        return process.pid, process.start_time

    def returncode_of(self, process: ProcessRef) -> int | None:
        """Ask a reference that its owner made: one of a type of the owner's may know the status."""
        returncode: int | None = getattr(process, "returncode", None)
        return returncode

    def still_has(self, process: Any, pid: int, fd: int | None) -> bool:  # noqa: ARG002 - none is asked
        return True


class _KindOfMultiprocessing(ProcessKind):
    """Its `exitcode` and `is_alive()` reap, so what it has found out is read beside them."""

    __slots__ = ()

    def identity_of(self, process: Any) -> tuple[int, int | None]:
        # A closed one has ended, and has forgotten its pid.
        return (0, None) if getattr(process, "_closed", False) else super().identity_of(process)

    def returncode_of(self, process: Any) -> int | None:
        returncode: int | None = getattr(getattr(process, "_popen", None), "returncode", None)
        return returncode

    def still_has(self, process: Any, pid: int, fd: int | None) -> bool:
        popen = getattr(process, "_popen", None)
        if popen is None:
            return True  # this very process, or the parent's, seen from a child
        if getattr(popen, "method", None) == "forkserver":
            # A child of the fork server, which writes the status into the sentinel when it reaps.
            return not linux.readable(popen.sentinel)
        return super().still_has(process, pid, fd)


_OWNED, _REF, _MULTIPROCESSING = ProcessKind(), _KindOfRef(), _KindOfMultiprocessing()


def kind_of(agent: Any) -> ProcessKind | None:
    """Return how this process object is asked; None if it is none."""
    if isinstance(agent, ProcessRef):
        return _REF
    if isinstance(agent, (subprocess.Popen, asyncio.subprocess.Process)):
        return _OWNED
    # Never imported for the question: whoever has such a process has imported it.
    module = sys.modules.get("multiprocessing.process")
    return _MULTIPROCESSING if module and isinstance(agent, module.BaseProcess) else None


class ProcessMonitor(PolledMonitor):
    """Watch a process through a pidfd, or by looking at `/proc` where there are none.

    Where there is no `/proc` either (macOS), by what has made it: a `ProcessRef` is refused there.

    Dead is what has exited, waited for or not. Stopped (SIGSTOP) is alive, and so is a process
    whose main thread has ended before its other threads. A process object whose status somebody
    else has taken (`os.waitpid`), or that came by `fork()` from the parent, is dead as far as its
    own class can tell, and here too: name such a process with a `ProcessRef`.

    How it ended comes from the kernel where the process is a child of ours, or was reaped (Linux
    6.15), or is a zombie that we may look into; else from the owner's `returncode`; else it is
    `unknown`. A status that cannot be read yet is asked for again once, and the end told then, a
    `fallback_interval_s` later; `alive` is false at once.
    """

    __slots__ = ("_kind", "_pid", "_start_time", "pending_status")

    fd: int | None
    pending_status: bool

    def __init__(
        self, agent: Any, on_exit: ExitCallback, *, watcher: Watcher | None, kind: ProcessKind
    ) -> None:
        self.pending_status = False
        self._kind = kind
        self._pid, self._start_time = kind.identity_of(agent)
        super().__init__(agent, on_exit, watcher=watcher)

    @property
    def pid(self) -> int:
        """Return the pid; 0 for a `multiprocessing.Process` that was closed and forgot it."""
        return self._pid

    def _open(self) -> ExitReason | None:
        if self._returncode() is not None or not self._pid:
            return self._reason_by_owner()
        if not self._find():
            return self._reason_by_owner()
        if not self._is_the_one_meant():
            return self._reason_by_owner()
        return None if self._alive() else self._status() or _UNKNOWN

    def _find(self) -> bool:
        """Open the descriptor if there can be one; tell whether there is a process at all."""
        if self._watcher.abilities.processes:
            try:
                self.fd = os.pidfd_open(self._pid)
            except ProcessLookupError:
                return False
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOENT):
                    raise
                self._refuse_thread()
            return self.fd is not None
        if self._is_known_by_its_maker():
            return linux.exists(self._pid)
        process = linux.process_of(self._pid)
        if process is not None and process != self._pid:
            self._refuse_thread()
        return process == self._pid

    def _is_known_by_its_maker(self) -> bool:
        """Tell whether only the object that made the process can say anything of it here."""
        return self.fd is None and self._start_time is None and not linux.has_proc()

    def _refuse_thread(self) -> None:
        """The number is a thread's. Refuse it, unless a process had it that has ended since."""
        stat = None if self._start_time is None else self._stat(needed=True)
        if stat is not None and stat.start_time == self._start_time:
            thread = f"{self._pid}, a thread of one"
            raise InvalidArgument("agent", expected="a process", got=thread)

    def _is_the_one_meant(self) -> bool:
        """Check what was opened: a process of the same pid is another if it started later."""
        expected, agent = self._start_time, self._agent
        # Whoever has the number now, a process that had it before is over with it.
        over = self.fd is not None and linux.readable(self.fd)
        unseen = self.fd is None and not self._is_known_by_its_maker()
        stat = self._stat(needed=not over and (expected is not None or unseen))
        if expected is not None:
            return stat is not None and stat.start_time == expected
        self._start_time = None if stat is None else stat.start_time
        # The owner's word last: had it reaped before the descriptor was opened, it shows now.
        return self._kind.still_has(agent, self._pid, self.fd) and self._returncode() is None

    def _status_or_retry(self) -> ExitReason | None:
        reason = self._status()
        if reason is None and not self.pending_status:
            self.pending_status = True
            return None
        return reason or _UNKNOWN

    def _alive(self) -> bool:
        fd = self.fd
        if fd is not None:
            return not linux.readable(fd)
        if self._is_known_by_its_maker():
            return self._lives_unseen()
        try:
            stat = linux.read_stat(self._pid)
            if stat is not None and stat.start_time == self._start_time:
                return not stat.over
            linux.require_own_proc()
        except OSError:
            return self._lives_unseen()
        return False

    def _lives_unseen(self) -> bool:
        """Tell by the number alone, where `/proc` cannot be read: that is no death."""
        if self._returncode() is not None or linux.status_of_child(self._pid, fd=None) is not None:
            return False
        return linux.exists(self._pid)

    def _status(self) -> ExitReason | None:
        """Read how it ended. It may be reaped at any moment, between two questions too, so what
        is known only of the reaped is asked for again after what is known only of zombies.
        """
        reason = self._status_by_descriptor() or self._status_of_zombie()
        reason = reason or self._status_by_descriptor()
        if reason is not None:
            return reason
        returncode = self._returncode()
        return None if returncode is None else ExitReason.from_returncode(returncode)

    def _status_by_descriptor(self) -> ExitReason | None:
        fd = self.fd
        if fd is None:
            return None
        return linux.status_of_child(self._pid, fd=fd) or linux.status_of_reaped(fd)

    def _status_of_zombie(self) -> ExitReason | None:
        try:
            stat = linux.read_stat(self._pid)
            if stat is None or not stat.over or stat.start_time != self._start_time:
                return None
            if stat.status is not None:
                return linux.reason_of_status(stat.status)
        except OSError:
            if self._returncode() is not None:
                return None
        # Its pid is its own as long as it is a zombie, so the pid may be asked by.
        return linux.status_of_child(self._pid, fd=None)

    def _stat(self, *, needed: bool) -> linux.Stat | None:
        try:
            linux.require_own_proc()
            return linux.read_stat(self._pid)
        except OSError:
            if needed:
                raise
            return None

    def _reason_by_owner(self) -> ExitReason:
        returncode = self._returncode()
        return _UNKNOWN if returncode is None else ExitReason.from_returncode(returncode)

    def _returncode(self) -> int | None:
        agent = self._agent
        try:
            returncode = None if agent is None else self._kind.returncode_of(agent)
        except Exception:  # noqa: BLE001 - a strange subclass; what the kernel knows is enough
            return None
        return returncode if isinstance(returncode, int) else None
