"""A worker's server: it follows its supervisor's orders, and ends with it.

Above the server. A SIGTERM drains it as any gateway; a second one changes nothing, as a service
manager may send one while the supervisor has had it drain already: what ends it at once is the
supervisor.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frontdesk.gateway.server import GatewayServer
from frontdesk.gateway.watchdog import Alive
from frontdesk.gateway.workers.channel import Assignment, Order, Report, WorkerChannel

logger: logging.Logger = logging.getLogger("frontdesk.worker")


@dataclass(frozen=True, slots=True)
class AssignedWorker:
    """One of several workers, from its own side: what it was told, and the supervisor's channel."""

    assignment: Assignment
    channel: WorkerChannel

    @property
    def number(self) -> int:
        return self.assignment.number

    @property
    def sockets(self) -> Path:
        """The directory of the private sockets."""
        return Path(self.assignment.sockets)

    @property
    def greets(self) -> bool:
        """Whether it says for all of them that the service has started."""
        return self.assignment.first and self.number == 1

    def has_orders(self) -> bool:
        """Say whether the supervisor wants something, or has gone."""
        return bool(select.select([self.channel], [], [], 0)[0])

    def listening(self) -> socket.socket:
        """Return its socket of the public address."""
        return socket.socket(fileno=self.assignment.listening)

    def server(self, app: Any, **options: Any) -> GatewayServer:
        """Return the server that follows the supervisor."""
        return WorkerServer(app, channel=self.channel, **options)

    def waits(self) -> None:
        """Tell the supervisor that all is read, and only the one before it is in the way."""
        self.channel.send(Report.WAITING)

    @property
    def alive(self) -> Alive | None:
        """Who is told that it moves: the supervisor, where it wants to know."""
        if (within_s := self.assignment.alive_within_s) is None:
            return None
        return Alive(notify=lambda: self.channel.send(Report.ALIVE), within_s=within_s)

    def serves(self) -> None:
        """Tell the supervisor that it serves."""
        self.channel.send(Report.SERVING)


class WorkerServer(GatewayServer):
    """Serve as one of several workers, until the supervisor says so or has gone."""

    def __init__(self, app: Any, *, channel: WorkerChannel, **options: Any) -> None:
        super().__init__(app, **options)
        self._channel, self._reload_asked = channel, False

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel, self._follow)
        try:
            await super().serve(sockets)
        finally:
            loop.remove_reader(self._channel)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._reload_asked:
            self._on_reload()

    def _follow(self) -> None:
        for order in self._channel.orders():
            match order:
                case Order.DRAIN:
                    self.begin_draining()
                case Order.RELOAD if self.started:
                    self._on_reload()
                case Order.RELOAD:
                    self._reload_asked = True
        if self._channel.closed:
            # Without the index no session can be found by others. The keeper ends the agents.
            os.kill(os.getpid(), signal.SIGKILL)

    def _end(self, number: int) -> None:
        self.begin_draining(number)
