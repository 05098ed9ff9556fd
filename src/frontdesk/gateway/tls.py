"""TLS: the certificate that is shown, and connections whose handshake is not over.

Below the server, beside the wire's protocol. asyncio calls a protocol only after the handshake;
whoever connects and says nothing would be counted nowhere. Here a connection is counted from its
first moment among those without a key, and what is served on it begins after the handshake. The
certificate is looked up for each connection, so that a renewed one is shown without a restart.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.keyless_connections import KeylessConnections
from frontdesk.gateway.settings import ServerSettings

ACCEPTED_AT_ONCE = 100
"""Connections taken in one turn of the loop."""
REST_S = 1.0
"""After a connection that could not be accepted."""

logger: logging.Logger = logging.getLogger("frontdesk.server")


def tls_context(server: ServerSettings) -> ssl.SSLContext | None:
    """Return the context of the certificate as its files are now, None where there is none.

    Raises `ConfigurationWrong` where it cannot be used.
    """
    if server.tls_certificate is None or server.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(
            server.tls_certificate,
            server.tls_key,
            password=lambda: refuse_passphrase("server.tls_key"),
        )
    except OSError as error:  # what is wrong with the content is one as well
        mistake = f"server.tls_certificate, server.tls_key: cannot be used: {error.strerror}"
        raise ConfigurationWrong("the configuration", mistakes=(mistake,)) from None
    return context


def refuse_passphrase(setting: str) -> str:
    """Raise `ConfigurationWrong`: OpenSSL would ask on the terminal, where nobody is."""
    mistake = f"{setting}: is encrypted; the server needs it without a passphrase"
    raise ConfigurationWrong("the configuration", mistakes=(mistake,))


class TlsHandshake:
    """One connection until its handshake is over."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def abort(self) -> None:
        """End the connection at once: who waits for its handshake sees it closed."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)


class TlsListener:
    """Accept the connections of a listening socket; what is served begins after the handshake.

    A server in the sense of uvicorn: it ends with `close`.
    """

    def __init__(
        self,
        listening: socket.socket,
        made: Callable[[], asyncio.Protocol],
        *,
        context: Callable[[], ssl.SSLContext],
        keyless: KeylessConnections,
        deadline_s: float,
    ) -> None:
        self._listening, self._made, self._context = listening, made, context
        self._keyless, self._deadline_s = keyless, deadline_s
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._resting: asyncio.TimerHandle | None = None
        listening.setblocking(False)

    def start(self, backlog: int) -> None:
        """Listen."""
        self._listening.listen(backlog)
        self._loop.add_reader(self._listening, self._accept_all)

    @property
    def shaking_hands(self) -> bool:
        """Whether handshakes are under way."""
        return bool(self._tasks)

    def stop_accepting(self) -> None:
        """Accept nothing more; handshakes under way go on. Idempotent."""
        if self._listening.fileno() != -1:
            self._loop.remove_reader(self._listening)
            self._listening.close()
        if self._resting is not None:
            self._resting.cancel()

    def close(self) -> None:
        """Accept nothing more, and end the handshakes under way."""
        self.stop_accepting()
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until the handshakes under way have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept_all(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor is free, for instance
                logger.error("no connection can be accepted: %s", error.strerror)  # noqa: TRY400
                self._rest()
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._shake_hands(connection, str(address[0])))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _rest(self) -> None:
        self._loop.remove_reader(self._listening)
        self._resting = self._loop.call_later(
            REST_S, self._loop.add_reader, self._listening, self._accept_all
        )

    async def _shake_hands(self, connection: socket.socket, address: str) -> None:
        handshake = TlsHandshake(connection)
        self._keyless.enter(handshake, address)
        try:
            await self._loop.connect_accepted_socket(
                self._made,
                connection,
                ssl=self._context(),
                ssl_handshake_timeout=self._deadline_s,
            )
        except OSError:  # it left, was too slow, or speaks no TLS
            pass
        finally:
            self._keyless.leave(handshake)
