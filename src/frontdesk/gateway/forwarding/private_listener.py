"""The private listener: where other nodes reach this one, and nobody else.

Below the forwarding. The same protocols as in front, so that a head, a body or a frame is bounded
here as it is there; another application behind them (`owner_application.py`). It asks itself each
second, as another node would, and remembers when that last worked: a process whose loop lives and
whose listener is dead is no use to the others, and has to know.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

from uvicorn.server import ServerState

from frontdesk.gateway.client_connection import WireConfig
from frontdesk.gateway.forwarding.hop_connection import HopBroken
from frontdesk.gateway.forwarding.node_connections import IDLE_S, NodeConnections
from frontdesk.gateway.forwarding.signing import MAX_ENVELOPE_CHARACTERS
from frontdesk.gateway.http_protocol import BoundedHttp
from frontdesk.gateway.keyless_connections import KeylessConnections
from frontdesk.gateway.server import bound_socket, wire_config
from frontdesk.gateway.settings import Config
from frontdesk.gateway.tls import TlsListener

UNIX = "unix:"
PING_S = 1.0
PING_TIMEOUT_S = 5.0
BACKLOG = 2048
NODES_CONNECTIONS = 100_000
"""Connections of nodes, which show no key: no bound of the public listener's counts them."""


class PrivateListener:
    """Listen for other nodes. An async context manager.

    `listen` is `unix:/path` or `host:port`. `ping` asks on a connection whether this node answers.
    """

    address: str

    def __init__(
        self,
        application: Any,
        *,
        listen: str,
        advertise: str | None,
        config: Config,
        tls: ssl.SSLContext | None,
        ping: Callable[[Any], Awaitable[None]],
        tls_client: ssl.SSLContext | None,
    ) -> None:
        self._listen, self._advertise, self._tls = listen, advertise, tls
        self._tls_client, self._ping = tls_client, ping
        self._wire: WireConfig = wire_config(application, for_nodes(config))
        # Not a share of the descriptors, as in front: a burst from another node is no attack.
        self._wire.keyless = KeylessConnections(
            in_all=NODES_CONNECTIONS, per_address=NODES_CONNECTIONS
        )
        self._state = ServerState()
        self._answered_at = time.monotonic()
        self._inode = 0
        self._server: asyncio.Server | TlsListener | None = None
        self._own_place = ""
        self._pinging: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._wire.load()
        loop = asyncio.get_running_loop()
        made = partial(BoundedHttp, config=self._wire, server_state=self._state, app_state={})
        if self._listen.startswith(UNIX):
            path = Path(self._listen.removeprefix(UNIX))
            bound = bound_unix_socket(path)
            self._inode = os.stat(path).st_ino
            self.address = self._advertise or self._listen
            self._server = await loop.create_unix_server(made, sock=bound, backlog=BACKLOG)
        else:
            host, _, port = self._listen.rpartition(":")
            bound = bound_socket(host.strip("[]"), int(port))
            own, port_there = bound.getsockname()[:2]
            self._own_place = f"[{own}]:{port_there}" if ":" in own else f"{own}:{port_there}"
            place = self._advertise or f"{host}:{port_there}"
            self.address = f"{'http' if self._tls is None else 'https'}://{place}"
            if self._tls is None:
                self._server = await loop.create_server(made, sock=bound, backlog=BACKLOG)
            else:
                self._server = TlsListener(
                    bound,
                    made,
                    context=self._current_tls,
                    keyless=self._wire.keyless,
                    deadline_s=self._wire.limits.head_timeout_s,
                )
                self._server.start(BACKLOG)
        self._answered_at = time.monotonic()
        self._pinging = asyncio.create_task(self._ping_itself(), name="frontdesk-listener")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._pinging is not None:
            self._pinging.cancel()
            await asyncio.wait([self._pinging])
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.transport.abort()
        for task in list(self._state.tasks):
            task.cancel()
        if self._listen.startswith(UNIX):
            # Whoever listens there next may do so already; what is left behind does no harm.
            path = self._listen.removeprefix(UNIX)
            with suppress(OSError):
                if os.stat(path).st_ino == self._inode:
                    os.unlink(path)

    def _current_tls(self) -> ssl.SSLContext:
        assert self._tls is not None
        return self._tls

    def change_tls(self, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        """Show and trust what these say on new connections; those that are open stay."""
        self._tls, self._tls_client = server, client

    def age_s(self) -> float:
        """Return since when it has not answered. From any thread."""
        return time.monotonic() - self._answered_at

    async def _ping_itself(self) -> None:
        while True:
            itself = NodeConnections(
                self._own_address(),
                ping=self._ping,
                problem=lambda: None,
                stream_s=PING_TIMEOUT_S,
                tls=self._tls_client,
            )
            # A connection each time: that one is accepted is what is asked.
            with suppress(HopBroken, TimeoutError):
                async with asyncio.timeout(PING_TIMEOUT_S):
                    connection = await itself.connection(fresh=True)
                    try:
                        await self._ping(connection)
                        self._answered_at = time.monotonic()
                    finally:
                        connection.abort()
            await asyncio.sleep(PING_S)

    def _own_address(self) -> str:
        if self._listen.startswith(UNIX):
            return self._listen
        return f"{'http' if self._tls is None else 'https'}://{self._own_place}"


def bound_unix_socket(path: Path) -> socket.socket:
    """Bind a Unix socket in a directory that only this account gets into."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.chmod(path.parent, 0o700)
    # A process that was killed has left its own behind; the state directory's lock is ours.
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(path))
        os.chmod(path, 0o600)
    except BaseException:
        bound.close()
        raise
    bound.set_inheritable(False)
    return bound


def for_nodes(config: Config) -> Config:
    """Return the wire's bounds for what nodes send: a head with its signed claims is longer."""
    limits = config.limits.model_copy(
        update={
            "head_bytes": MAX_ENVELOPE_CHARACTERS + 2 * config.limits.head_bytes,
            "keep_alive_s": 3 * IDLE_S,
        }
    )
    return config.model_copy(update={"limits": limits})
