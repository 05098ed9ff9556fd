"""`frontdesk serve --workers`: the supervisor's process, from its configuration to its end.

It reads the configuration for what it needs itself; what the workers import, a process of its own
imports to check it, as the supervisor outlives all of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from frontdesk import __version__
from frontdesk.cli.address import refused, url_of
from frontdesk.cli.exit_codes import ExitCode
from frontdesk.cli.options import loaded
from frontdesk.cluster.local.server import LocalServer
from frontdesk.gateway.conversation_storage import (
    database_locked,
    free_reserve_if_full,
    lock_patience_s,
)
from frontdesk.gateway.left_usage import take_over_usage
from frontdesk.gateway.log_writer import LogWriter
from frontdesk.gateway.logs import LAST_LINES_S, configure_logs, log_stray_errors
from frontdesk.gateway.metrics.metric_cells import remove_cells
from frontdesk.gateway.notify_socket import NotifySocket
from frontdesk.gateway.server import drain_limit_s, end_at_once
from frontdesk.gateway.state_dir import StateDir
from frontdesk.gateway.state_lock import locked
from frontdesk.gateway.workers.channel import Assignment, WorkerChannel
from frontdesk.gateway.workers.child_processes import ChildProcesses
from frontdesk.gateway.workers.listening import PublicAddress
from frontdesk.gateway.workers.sockets import engine_socket, sockets_directory, storage_socket
from frontdesk.gateway.workers.storage import served_storage
from frontdesk.gateway.workers.supervisor import Service, ServiceSupervisor
from frontdesk.keeper.prctl import become_undumpable
from frontdesk.persistence.errors import StorageBroken

MAX_TOLD_BYTES = 16 * 1024

WORKER = "import sys; from frontdesk.cli.worker_process import main; main(int(sys.argv[1]))"
CHECK = "import sys; from frontdesk.cli.worker_process import check; check(sys.argv[1])"

logger: logging.Logger = logging.getLogger("frontdesk.serve")


def supervise(file: Path | None, given: dict[str, Any], *, dev: bool) -> int:
    """Serve with several workers until a signal ends them; return the exit code."""
    run = SupervisedRun(file, given, dev=dev)
    if subprocess.run(run.check_command, check=False).returncode != 0:
        return ExitCode.USAGE  # it has said why
    return run.run()


class SupervisedRun:
    """One run of the supervisor."""

    def __init__(self, file: Path | None, given: dict[str, Any], *, dev: bool) -> None:
        self._file, self._given, self._dev = file, given, dev
        self._config = loaded(file, **given)
        self._children = ChildProcesses()
        self._notify = NotifySocket.from_environment(os.environ)
        self._first = True
        self._deaths: list[Callable[[int], None]] = []

    @property
    def check_command(self) -> list[str]:
        """What says everything that would stop a worker, on standard error."""
        told = msgspec.json.encode((self._file, self._given), enc_hook=str).decode()
        return [sys.executable, "-P", "-c", CHECK, told]

    def run(self) -> int:
        """Supervise until a signal ends the service; return the exit code."""
        log = self._log = LogWriter(sys.stderr)
        configure_logs(self._config.log, to=log, node="supervisor")
        log_stray_errors()
        with suppress(OSError):  # a system without it has no agents in processes either
            become_undumpable()
        try:
            secret_file = self._config.cluster.secret_file
            state = StateDir.make(self._config.server.state_dir, secret_file=secret_file)
            with ExitStack() as stack:
                stack.enter_context(locked(state, patience_s=lock_patience_s(self._config)))
                free_reserve_if_full(state)
                held = database_locked(self._config, on_lost=self._storage_broke)
                stack.enter_context(held)
                return asyncio.run(self._supervise(state))
        finally:
            log.close(timeout_s=LAST_LINES_S)

    async def _supervise(self, state: StateDir) -> int:
        server = self._config.server
        async with AsyncExitStack() as stack:
            enter = stack.enter_context
            remove_cells(state.metrics())
            try:
                address = PublicAddress(server.host, server.port, count=server.workers)
            except OSError as error:
                raise refused(server, error) from None
            self._address = enter(address)
            self._directory = enter(sockets_directory(state))
            storage = served_storage(
                self._config.conversations,
                state,
                socket=storage_socket(self._directory),
                is_worker=self._children.has,
                on_broken=self._storage_broke,
            )
            # The first to hear of a death: who is told by the engine may claim at once.
            self._deaths.append(enter(storage))
            if self._config.cluster.url is None:
                # An engine elsewhere has the sums of nodes that there are no more.
                take_over_usage(state.worker(1), workers=server.workers)
                engine = LocalServer(engine_socket(self._directory), revisions=state.revisions)
                await stack.enter_async_context(engine)
                self._deaths.append(engine.process_died)
            service = Service(
                workers=server.workers,
                spawn=self._spawn,
                check=self._check,
                on_crash=self._address.renew,
                on_death=self._on_death,
                on_serving=self._serving,
                notify=self._notify,
                drain_s=lambda: drain_limit_s(self._config),
            )
            supervisor = ServiceSupervisor(service, children=self._children)
            with self._followed_signals(supervisor):
                return await supervisor.run()

    def _spawn(self, number: int, on_exit: Callable[[int], None]) -> tuple[int, WorkerChannel]:
        channel, theirs = WorkerChannel.pair()
        listening = self._address.of(number).fileno()
        with theirs:
            command = [sys.executable, "-P", "-c", WORKER, str(theirs.fileno())]
            inherited = (theirs.fileno(), listening)
            pid = self._children.start(command, on_exit=on_exit, inherited=inherited)
        channel.send(
            Assignment(
                number=number,
                supervisor=os.getpid(),
                listening=listening,
                sockets=str(self._directory),
                file=None if self._file is None else str(self._file),
                given=self._given,
                dev=self._dev,
                first=self._first,
                alive_within_s=self._notify.watchdog_s,
            )
        )
        return pid, channel

    def _on_death(self, pid: int) -> None:
        for hears in self._deaths:
            hears(pid)

    def _storage_broke(self, error: StorageBroken) -> None:
        """End at once, and all workers with it: what they would still say may not be stored.

        Whoever starts the service again has it recover from what is on the disk.
        """
        logger.critical("the service ends: %s", error)
        self._log.close(timeout_s=LAST_LINES_S)
        os.kill(os.getpid(), signal.SIGKILL)

    def _serving(self) -> None:
        self._first = False
        url = url_of(self._config.server, self._address.first)
        workers = self._config.server.workers
        logger.info("Frontdesk %s answers at %s with %d workers", __version__, url, workers)
        self._notify.ready(f"answers at {url} with {workers} workers")

    def _check(self) -> asyncio.Future[str | None]:
        """Have the configuration checked by a process of its own."""
        outcome: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        told = tempfile.TemporaryFile()  # noqa: SIM115 - closed when its process has ended

        def checked(code: int) -> None:
            with told:
                told.seek(0)
                said = told.read(MAX_TOLD_BYTES).decode(errors="replace").strip()
            if code == 0:
                self._config = loaded(self._file, **self._given)
            if not outcome.done():
                outcome.set_result(None if code == 0 else said.removeprefix("frontdesk: "))

        self._children.start(self.check_command, on_exit=checked, errors_to=told)
        return outcome

    @contextmanager
    def _followed_signals(self, supervisor: ServiceSupervisor) -> Iterator[None]:
        def end(number: int) -> None:
            if supervisor.ending:
                self._children.kill_all()
                end_at_once(number)
            logger.info("draining: turns under way have %g s", self._config.server.grace_s)
            supervisor.end()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end, number)
        loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
        loop.add_signal_handler(signal.SIGUSR2, supervisor.restart)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
                loop.remove_signal_handler(number)
