"""What we ask of the kernel: pidfds, the status of a dead process, and `/proc/<pid>/stat`.

The floor of the package beside `protocol.py`, below every monitor of a thread or process. It knows
numbers, not agents: no `Popen`, no thread object, no callback. Everything here only reads. Nothing
reaps, and nothing is remembered between calls.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import threading
from dataclasses import dataclass

from frontdesk.monitors.green_threads import threads_are_green, unpatched_select
from frontdesk.records import ExitReason

PIDFD_THREAD = os.O_EXCL
"""Flag of pidfd_open(2), Linux 6.9: the descriptor is of one thread (uapi/linux/pidfd.h)."""

_GET_INFO = 0xC040FF0B
"""PIDFD_GET_INFO = _IOWR(0xFF, 11, struct pidfd_info), Linux 6.13 (uapi/linux/pidfd.h)."""

_INFO_SIZE = 64
_INFO_EXIT = 1 << 3
_EXIT_CODE_OFFSET = 60

CAN_PEEK = hasattr(os, "waitid")
"""Whether a child can be asked how it ended without being reaped; not on macOS before 3.13."""

_PEEK = os.WEXITED | os.WNOHANG | os.WNOWAIT if CAN_PEEK else 0


@dataclass(frozen=True, slots=True)
class Abilities:
    """What this kernel (and its seccomp filter) lets us open: pidfds of processes, of threads."""

    processes: bool
    threads: bool


def can_sleep_in_epoll() -> bool:
    """Tell whether a thread can sleep on descriptors here, and be woken."""
    # Asked anew: gevent and eventlet take epoll away, whenever they are switched on.
    return hasattr(select, "epoll") and hasattr(os, "eventfd") and not threads_are_green()


def probe_abilities() -> Abilities:
    """Try once what works here. `OSError` where it cannot be tried: no descriptor is free."""
    if not hasattr(os, "pidfd_open") or not can_sleep_in_epoll():
        return Abilities(processes=False, threads=False)
    return Abilities(
        processes=_can_open(os.getpid(), 0),
        threads=_can_open(threading.get_native_id(), PIDFD_THREAD),
    )


def _can_open(number: int, flags: int) -> bool:
    try:
        os.close(os.pidfd_open(number, flags))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return False
    return True


def readable(fd: int) -> bool:
    """Tell whether a pidfd says that its process or thread is over. False for a closed number."""
    poll = unpatched_select.poll()
    poll.register(fd, unpatched_select.POLLIN)
    ready = poll.poll(0)
    return bool(ready) and not ready[0][1] & unpatched_select.POLLNVAL


def status_of_child(pid: int, *, fd: int | None) -> ExitReason | None:
    """Return how a child of ours ended, and leave it to be reaped; None if it is not (any more).

    None as well where that cannot be asked.
    """
    if not CAN_PEEK:
        return None
    try:
        return _reason_of_child(_peek(pid, fd))
    except OSError:
        return None


def is_child(pid: int, *, fd: int | None) -> bool:
    """Tell whether a process is a child of this one that nobody has reaped; it is not reaped.

    Where neither the kernel nor `/proc` can be asked, whatever exists is taken for one.
    """
    if not CAN_PEEK:
        try:
            stat = read_stat(pid)
        except OSError:
            return exists(pid)
        return stat is not None and stat.parent == os.getpid()
    try:
        _peek(pid, fd)
    except ChildProcessError:
        return False
    return True


def _peek(pid: int, fd: int | None) -> os.waitid_result | None:
    """Ask without reaping, by the descriptor where there is one: a pid may be another's by now."""
    return os.waitid(os.P_PID, pid, _PEEK) if fd is None else os.waitid(os.P_PIDFD, fd, _PEEK)


def _reason_of_child(result: os.waitid_result | None) -> ExitReason | None:
    if result is None:
        return None
    if result.si_code == os.CLD_EXITED:
        return ExitReason.exited(result.si_status)
    return ExitReason.signalled(result.si_status)


def status_of_reaped(fd: int) -> ExitReason | None:
    """Return how a process of anybody's ended once it was reaped, from Linux 6.15 on; else None."""
    answer = bytearray(_INFO_SIZE)
    struct.pack_into("=Q", answer, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(fd, _GET_INFO, answer)
    except OSError:
        return None
    (mask,) = struct.unpack_from("=Q", answer, 0)
    if not mask & _INFO_EXIT:
        return None
    return reason_of_status(struct.unpack_from("=i", answer, _EXIT_CODE_OFFSET)[0])


def reason_of_status(status: int) -> ExitReason:
    """Translate a wait status, as waitpid(2) gives it."""
    return ExitReason.from_returncode(os.waitstatus_to_exitcode(status))


@dataclass(frozen=True, slots=True)
class Stat:
    """What `/proc/<pid>/stat` says of a process, all at one moment.

    `status` is the wait status of one that is over, None where it cannot be trusted: the kernel
    shows 0 to those who may not trace the process. Whoever may is shown the wait channel as 1
    for what does not run, a zombie included, and that tells the zeros apart (proc(5), field 35).
    """

    start_time: int
    over: bool
    status: int | None
    parent: int
    group: int


def read_stat(pid: int, *, task: int | None = None) -> Stat | None:
    """Read a process, or one task of this one; None if there is none.

    `OSError` where that cannot be told: see `require_own_proc`; and where a process is hidden, or
    no descriptor is free.
    """
    if task is None:
        text = _read_of_process(pid, "stat")
    else:
        text = _read(f"/proc/{pid}/task/{task}/stat")
        if not text:
            require_own_proc()
    return parse_stat(text) if text else None


def require_own_proc() -> None:
    """Raise `OSError` where `/proc` is not there, or shows the processes of another pid namespace.

    There the same numbers are other processes', and what is missing may live. Costs 20 µs.
    """
    text = _read("/proc/self/status") if has_proc() else b""
    if not text:
        raise FileNotFoundError(errno.ENOENT, "there is no /proc of this pid namespace")
    # One number for each namespace from that of the mount down to ours (proc(5), Linux 4.1).
    _, _, rest = text.partition(b"\nNSpid:")
    if len(rest.partition(b"\n")[0].split()) > 1:
        raise OSError(errno.EXDEV, "/proc shows the processes of another pid namespace")


def has_proc() -> bool:
    """Tell whether there is a `/proc` like Linux's, of whichever pid namespace."""
    return os.path.exists("/proc/self/stat")


def exists(pid: int) -> bool:
    """Tell whether a process has this number, a zombie included: of whom, nobody can say here."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _read_of_process(pid: int, name: str) -> bytes:
    """Read a file of a process; nothing if there is no such process. Absence alone proves nothing:
    mounted with `hidepid`, `/proc` does not show the processes of others.
    """
    # Twice: another process may have got the number just after the first look.
    for _ in range(2):
        text = _read(f"/proc/{pid}/{name}")
        if text:
            return text
        require_own_proc()
        if not exists(pid):
            return b""
    raise PermissionError(errno.EACCES, f"/proc hides process {pid}, which exists (hidepid)")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def parse_stat(text: bytes) -> Stat:
    """Parse a stat line. The command in field 2 may contain anything, `) ` included."""
    fields = text[text.rindex(b")") + 2 :].split()
    state, threads, start_time = fields[0], int(fields[17]), int(fields[19])
    # The main thread of a living process may have ended before the others: state Z, and alive.
    over = state in b"ZXx" and threads <= 1
    status, may_see = int(fields[49]), fields[32] == b"1"
    status_if_known = status if over and (status or may_see) else None
    return Stat(start_time, over, status_if_known, int(fields[1]), int(fields[2]))


def process_of(number: int) -> int | None:
    """Return the process that a number belongs to: threads have a `/proc/<number>` too.

    None if it is nobody's; `OSError` as in `read_stat`.
    """
    _, _, rest = _read_of_process(number, "status").partition(b"\nTgid:")
    return int(rest.split(maxsplit=1)[0]) if rest else None
