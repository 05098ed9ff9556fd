"""Spawn: fork, confine the child, execute a program, and learn whether that worked.

For ACP agents and for the interpreters of fork servers. The spawn of an agent, from the request to
the answer, on both sides of the keeper:

1. The gateway (`Keeper.spawn`) makes the channel and the pipe for standard error, and sends `Spawn`
   with the child's ends. It keeps a future under the child's number.
2. The keeper (`KeeperServer`) opens a record of the child, so that whatever happens from here on
   has somebody to be reported for.
3. A `Command`: `start_program` forks. The child confines itself, moves its descriptors into place
   and executes; a failed step comes back through a pipe that closes by itself when exec succeeds.
4. A `Fork`: the fork server forks twice. The process in between exits, and the keeper, a child
   subreaper, adopts the agent. `Forked` is sent before that exit, so the keeper never reaps a child
   that it has not heard of. The agent confines itself and answers `Confined`.
5. The keeper writes the child into its journal, then answers `Started`: a keeper killed in between
   leaves a process that its tag finds all the same. A step that failed answers `Refused` with its
   name, and there is no process.
6. The gateway takes `Started` and makes the `ManagedProcess`. A caller that gave up meanwhile
   (cancelled, or past its deadline) has sent `End` with no grace: the child is killed, and `Gone`
   is for nobody.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from frontdesk.keeper.confinement import Confinement, ConfinementFailed, apply, restore_signals
from frontdesk.keeper.seqpacket import close_all

EXEC_DEADLINE_S = 5.0
"""How long the child may take; a directory on a dead network drive would take for ever."""

_MAX_REPORT_BYTES = 4096


class ExecFailed(Exception):
    """The program never ran."""

    stage: str
    text: str

    def __init__(self, stage: str, text: str) -> None:
        self.stage, self.text = stage, text
        super().__init__(stage, text)


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """What to execute: `descriptors` maps a number in the new process to one of ours."""

    argv: Sequence[str]
    env: Mapping[str, str]
    confinement: Confinement
    descriptors: Mapping[int, int] = field(default_factory=dict)


def start_program(program: ExecSpec) -> int:
    """Start the program and return its pid once it executes.

    Raises `ExecFailed` when a step fails or takes longer than EXEC_DEADLINE_S; there is no process
    then. Blocks until exec, some milliseconds.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError as error:
        close_all((reading, writing))
        raise ExecFailed("fork", str(error)) from error
    if pid == 0:
        _run(program, writing)
    os.close(writing)
    try:
        poll = select.poll()
        poll.register(reading, select.POLLIN)
        if poll.poll(EXEC_DEADLINE_S * 1000):
            # Empty once it executes: the pipe closes by itself then.
            report = os.read(reading, _MAX_REPORT_BYTES).decode(errors="replace")
        else:
            report = f"exec\nnot executed within {EXEC_DEADLINE_S:g} s"
    finally:
        os.close(reading)
    if report:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        stage, _, text = report.partition("\n")
        raise ExecFailed(stage, text)
    return pid


def _run(program: ExecSpec, report: int) -> NoReturn:
    try:
        apply(program.confinement)
        report = _place(program.descriptors, report)
        restore_signals()
        if not program.confinement.agent:
            # A fork server is deaf to it (`forkserver.py`) from its start, not from its first line.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.execvpe(program.argv[0], list(program.argv), dict(program.env))  # noqa: S606 - no shell
    except ConfinementFailed as error:
        _send_failure(report, error.stage, error.text)
    except BaseException as error:  # noqa: BLE001 - whatever it is, this copy must not run on
        _send_failure(report, "exec", str(error))
    finally:
        os._exit(127)


def _place(descriptors: Mapping[int, int], report: int) -> int:
    # First everything moves out of the way of the numbers that are to be filled.
    lowest = max(descriptors, default=2) + 1
    moved = {number: _above(source, lowest) for number, source in descriptors.items()}
    report = _above(report, lowest)
    for number, source in moved.items():
        os.dup2(source, number, inheritable=True)
    return report


def _above(descriptor: int, lowest: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)


def _send_failure(report: int, stage: str, text: str) -> None:
    os.write(report, f"{stage}\n{text}".encode(errors="replace")[:_MAX_REPORT_BYTES])
