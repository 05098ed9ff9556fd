"""Clusters of stores in this process, over each engine: what laws are checked on."""

import asyncio
import secrets
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from frontdesk.cluster.cluster_store import ClusterStore
from frontdesk.cluster.errors import Recovering
from frontdesk.cluster.local.engine import LocalEngine
from frontdesk.cluster.local.server import LocalServer
from frontdesk.cluster.node import Node
from frontdesk.cluster.records import SCHEMA, IndexLimits, NodeRecord
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.cluster.valkey.engine import ValkeyEngine
from frontdesk.cluster.valkey.engine_address import EngineAddress
from frontdesk.store import Limits, SessionStore
from frontdesk.testing import StoreOptions
from support.engines import PROGRAMS, EngineServer


@asynccontextmanager
async def local_server(servers):
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


def real_server(program):
    """Return what yields connections to a Valkey or Redis, to keys that nobody else has there.

    The server is started for the first who asks, and serves all until the module's tests are over.
    """

    @asynccontextmanager
    async def server(servers):
        address = EngineAddress.parse(
            servers.started(program).url, prefix=f"laws-{secrets.token_hex(4)}"
        )

        def connect():
            return ValkeyEngine(address)

        await _recover(connect)
        yield connect

    return server


class Servers:
    """Real servers, one of each program, from when one is asked for until all are closed."""

    def __init__(self):
        self._ends = ExitStack()
        self._started = {}

    def started(self, program):
        if program not in self._started:
            self._started[program] = self._ends.enter_context(EngineServer(program))
        return self._started[program]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ends.close()


async def _recover(connect):
    """Let the first era's recovery pass, which lasts for a lease: for a node with a short one."""
    async with connect() as engine:
        record = NodeRecord(secrets.token_hex(16), "first", "unix:/", SCHEMA, "0", "")
        await engine.join(record, terms=LeaseTerms(lease_s=0.05))
        async with asyncio.timeout(30):
            while True:
                try:
                    await engine.read("nobody's")
                    break
                except Recovering as recovering:
                    await asyncio.sleep(recovering.retry_after_s)
                    await engine.take("time", limit=1, window_s=1)  # reads do not move it on
        await engine.leave(record.incarnation)


ENGINES = [
    pytest.param(local_server, id="local"),
    *(
        pytest.param(real_server(program), id=program.name, marks=pytest.mark.slow)
        for program in PROGRAMS
    ),
]
