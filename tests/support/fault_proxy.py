"""A proxy of the tests' own between two that talk: where a network fails, it does, on command.

TCP and Unix sockets, whatever is spoken. It runs in a thread with an event loop of its own; every
command holds when the call returns. What each fault stands for:

    stall     a partition shorter than TCP gives up: bytes are kept, and arrive when it heals
    cut       a longer one: bytes are lost, and connections that lost some break when it heals
    reset     what a switch-over or a restarted middlebox does: every connection breaks now
    refuse    the server's process is gone: connections break, new ones are refused
    slow      every piece arrives later, in order
    lossy     connections break in the middle of an answer, by a seeded chance
    cut_after each connection breaks once so many bytes have passed
    flapping  cut and heal in turn
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import socket
import struct
import tempfile
import threading
from dataclasses import dataclass, field
from enum import Flag, auto

PIECE = 65_536
START_S = 30


class Way(Flag):
    """The directions in which bytes pass."""

    TO_SERVER = auto()
    TO_CLIENT = auto()
    BOTH = TO_SERVER | TO_CLIENT


@dataclass
class Conditions:
    """What becomes of bytes now; one for all connections."""

    lost: Way | None = None
    stalled: Way | None = None
    late_s: float = 0.0
    chance: float = 0.0
    limit: dict[Way, int] = field(default_factory=dict)


class FaultProxy:
    """One address in front of a server's, and the faults between them.

    `target` and `address` are `unix:/path` or `tcp:host:port`. A context manager.
    """

    def __init__(self, target: str, *, seed: int = 0) -> None:
        self.target = target
        self.address = ""
        self.broken = 0
        """How many connections it has broken on purpose."""
        self.recorded: list[bytes] | None = None
        """What passes, in both directions, where a test makes this a list."""
        self._conditions = Conditions()
        self._chances = random.Random(seed)
        self._connections: set[Connection] = set()
        self._flapping: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._directory: str | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_S)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    # -- faults ----------------------------------------------------------------------------------

    def cut(self, way: Way = Way.BOTH) -> None:
        """Lose what passes in a direction. Connections that lost something break at the heal."""
        self._do(self._set(lost=way))

    def stall(self, way: Way = Way.BOTH) -> None:
        """Keep what passes in a direction until the heal."""
        self._do(self._set(stalled=way))

    def slow(self, late_s: float) -> None:
        """Deliver every piece so much later, in both directions."""
        self._do(self._set(late_s=late_s))

    def lossy(self, chance: float) -> None:
        """Break a connection in the middle of an answer, with this chance for each piece."""
        self._do(self._set(chance=chance))

    def cut_after(self, size: int, way: Way = Way.TO_CLIENT) -> None:
        """Break each connection once so many more bytes have passed in a direction."""
        self._do(self._set(limit={way: size}))

    def flap(self, *, up_s: float, down_s: float, way: Way = Way.BOTH) -> None:
        """Cut and heal in turn, until the heal."""
        self._do(self._flap(up_s, down_s, way))

    def reset(self) -> None:
        """Break every connection now; new ones are taken."""
        self._do(self._reset())

    def refuse(self) -> None:
        """Break every connection, and refuse new ones until the heal."""
        self._do(self._refuse())

    def heal(self) -> None:
        """Let everything pass again."""
        self._do(self._heal())

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._connections)

    @property
    def port(self) -> int:
        """The port of a TCP address."""
        return int(self.address.rpartition(":")[2])

    @property
    def path(self) -> str:
        """The path of a Unix address."""
        return self.address.removeprefix("unix:")

    # -- in the proxy's own thread ---------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(START_S)

    async def _listen(self) -> None:
        if self.target.startswith("unix:"):
            if self._directory is None:
                self._directory = tempfile.mkdtemp(prefix="proxy")
                self.address = f"unix:{self._directory}/socket"
            self._server = await asyncio.start_unix_server(self._serve, self.path)
        else:
            port = self.port if self.address else 0
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
            self.address = f"tcp:127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await connect(self.target)
        except OSError:
            break_off(writer)
            return
        connection = Connection(self, (reader, writer), (far_reader, far_writer))
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def _set(self, **changes) -> None:
        for name, value in changes.items():
            setattr(self._conditions, name, value)
        for connection in self._connections:
            connection.wake()

    async def _flap(self, up_s: float, down_s: float, way: Way) -> None:
        async def flapping() -> None:
            while True:
                await self._set(lost=way)
                await asyncio.sleep(down_s)
                await self._mend()
                await asyncio.sleep(up_s)

        await self._heal()
        self._flapping = asyncio.create_task(flapping())

    async def _mend(self) -> None:
        self._conditions = Conditions()
        for connection in list(self._connections):
            if connection.has_lost:
                self.break_connection(connection)
            else:
                connection.wake()

    async def _heal(self) -> None:
        if self._flapping is not None:
            self._flapping.cancel()
            self._flapping = None
        await self._mend()
        if self._server is None:
            await self._listen()

    async def _reset(self) -> None:
        for connection in list(self._connections):
            self.break_connection(connection)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            if self.address.startswith("unix:"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path)
        await self._reset()

    async def _close(self) -> None:
        if self._flapping is not None:
            self._flapping.cancel()
        await self._refuse()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def break_connection(self, connection: Connection) -> None:
        """Break a connection, as a network does: with a reset, at both ends."""
        self.broken += 1
        connection.break_off()

    def breaks_here(self) -> bool:
        """Draw whether a connection breaks at this piece."""
        return self._chances.random() < self._conditions.chance


class Connection:
    """One connection through the proxy: a pump for each direction."""

    def __init__(self, proxy: FaultProxy, near, far) -> None:
        self.proxy, self.near, self.far = proxy, near, far
        self.has_lost = False
        self.passed = {Way.TO_SERVER: 0, Way.TO_CLIENT: 0}
        self._woken = asyncio.Event()
        self._pumps: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Pump until both directions have ended, or one is broken."""
        self._pumps = [
            asyncio.create_task(self._pump(self.near[0], self.far[1], Way.TO_SERVER)),
            asyncio.create_task(self._pump(self.far[0], self.near[1], Way.TO_CLIENT)),
        ]
        try:
            await asyncio.gather(*self._pumps, return_exceptions=True)
        finally:
            for writer in (self.near[1], self.far[1]):
                writer.close()

    def wake(self) -> None:
        """Let the pumps look at the conditions again."""
        self._woken.set()
        self._woken = asyncio.Event()

    def break_off(self) -> None:
        """End it at once, with a reset to both."""
        for pump in self._pumps:
            pump.cancel()
        for writer in (self.near[1], self.far[1]):
            break_off(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer, way: Way) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE):
                await self._pass(piece, writer, way)
            # The end of a stream passes as bytes do: one that is lost is not heard of.
            await self._until_it_passes(way)
            writer.write_eof()

    async def _pass(self, piece: bytes, writer: asyncio.StreamWriter, way: Way) -> None:
        conditions = self.proxy._conditions
        if conditions.late_s:
            await asyncio.sleep(conditions.late_s)
        while concerns(self.proxy._conditions.stalled, way):
            await self._woken.wait()
        conditions = self.proxy._conditions
        if concerns(conditions.lost, way):
            self.has_lost = True
            return
        limit = conditions.limit.get(way)
        if limit is not None and self.passed[way] + len(piece) > limit:
            await self._break_within(piece[: max(0, limit - self.passed[way])], writer)
        if way is Way.TO_CLIENT and conditions.chance and self.proxy.breaks_here():
            await self._break_within(piece[: len(piece) // 2], writer)
        self.passed[way] += len(piece)
        if self.proxy.recorded is not None:
            self.proxy.recorded.append(piece)
        writer.write(piece)
        await writer.drain()

    async def _until_it_passes(self, way: Way) -> None:
        conditions = self.proxy._conditions
        while concerns(conditions.stalled, way) or concerns(conditions.lost, way):
            await self._woken.wait()
            conditions = self.proxy._conditions

    async def _break_within(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(piece)
        await writer.drain()
        self.proxy.break_connection(self)
        await asyncio.sleep(0)  # where this pump is cancelled


def concerns(fault: Way | None, way: Way) -> bool:
    """Tell whether a fault is in this direction."""
    return fault is not None and way in fault


async def connect(target: str):
    """Open a connection to `unix:/path` or `tcp:host:port`."""
    kind, _, rest = target.partition(":")
    if kind == "unix":
        return await asyncio.open_unix_connection(rest)
    host, _, port = rest.rpartition(":")
    return await asyncio.open_connection(host, int(port))


def break_off(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset where the kind has one."""
    end = writer.get_extra_info("socket")
    if end is not None and end.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
