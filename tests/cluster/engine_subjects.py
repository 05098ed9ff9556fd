"""What the laws of engines are checked on here: the index itself, and the local engine."""

from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.inprocess import InProcessEngine, InProcessServer
from frontdesk.cluster.index import ClusterIndex, Moment, micros
from frontdesk.cluster.local.engine import LocalEngine
from frontdesk.cluster.local.server import LocalServer
from frontdesk.testing import ManualClock

START_US = 1_700_000_000_000_000


class IndexCluster(InProcessServer):
    """The index in this process, at a time that stands still unless it is moved."""

    def __init__(self, index):
        super().__init__()
        self.index = index
        self.clock_us = START_US

    def moment(self, known):
        return Moment(self.clock_us, f"run {self.run}", known)

    async def engine(self):
        return InProcessEngine(self)

    async def jump(self, duration_s):
        self.clock_us += micros(duration_s)

    async def restart(self):
        self.run += 1

    async def wipe(self):
        await self.restart()
        self.index.wipe()


def indexes(kind=ClusterIndex):
    """Return a factory of clusters over an index of this class."""

    @asynccontextmanager
    async def factory():
        yield IndexCluster(kind())

    return factory


class LocalCluster:
    """A supervisor's server on a real socket, whose clock stands still unless it is moved."""

    def __init__(self, ends, path):
        self.path = path
        self.clock = ManualClock()
        self.server = LocalServer(path, clock=self.clock)
        self._ends = ends

    async def engine(self):
        return await self._ends.enter_async_context(LocalEngine(self.path))

    async def jump(self, duration_s):
        self.clock.set_wall_ms(self.clock.wall_ms() + round(duration_s * 1000))


@asynccontextmanager
async def local_cluster():
    """Serve an index on a Unix socket."""
    with TemporaryDirectory() as directory:
        async with AsyncExitStack() as ends:
            cluster = LocalCluster(ends, Path(directory, "engine"))
            await ends.enter_async_context(cluster.server)
            yield cluster
