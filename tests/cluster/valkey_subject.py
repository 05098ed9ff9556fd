"""An engine on a real Valkey or Redis, as the laws see it: the clock of its scripts is moved."""

from contextlib import AsyncExitStack, asynccontextmanager
from unittest.mock import patch

from cluster.engine_subjects import START_US
from frontdesk.cluster.index import micros
from frontdesk.cluster.valkey import calls, lua
from frontdesk.cluster.valkey.engine import ValkeyEngine
from frontdesk.cluster.valkey.engine_address import EngineAddress
from frontdesk.cluster.valkey.keys import key
from support.engines import EngineServer
from support.scripted_index import told_the_time
from support.waiting import eventually

CLOCK = key("frontdesk", "clock")


class ValkeyCluster:
    """A server with a file, whose scripts' clock stands still unless it is moved."""

    def __init__(self, server, ends):
        self.server, self._ends = server, ends
        self._set_clock(START_US)

    def _set_clock(self, clock_us):
        self.server.command("SET", CLOCK, clock_us)

    async def engine(self):
        address = EngineAddress.parse(self.server.url)
        return await self._ends.enter_async_context(ValkeyEngine(address))

    async def jump(self, duration_s):
        self.server.command("INCRBY", CLOCK, micros(duration_s))

    async def restart(self):
        self.server.restart()
        eventually(lambda: self.server.info("persistence")["loading"] == 0)

    async def wipe(self):
        clock_us = self.server.command("GET", CLOCK)
        self.server.command("FLUSHALL")
        self._set_clock(clock_us)
        await self.restart()


def valkey_clusters(program):
    """Return a factory of clusters, each with a server of its own."""

    @asynccontextmanager
    async def factory():
        server = EngineServer(program, appendonly="yes", appendfsync="no")
        with patch.object(calls, "script", lambda name: told_the_time(lua.script(name))), server:
            async with AsyncExitStack() as ends:
                yield ValkeyCluster(server, ends)

    return factory
