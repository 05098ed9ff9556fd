"""Clusters of stores in this process, over each engine: what laws are checked on."""

from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.inprocess import InProcessEngine, InProcessServer
from frontdesk.cluster.cluster_store import ClusterStore
from frontdesk.cluster.local.engine import LocalEngine
from frontdesk.cluster.local.server import LocalServer
from frontdesk.cluster.node import Node
from frontdesk.cluster.records import IndexLimits
from frontdesk.store import Limits, SessionStore
from frontdesk.testing import StoreOptions


@asynccontextmanager
async def index_itself():
    """Yield what gives each node its engine: the index in this process."""
    server = InProcessServer()

    @asynccontextmanager
    async def engine():
        yield InProcessEngine(server)

    yield engine


@asynccontextmanager
async def local_server():
    """Yield what gives each node its engine: a connection to a server on a Unix socket."""
    with TemporaryDirectory() as directory:
        path = Path(directory, "engine")
        async with LocalServer(path):
            yield lambda: LocalEngine(path)


@asynccontextmanager
async def cluster_store(engine, options=None, *, name="one", **terms):
    """Make a node over an engine of its own, and the store over it."""
    options = options or StoreOptions()
    limits = options.limits or Limits()
    everywhere = IndexLimits(per_tenant=limits.per_tenant, per_api_key=limits.per_api_key)
    async with AsyncExitStack() as ends:
        opened = await ends.enter_async_context(engine())
        here = await ends.enter_async_context(SessionStore(limits=Limits(total=limits.total)))
        node = Node(
            opened,
            here,
            name=f"host/{name}",
            address=f"unix:/{name}",
            feed_capacity=options.feed_capacity,
            **terms,
        )
        yield ClusterStore(await ends.enter_async_context(node), limits=everywhere)


ENGINES = {"index": index_itself, "local": local_server}
