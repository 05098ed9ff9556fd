"""The connections to one other node, and whether it still answers.

Above one connection, below whatever is passed on. Idle connections are stored for a while. As long
as something waits for the node, or streams from it, the node is asked for a sign of life each
second: a process that is stopped, or a machine that is gone, closes no connection, and nobody may
wait for it for ever, however long the request itself may take. Where nothing comes of that, it is
asked on, as long as it is not known to be dead, and whoever wants something of it is told at once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from frontdesk.gateway.forwarding.hop_connection import HopBroken, HopConnection

CONNECT_S = 1.0
PING_S = 1.0
ANSWER_S = 4.0
"""A node that gives no sign of life for so long answers nothing that waits for it."""
SUSPECT_S = 2.0
"""The same of one whose lease has run out."""
MAX_IDLE = 64
IDLE_S = 20.0
"""Less than the other side keeps a connection, so that none is asked while it is being closed."""
MAX_CONNECTIONS = 10_000

Ping = Callable[[HopConnection], Awaitable[None]]


class Busy(Protocol):
    """What goes on with a node: a request, or a WebSocket."""

    received_at: float

    def abort(self, problem: str) -> None: ...


class OpenSocket:
    """A WebSocket to a node, which others read."""

    def __init__(self, abort: Callable[[str], None]) -> None:
        self.received_at: float = 0.0
        self.abort: Callable[[str], None] = abort


class NodeConnections:
    """Connections to the node at one address. Belongs to one event loop; `close` it.

    `ping` asks on a connection whether anybody is there, `problem` tells why the node is of no use
    now, if it is not, and `suspect` whether its lease has run out. `stream_s` is how long it may be
    silent before the streams through it end.
    """

    address: str

    def __init__(
        self,
        address: str,
        *,
        ping: Ping,
        problem: Callable[[], str | None],
        suspect: Callable[[], bool] = lambda: False,
        stream_s: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.address = address
        self._ping, self._problem, self._stream_s = ping, problem, stream_s
        self.tls: ssl.SSLContext | None = tls
        self._suspect = suspect
        self._loop = asyncio.get_running_loop()
        self._idle: deque[tuple[float, HopConnection]] = deque()
        self._busy: dict[Busy, bool] = {}
        """Those that are asked, with whether their answer has begun."""
        self._received_at = self._loop.time()
        self._silent = False
        """Whether what waited last has waited in vain, and nothing has come since."""
        self._closed: str | None = None
        self._pinging: asyncio.Task[None] | None = None

    @contextmanager
    def _in_use(self, connection: Busy) -> Iterator[None]:
        self._busy[connection] = False
        if self._pinging is None or self._pinging.done():
            self._received_at = self._loop.time()
            self._pinging = asyncio.create_task(self._follow_life(), name="frontdesk-node-life")
        try:
            yield
        finally:
            self._received_at = max(self._received_at, connection.received_at)
            del self._busy[connection]

    @contextmanager
    def exchange(self, connection: HopConnection) -> Iterator[None]:
        """Use a connection for one request; after it, it is idle, or closed."""
        try:
            with self._in_use(connection):
                yield
        finally:
            if connection.reusable and self._closed is None and len(self._idle) < MAX_IDLE:
                self._idle.append((self._loop.time(), connection))
            else:
                connection.abort()

    @contextmanager
    def stream(self, *, ends: Callable[[str], None]) -> Iterator[None]:
        """Keep something open that others read, until `ends` is called with why it has to end."""
        if self._closed is not None:
            ends(self._closed)
        socket = OpenSocket(ends)
        with self._in_use(socket):
            self._busy[socket] = True
            yield

    def on_answer(self, connection: HopConnection) -> None:
        """Say that an answer has begun: from now on it is a stream."""
        self._busy[connection] = True

    @property
    def patience_s(self) -> float:
        """How long the node may be silent before what waits for it is told."""
        return SUSPECT_S if self._suspect() else ANSWER_S

    @property
    def silent_s(self) -> float:
        """Since when nothing has come from it, while anything was asked."""
        return self._loop.time() - self._received_at

    def require_life(self) -> None:
        """Raise `HopBroken` where whoever asked last has waited in vain, and nothing came since."""
        if self._silent:
            raise HopBroken(f"it gave no sign of life for {self.silent_s:.0f} s")

    async def connection(self, *, fresh: bool = False) -> HopConnection:
        """Return one to ask on: an idle one, unless it is to be a fresh one. `HopBroken`."""
        self.require_life()
        return await self._connection(fresh=fresh)

    async def _connection(self, *, fresh: bool) -> HopConnection:
        self._drop_old()
        while self._idle and not fresh:
            connection = self._idle.pop()[1]
            if connection.reusable:
                return connection
        if self._closed is not None:
            raise HopBroken(self._closed)
        if len(self._busy) >= MAX_CONNECTIONS:
            raise HopBroken("there are too many connections to it")
        try:
            async with asyncio.timeout(CONNECT_S):
                return await connected(self.address, tls=self.tls)
        except TimeoutError:
            raise HopBroken(f"no connection to it within {CONNECT_S:g} s") from None
        except OSError as error:
            raise HopBroken(error.strerror or type(error).__name__) from None

    def close(self, problem: str) -> None:
        """End everything with this node at once, and begin nothing more."""
        self._closed = problem
        if self._pinging is not None:
            self._pinging.cancel()
        self._end_busy(problem)
        for _, connection in self._idle:
            connection.abort(problem)
        self._idle.clear()

    def _drop_old(self) -> None:
        while self._idle and self._idle[0][0] < self._loop.time() - IDLE_S:
            self._idle.popleft()[1].abort()

    async def _follow_life(self) -> None:
        """Ask for a sign of life while something waits for one, and end what waits in vain.

        After that until one comes, or it is known that none will.
        """
        next_at = self._loop.time()
        while self._busy or self._silent:
            every_s = min(PING_S, self.patience_s / 2)
            next_at = max(next_at + every_s, self._loop.time())
            await asyncio.sleep(next_at - self._loop.time())
            self._drop_old()
            if (problem := self._problem()) is not None:
                self._silent = False
                self._end_busy(problem)
                continue
            came = [each.received_at for each in self._busy]
            self._received_at = max(self._received_at, *came, 0.0)
            if self.silent_s >= every_s:
                await self._ask_for_life()
            else:
                self._silent = False

    async def _ask_for_life(self) -> None:
        limit_s = max(PING_S, min(CONNECT_S + PING_S, self.patience_s - self.silent_s))
        try:
            async with asyncio.timeout(limit_s):
                connection = await self._connection(fresh=True)
                try:
                    await self._ping(connection)
                    self._received_at, self._silent = connection.received_at, False
                finally:
                    connection.abort()
        except (HopBroken, TimeoutError):
            self._end_those_in_vain()

    def _end_busy(self, problem: str) -> None:
        for connection in list(self._busy):
            connection.abort(problem)

    def _end_those_in_vain(self) -> None:
        silent_s = self.silent_s
        self._silent = silent_s >= self.patience_s
        for connection, begun in list(self._busy.items()):
            if silent_s > self._stream_s if begun else self._silent:
                connection.abort(f"it gave no sign of life for {silent_s:.0f} s")


async def connected(address: str, *, tls: ssl.SSLContext | None) -> HopConnection:
    """Return a new connection to an address, as `NodeRecord.address` has it."""
    loop = asyncio.get_running_loop()
    scheme, _, place = address.partition(":")
    if scheme == "unix":
        return (await loop.create_unix_connection(HopConnection, place))[1]
    host, _, port = place.removeprefix("//").rpartition(":")
    if tls is not None and scheme == "http":
        # It might be anybody's, who has written the address into the engine.
        raise HopBroken("it shows no certificate, as nodes have to here")
    secured = tls if scheme == "https" else None
    made = await loop.create_connection(HopConnection, host.strip("[]"), int(port), ssl=secured)
    return made[1]
