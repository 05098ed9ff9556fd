"""The server: uvicorn with the wire's bounds and the contract's shutdown.

At the top, above the application; the command line runs it. uvicorn would answer SIGTERM by closing
its listener first and then wait for open event streams, which never end by themselves. Here the
gateway drains first (not ready, nothing new, turns get their grace, streams say goodbye), and only
then the server ends. SIGHUP reloads; a second SIGTERM ends at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import Any, cast

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from frontdesk.gateway.client_connection import ClientConnection, WireConfig
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.http_protocol import BoundedHttp
from frontdesk.gateway.settings import Config
from frontdesk.gateway.tls import TlsListener
from frontdesk.gateway.watchdog import Alive, Watchdog
from frontdesk.gateway.websocket_protocol import BoundedWebSocket

CLOSE_TIMEOUT_S = 2
SILENCE_STEP_S = 0.02
ENDING_S = 15.0
"""For a gateway to end, beyond the graces of turns and agents."""
ACCEPTED_IN_A_TURN = 8
ENDING = (signal.SIGTERM, signal.SIGINT)

logger: logging.Logger = logging.getLogger("frontdesk.server")


class GatewayServer(uvicorn.Server):
    """Serve one gateway until a signal ends it.

    `on_started` is called once requests are answered, `on_reload` at a SIGHUP, `on_draining` when
    it begins to end. `alive` is who is told that loop and listener move.
    """

    def __init__(
        self,
        app: Any,
        *,
        gateway: Gateway,
        tls: ssl.SSLContext | None = None,
        on_started: Callable[[], None] = lambda: None,
        on_reload: Callable[[], None] = lambda: None,
        on_draining: Callable[[], None] = lambda: None,
        alive: Alive | None = None,
    ) -> None:
        wire = wire_config(app, gateway.config)
        wire.on_refused = gateway.metrics.requests.on_refused
        super().__init__(wire)
        self._wire, self._gateway = wire, gateway
        self.tls = tls
        """Of the certificate that is shown; another one counts from the next connection on."""
        self._on_started, self._on_reload = on_started, on_reload
        self._on_draining, self._alive = on_draining, alive
        self._watched = AsyncExitStack()
        self._draining: asyncio.Task[None] | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the gateway, serve, and close it; what keeps it from opening is raised."""
        async with self._gateway, self._watched:
            await super().serve(None if sockets is None else with_doubles(sockets))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.tls is not None and sockets is not None:
            await self.listen_with_tls(sockets)
        else:
            await super().startup(sockets)
        if self.started and self._alive is not None and sockets is not None:
            await self._watched.enter_async_context(
                Watchdog(self._alive, listening=sockets[0], accepted=self._accepted)
            )
        if self.started:
            self._on_started()

    async def listen_with_tls(self, sockets: list[socket.socket]) -> None:
        """Start as uvicorn does, but count connections before their handshake (`tls.py`)."""
        config = self._wire
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        made = partial(
            BoundedHttp,
            config=config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        listeners = [
            TlsListener(
                each,
                made,
                context=self._current_tls,
                keyless=config.keyless,
                deadline_s=config.limits.head_timeout_s,
            )
            for each in sockets
        ]
        for listener in listeners:
            listener.start(config.backlog)
        self.servers: list[asyncio.Server] = cast("list[asyncio.Server]", listeners)
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, answer what is on its way after a drain, and end as uvicorn does."""
        if self._draining is not None:
            for server in self.servers:
                server.stop_accepting() if isinstance(server, TlsListener) else server.close()
            for _ in range(round(CLOSE_TIMEOUT_S / SILENCE_STEP_S)):
                await asyncio.sleep(SILENCE_STEP_S)
                if not self._may_be_asked():
                    break
        await super().shutdown(sockets)

    def _accepted(self) -> int:
        return self._wire.keyless.accepted

    def _may_be_asked(self) -> bool:
        connections = cast("set[ClientConnection]", self.server_state.connections)
        return any(each.may_be_asked() for each in connections) or any(
            isinstance(each, TlsListener) and each.shaking_hands for each in self.servers
        )

    def _current_tls(self) -> ssl.SSLContext:
        assert self.tls is not None
        return self.tls

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            # Signals come to the main thread only: whoever serves in another one ends it itself.
            yield
            return
        loop = asyncio.get_running_loop()
        for number in ENDING:
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)
        try:
            yield
        finally:
            for number in (*ENDING, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _end(self, number: int) -> None:
        if self._draining is not None:
            end_at_once(number)
        self.begin_draining(number)

    def begin_draining(self, number: int = signal.SIGTERM) -> None:
        """Drain and end, unless that goes on already; before anything is served, end at once."""
        if not self.started:
            end_at_once(number)
        if self._draining is None:
            logger.info("draining: turns under way have %g s", self._gateway.config.server.grace_s)
            self._wire.closing = True
            self._on_draining()
            self._draining = asyncio.create_task(self._drain_and_exit())

    async def _drain_and_exit(self) -> None:
        try:
            await self._gateway.drain(self._gateway.config.server.grace_s)
        except Exception:
            logger.exception("draining failed; the server ends all the same")
        finally:
            self.should_exit = True


def drain_limit_s(config: Config) -> float:
    """Return how long a gateway that drains may take until it has ended."""
    return config.server.grace_s + config.turns.end_grace_s + ENDING_S


def end_at_once(number: int) -> None:
    """End this process by the signal itself. Agent processes follow: their keeper sees to it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def wire_config(app: Any, config: Config) -> WireConfig:
    """Return uvicorn's configuration for ours."""
    limits = config.limits
    return WireConfig(
        app,
        http=BoundedHttp,
        ws=BoundedWebSocket,
        limits=limits,
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(limits.keep_alive_s) or 1,
        timeout_graceful_shutdown=CLOSE_TIMEOUT_S,
        ws_max_size=limits.body_bytes,
        ws_ping_interval=config.streams.heartbeat_s,
        ws_ping_timeout=config.streams.heartbeat_s,
        # Compression costs every socket a window, and a message that unpacks to a gigabyte.
        ws_per_message_deflate=False,
    )


def with_doubles(sockets: list[socket.socket]) -> list[socket.socket]:
    """Return listening sockets, each several times, which the server closes.

    uvloop takes one connection of a socket in a turn of the loop: a client would wait for as many
    turns as there are connections before its own, each of them busy with those.
    """
    doubles = [each.dup() for each in sockets for _ in range(ACCEPTED_IN_A_TURN - 1)]
    for each in doubles:
        each.set_inheritable(False)
    return [*sockets, *doubles]


def bound_socket(host: str, port: int) -> socket.socket:
    """Bind the address that the server will listen on; `OSError` where it cannot be had.

    Bound before anything is started: a taken port is found out at once, and port 0 is known.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    bound.set_inheritable(False)
    return bound
