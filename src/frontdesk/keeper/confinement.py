"""What a fresh process does to itself before any code of the agent runs: limits, account, signals.

Applied in the child, between fork and exec or entry. The order of the steps is the point of this
file: what needs privileges comes before they are given up.
"""

from __future__ import annotations

import os
import pwd
import resource
import signal
from collections.abc import Callable
from contextlib import suppress

import msgspec

from frontdesk.keeper import capabilities, landlock, prctl
from frontdesk.keeper.hidden_directory import HiddenDirectory, enter_domain_without
from frontdesk.keeper.messages import ProcessLimits
from frontdesk.keeper.procfs import RLIMIT_LOCKS, RLIMIT_RSS
from frontdesk.monitors.linux import exists, read_stat

CPU_GRACE_S = 5
"""Between SIGXCPU, which names the cause, and the SIGKILL for a process that is deaf to it."""

_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""By every Python from its start."""


class Confinement(msgspec.Struct, frozen=True, kw_only=True):
    """Say what a process must have done to itself before it runs an agent."""

    tag: int
    counter_tag: int | None = None
    keeper_pid: int
    limits: ProcessLimits = ProcessLimits()
    account: str | None = None
    cwd: str | None = None
    agent: bool = True
    """False for a fork server, which runs the operator's code alone, and forks agents."""
    hidden: HiddenDirectory | None = None


class ConfinementFailed(Exception):
    """A step could not be taken: the process must not run."""

    stage: str
    text: str

    def __init__(self, stage: str, error: Exception) -> None:
        self.stage, self.text = stage, str(error)
        super().__init__(stage, self.text)


def apply(confinement: Confinement) -> None:
    """Lead a group of its own, take limits, account and directory, and die with the keeper.

    The process is in a Landlock domain of its own then, see `landlock.py`. Signal handlers are left
    to `restore_signals`. Raises `ConfinementFailed`, naming the step. Costs a dozen system calls.
    """
    _step("group", os.setsid)
    _step("limits", lambda: _limit(confinement))
    if confinement.account is not None:
        account = confinement.account
        _step("account", lambda: _become(account))
    # After the account, which takes rights that are given up here. Before the directory, which must
    # not be one that a mount has covered.
    _step("domain", lambda: isolate(confinement.hidden, agent=confinement.agent))
    if confinement.cwd is not None:
        directory = confinement.cwd
        _step("directory", lambda: os.chdir(directory))
    _step("keeper", lambda: _die_with(confinement.keeper_pid))


def isolate(hidden: HiddenDirectory | None, *, agent: bool = True) -> tuple[str, ...]:
    """Keep this process from others of its account; return what this system cannot keep it from.

    See `landlock.py`, `hidden_directory.py` and `capabilities.py`. Raises `OSError`.
    """
    problems = [landlock.not_enforced(landlock.abi())]
    if hidden is None:
        landlock.enter_domain()
    elif (problem := enter_domain_without(hidden)) is not None:
        problems.append(f"agents under this account can read the state directory ({problem})")
    if agent:
        capabilities.drop()
    return tuple(filter(None, problems))


def not_enforced(hidden: HiddenDirectory | None) -> tuple[str, ...]:
    """Return what this system cannot keep agents from: found out by a process that is one in all
    but its program. Blocks for some milliseconds.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            found = isolate(hidden)
        except BaseException as error:  # noqa: BLE001 - this copy must not run on
            found = (f"agents cannot be kept apart at all: {error}",)
        with suppress(OSError):
            os.write(writing, msgspec.json.encode(found))
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as said:
        answer = said.read()
    os.waitpid(pid, 0)
    return msgspec.json.decode(answer, type=tuple[str, ...]) if answer else ()


def _step(stage: str, action: Callable[[], object]) -> None:
    try:
        action()
    except (OSError, ValueError, KeyError) as error:
        raise ConfinementFailed(stage, error) from error


def restore_signals() -> None:
    """Undo, before a program is executed, what a keeper set and what every Python ignores."""
    signal.set_wakeup_fd(-1)
    for number in (*_OURS, *IGNORED_BY_PYTHON):
        signal.signal(number, signal.SIG_DFL)


def _limit(confinement: Confinement) -> None:
    resource.setrlimit(RLIMIT_LOCKS, (confinement.tag, confinement.tag))
    if confinement.counter_tag is not None:
        resource.setrlimit(RLIMIT_RSS, (confinement.counter_tag, confinement.counter_tag))
    # A core file holds what the agent knew, and nobody asked for it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limits = confinement.limits
    if limits.memory_mb is not None:
        _lower(resource.RLIMIT_DATA, limits.memory_mb << 20)
    if limits.cpu_s is not None:
        _lower(resource.RLIMIT_CPU, limits.cpu_s, spare=CPU_GRACE_S)
    if limits.open_files is not None:
        _lower(resource.RLIMIT_NOFILE, limits.open_files)
    if limits.processes is not None:
        _lower(resource.RLIMIT_NPROC, limits.processes)


def _lower(kind: int, value: int, *, spare: int = 0) -> None:
    # A system that is stricter than we were asked to be stays so.
    _, hard = resource.getrlimit(kind)
    bound = value + spare if hard == resource.RLIM_INFINITY else min(value + spare, hard)
    resource.setrlimit(kind, (min(value, bound), bound))


def _become(name: str) -> None:
    account = pwd.getpwnam(name)
    if os.getuid() == account.pw_uid and os.getgid() == account.pw_gid:
        return
    os.initgroups(name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def _die_with(keeper_pid: int) -> None:
    # What a fork server forks has an intermediate parent for some microseconds, until that has
    # exited and the keeper adopts it; asked for earlier, the signal would come then.
    while os.getppid() != keeper_pid:
        try:
            stat = read_stat(keeper_pid)
            over = stat is None or stat.over
        except PermissionError:  # mounted with hidepid, /proc hides it: it is not dumpable
            over = not exists(keeper_pid)
        if over:
            raise ProcessLookupError("the keeper has ended")
        os.sched_yield()
    prctl.die_with_parent(signal.SIGKILL)
    if os.getppid() != keeper_pid:
        raise ProcessLookupError("the keeper has ended")
