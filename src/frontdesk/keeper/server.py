"""The keeper's server: what is done about each request of the gateway and each fork server's event.

It runs in the keeper, single-threaded, inside the loop of `__main__.py`. Nothing in it waits but
the start of a program.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import assert_never

import msgspec

from frontdesk.keeper.children import Children
from frontdesk.keeper.confinement import Confinement
from frontdesk.keeper.forkserver import Confined, Forked, ForkRequest, ForkServerEvent, Prepared
from frontdesk.keeper.forkservers import ForkServerProcess, ForkServers
from frontdesk.keeper.hidden_directory import HiddenDirectory
from frontdesk.keeper.journal import Journal
from frontdesk.keeper.messages import (
    Command,
    End,
    Fork,
    ForkServerSpec,
    KeeperEvent,
    KeeperRequest,
    Refused,
    Spawn,
    SpawnRequest,
    Warm,
    Warmed,
)
from frontdesk.keeper.procfs import tag_for
from frontdesk.keeper.seqpacket import SeqPacketChannel, close_all
from frontdesk.keeper.spawn import ExecFailed, ExecSpec, start_program

FORK_SERVER_ID = (1 << 32) - 1
"""The number in the tag of every fork server: above all children, as a tag can only be lowered."""


class KeeperServer:
    """Serve one gateway: spawn its children, end them, and report what becomes of them."""

    def __init__(
        self, gateway: SeqPacketChannel, *, run: int, journal: Journal, hidden: str | None = None
    ) -> None:
        self.fork_servers: ForkServers = ForkServers()
        self.children: Children = Children(self._send_event, run=run, journal=journal)
        self._gateway = gateway
        self._run, self._hidden = run, hidden

    def on_request(self, payload: bytes, descriptors: tuple[int, ...]) -> None:
        """Carry out one request of the gateway."""
        request = msgspec.json.decode(payload, type=KeeperRequest)
        match request:
            case Spawn():
                self._spawn(request, descriptors)
            case Warm():
                self._warm(request)
            case End():
                self.children.end(request.child_id, request.grace_s)
            case _:
                assert_never(request)

    def reap(self, now: float) -> None:
        """Reap the dead, end what is overdue, and end the orphans of both."""
        died = self.children.reap(read_fork_servers=self._read_fork_servers)
        for server in self.fork_servers:
            if server.pid in died:
                # Its end of the connection may stay open for a moment, in a fork that is young.
                self.read_fork_server(server)
                for event in self.fork_servers.on_exit(server):
                    self._on_forkserver_event(server, event)
        if self.children.expire(now) or died:
            self.children.sweep(
                read_fork_servers=self._read_fork_servers,
                fork_server_pids=lambda: {server.pid for server in self.fork_servers},
            )

    def read_fork_server(self, server: ForkServerProcess) -> None:
        """Handle what a fork server has sent."""
        for event in self.fork_servers.receive(server):
            self._on_forkserver_event(server, event)

    def _read_fork_servers(self) -> None:
        for server in self.fork_servers:
            self.read_fork_server(server)

    # -- requests ------------------------------------------------------------------------------

    def _spawn(self, spawn: Spawn, descriptors: tuple[int, ...]) -> None:
        child = self.children.open(spawn.child_id)
        if len(descriptors) != (3 if isinstance(spawn.request.run, Command) else 2):
            close_all(descriptors)
            self.children.refuse(
                child.child_id, "descriptors", "the keeper has no free descriptors"
            )
            return
        request = spawn.request
        confinement = Confinement(
            tag=child.tag,
            counter_tag=child.counter_tag,
            keeper_pid=os.getpid(),
            limits=request.limits,
            # A fork has its fork server's account already, and could not ask for it again.
            account=request.run.account if isinstance(request.run, Command) else None,
            cwd=request.cwd,
            hidden=self._hidden_from(request),
        )
        try:
            if isinstance(request.run, Command):
                self._exec(child.child_id, request.run, confinement, descriptors)
            else:
                self._fork(child.child_id, request.run, confinement, descriptors)
        except ExecFailed as error:
            close_all(descriptors)
            self.children.refuse(child.child_id, error.stage, error.text)

    def _hidden_from(self, request: SpawnRequest) -> HiddenDirectory | None:
        if self._hidden is None:
            return None
        environment = (request.run if isinstance(request.run, Command) else request.run.server).env
        return HiddenDirectory.for_agent(self._hidden, environment=environment, cwd=request.cwd)

    def _exec(
        self,
        child_id: int,
        command: Command,
        confinement: Confinement,
        descriptors: tuple[int, ...],
    ) -> None:
        standard = dict(enumerate(descriptors))
        pid = start_program(ExecSpec(command.argv, command.env, confinement, standard))
        close_all(descriptors)
        self.children.on_forked(child_id, pid)
        self.children.on_running(child_id)

    def _fork(
        self, child_id: int, fork: Fork, confinement: Confinement, descriptors: tuple[int, ...]
    ) -> None:
        server = self._running_server(fork.server)
        # One that has just ended is noticed as the end of its connection.
        with suppress(OSError):
            self.fork_servers.send(server, ForkRequest(child_id, confinement), descriptors)

    def _running_server(self, spec: ForkServerSpec) -> ForkServerProcess:
        tag = tag_for(self._run, FORK_SERVER_ID)
        confinement = Confinement(
            tag=tag, keeper_pid=os.getpid(), account=spec.account, agent=False
        )
        return self.fork_servers.get(spec, confinement)

    def _warm(self, warm: Warm) -> None:
        try:
            server = self._running_server(warm.server)
        except ExecFailed as error:
            self._send_event(Warmed(warm.request_id, f"{error.stage}: {error.text}"))
            return
        if server.prepared:
            self._send_event(Warmed(warm.request_id, None, server.description))
        else:
            server.waiting_requests.append(warm.request_id)

    # -- what fork servers send ----------------------------------------------------------------

    def _on_forkserver_event(self, server: ForkServerProcess, event: ForkServerEvent) -> None:
        match event:
            case Prepared():
                server.prepared, server.description = True, event.description
                for request_id in server.waiting_requests:
                    self._send_event(Warmed(request_id, event.error, event.description))
                server.waiting_requests.clear()
                if event.error is not None:
                    for child_id in sorted(server.forking):
                        self.children.refuse(child_id, "forkserver", event.error)
                    server.forking.clear()
                    self.fork_servers.drop(server)
            case Forked():
                server.forking.discard(event.child_id)
                self.children.on_forked(event.child_id, event.pid)
            case Confined():
                self.children.on_running(event.child_id)
            case Refused():
                server.forking.discard(event.child_id)
                self.children.refuse(event.child_id, event.stage, event.text)
            case _:
                assert_never(event)

    def _send_event(self, event: KeeperEvent) -> None:
        # A gateway that is gone is noticed where its requests are read.
        with suppress(OSError):
            self._gateway.send(msgspec.json.encode(event))
