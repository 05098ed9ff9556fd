"""Child processes of an event loop that hears from the kernel when one has ended.

By SIGCHLD, which every system has. All that have ended are reaped, also those that were left to
this process: in a container it may be the first, to which the kernel gives every orphan.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO

Exited = Callable[[int], None]
"""Told the exit code, below zero where it was a signal."""


class ChildProcesses:
    """The children of this process, on one event loop in its main thread."""

    def __init__(self) -> None:
        self._started: dict[int, tuple[subprocess.Popen[bytes], Exited]] = {}

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow the ends of children for as long as the block lasts."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGCHLD)

    def start(
        self,
        command: Sequence[str],
        *,
        on_exit: Exited,
        inherited: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
        errors_to: IO[bytes] | None = None,
    ) -> int:
        """Start a program, outside our process group: a Ctrl-C is ours. Returns its process id."""
        process = subprocess.Popen(
            command, pass_fds=inherited, process_group=0, env=env, stderr=errors_to
        )
        self._started[process.pid] = process, on_exit
        return process.pid

    def has(self, pid: int) -> bool:
        """Tell whether a process is one of them that has not been reaped. From any thread."""
        return pid in self._started

    def kill_all(self) -> None:
        """Kill all that live; they are heard of as they end."""
        for pid in self._started:
            self.kill(pid)

    def kill(self, pid: int) -> None:
        """Kill one of them, at once. One that has ended is not another process yet."""
        if pid in self._started:
            os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._started:
                process, on_exit = self._started.pop(pid)
                process.returncode = os.waitstatus_to_exitcode(status)
                on_exit(process.returncode)
