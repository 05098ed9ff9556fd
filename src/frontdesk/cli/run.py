"""One run of the server: from its configuration to its end.

It reads the configuration, binds the address, builds the gateway and hands all to the server. A
development run has keys of its own (`dev.py`) and says what to do with them (`welcome.py`).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import resource
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from frontdesk import __version__
from frontdesk.cli.address import bound_address, url_of
from frontdesk.cli.dev import DevKeys, dev_keys, with_demo
from frontdesk.cli.options import beside, loaded
from frontdesk.cli.welcome import welcome
from frontdesk.errors import FrontdeskError
from frontdesk.gateway.access_log import AccessLog
from frontdesk.gateway.app import create_app
from frontdesk.gateway.conversation_storage import (
    database_locked,
    end_process,
    free_reserve_if_full,
    lock_patience_s,
)
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.keys import Key, keys_from_environment
from frontdesk.gateway.log_writer import LogWriter
from frontdesk.gateway.logs import LAST_LINES_S, configure_logs, log_stray_errors
from frontdesk.gateway.node_tls import node_tls
from frontdesk.gateway.notify_socket import NotifySocket
from frontdesk.gateway.server import GatewayServer, drain_limit_s
from frontdesk.gateway.settings import Config, needing_restart
from frontdesk.gateway.state_dir import StateDir
from frontdesk.gateway.state_lock import locked
from frontdesk.gateway.surroundings import mistakes_around
from frontdesk.gateway.tls import tls_context
from frontdesk.gateway.watchdog import Alive
from frontdesk.keeper.modules_behind import find_behind
from frontdesk.keeper.prctl import become_undumpable

if TYPE_CHECKING:
    # Late: they come with a cluster.
    from frontdesk.gateway.cluster_part import ClusterPart
    from frontdesk.gateway.workers.worker_server import AssignedWorker

MAX_OPEN_FILES = 1 << 20
"""For what the log still has to write at the end."""

logger: logging.Logger = logging.getLogger("frontdesk.serve")


class Run:
    """One run of the server, from its configuration to its end; of one of several workers, too."""

    def __init__(
        self,
        file: Path | None,
        given: dict[str, Any],
        *,
        dev: bool,
        worker: AssignedWorker | None = None,
    ) -> None:
        self._file, self._given, self._dev, self._worker = file, given, dev, worker
        # A worker's supervisor speaks for all of them.
        self._notify = NotifySocket(None)
        if worker is None:
            self._notify = NotifySocket.from_environment(os.environ)
        find_behind([beside(file)])
        self._config = self._load()
        server, cluster = self._config.server, self._config.cluster
        self._state = StateDir.make(server.state_dir, secret_file=cluster.secret_file)
        self._own: DevKeys | None = None
        if dev:
            self._own = dev_keys(self._state)
        node = None
        if worker is not None:
            self._state = self._state.worker(worker.number)
            node = cluster.node_name(worker.number)
        elif cluster.url is not None:
            node = cluster.node_name(None)
        self._log = LogWriter(sys.stderr)
        self._writer = configure_logs(self._config.log, to=self._log, node=node)
        log_stray_errors()

    def run(self) -> None:
        """Serve until a signal ends it."""
        try:
            with ExitStack() as stack:
                if self._worker is not None:
                    self._await_engine()
                    self._worker.waits()
                # A worker's successor waits for as long as that drains.
                patience_s = math.inf
                if self._worker is None:
                    patience_s = lock_patience_s(self._config)
                stack.enter_context(locked(self._state, patience_s=patience_s))
                if self._worker is None:
                    free_reserve_if_full(self._state)
                    stack.enter_context(database_locked(self._config, on_lost=end_process))
                alone = self._worker is None and self._config.cluster.url is None
                if alone and self._state.worker_numbers():
                    # Late: there were workers here, and there are none now.
                    from frontdesk.gateway.left_usage import take_over_usage

                    take_over_usage(self._state, workers=1)
                self._serve()
        finally:
            self._log.close(timeout_s=LAST_LINES_S)

    def _await_engine(self) -> None:
        """As one that takes another's place, wait until the engine answers."""
        worker, cluster = self._worker, self._config.cluster
        if worker is not None and not worker.assignment.first and cluster.url is not None:
            from frontdesk.cli.joining import await_engine

            asyncio.run(await_engine(cluster, worker))

    def _serve(self) -> None:
        server, worker = self._config.server, self._worker
        tls = tls_context(server)
        with bound_address(server) if worker is None else worker.listening() as address:
            with suppress(OSError):  # a system without it has no agents in processes either
                become_undumpable()
            _open_as_many_files_as_allowed()
            self._gateway = Gateway(
                self._config, keys=self._keys(), cluster=self._cluster(), state=self._state
            )
            self._url = url_of(server, address)
            made = GatewayServer if worker is None else worker.server
            self._server = made(
                create_app(self._gateway, log=AccessLog(self._writer)),
                gateway=self._gateway,
                tls=tls,
                on_started=self._started,
                on_reload=self._reload,
                on_draining=self._draining,
                alive=self._alive() if worker is None else worker.alive,
            )
            self._server.run(sockets=[address])

    def _alive(self) -> Alive | None:
        if (within_s := self._notify.watchdog_s) is None:
            return None
        return Alive(notify=self._notify.alive, within_s=within_s)

    def _draining(self) -> None:
        self._notify.stopping(within_s=drain_limit_s(self._config))

    def _cluster(self) -> ClusterPart | None:
        if self._worker is None and self._config.cluster.url is None:
            return None
        from frontdesk.cli.joining import member_of

        return member_of(self._config, self._state, self._worker)

    def _load(self) -> Config:
        config = loaded(self._file, around=mistakes_around, **self._given)
        return with_demo(config) if self._dev else config

    def _keys(self) -> tuple[Key, ...]:
        own = () if self._own is None else (self._own.tenant.key, self._own.operator.key)
        return (*keys_from_environment(), *own)

    def _started(self) -> None:
        # What was imported stays: the collector looked at it again and again, 70 ms of the loop
        # each time.
        gc.collect()
        gc.freeze()
        if self._own is not None:
            for code, key in self._own.codes.items():
                self._gateway.authenticator.codes.add(code, key)
        if self._worker is not None:
            self._worker.serves()
            if not self._worker.greets:
                return
        else:
            logger.info("Frontdesk %s answers at %s", __version__, self._url)
            self._notify.ready(f"answers at {self._url}")
        if self._own is not None:
            typer.echo(welcome(self._url, self._own, self._gateway.service.blueprints))
        elif not len(self._gateway.ring):
            logger.warning(
                "there is no key yet, so nobody gets in: "
                "frontdesk keys create --tenant acme --name first"
            )

    def _reload(self) -> None:
        self._notify.reloading()
        try:
            config = self._load()
            tls = tls_context(config.server)
            # Of the settings that name them only what the files hold changes without a restart.
            between_nodes = node_tls(self._config.cluster)
            self._gateway.reload(config, keys=self._keys(), node_tls=between_nodes)
        except FrontdeskError as error:
            # The operator needs the mistakes, not where in our code they were found.
            logger.error(  # noqa: TRY400
                "not reloaded, all stays as it was: %s", error
            )
            self._notify.ready("not reloaded, as the log says; all stays as it was")
        else:
            if self._server.tls is not None:
                self._server.tls = tls or self._server.tls
            logger.info("reloaded: keys, blueprints, filters, limits and certificates")
            self._notify.ready("reloaded")
            for name in needing_restart(self._config, config):
                logger.warning("not changed by a reload, it needs a restart: %s", name)


def _open_as_many_files_as_allowed() -> None:
    # Every connection and every watched process is a descriptor; the usual soft limit is 1,024.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
