"""Several real gateways with one registry between them, each in a thread of the test's process.

The index is that of workers: served on a Unix socket, in a thread of its own. Gateways reach each
other over real sockets too.
"""

import asyncio
import shutil
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

from frontdesk.cluster.local.engine import LocalEngine
from frontdesk.cluster.local.server import LocalServer
from frontdesk.gateway.access_log import AccessLog
from frontdesk.gateway.app import create_app
from frontdesk.gateway.cluster_member import ClusterMember
from frontdesk.gateway.forwarding.forwarding import Forwarding
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.server import GatewayServer, bound_socket
from gateway.running import START_S, RunningGateway

SECRET = b"the secret of all nodes, 32 bytes"


class IndexThread:
    """The supervisor's part: the index, served at `path` until it is stopped."""

    def __init__(self, path):
        self.path = path
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="index")

    async def _serve(self):
        self.loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        async with LocalServer(self.path) as self.server:
            self._started.set()
            await self._stopped.wait()

    def __enter__(self):
        self._thread.start()
        assert self._started.wait(START_S)
        return self

    def __exit__(self, *exc_info):
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(START_S)


class NodeGateway(RunningGateway):
    """A gateway that is a node; `listen` is its private listener, in front of which may be more."""

    def __init__(self, directory, *, index, name, listen=None, advertise=None, **options):
        super().__init__(directory / name, **options)
        self.name, self._index = name, index
        self._listen = listen or f"unix:{directory}/{name}/hop.sock"
        self._advertise, self._agents = advertise, options.get("agents", self.gateway._given)

    async def _serve_on(self):
        self.loop = asyncio.get_running_loop()
        self.gateway = Gateway(self.config, blueprints=self._agents, keys=self.keys)
        self.forwarding = Forwarding(
            self.gateway, listen=self._listen, advertise=self._advertise, secret=SECRET
        )
        async with LocalEngine(self._index.path) as engine, self.forwarding:
            self.gateway._cluster = ClusterMember(
                engine=engine,
                name=self.name,
                address=self.forwarding.address,
                listener_age_s=self.forwarding.listener_age_s,
                ask_owner=self.forwarding.ask_owner,
            )
            app = create_app(self.gateway, log=AccessLog(self.log))
            with bound_socket("127.0.0.1", 0) as address:
                self.port = address.getsockname()[1]
                self.server = GatewayServer(app, gateway=self.gateway, on_started=self._on_started)
                await self.server.serve(sockets=[address])

    def _on_started(self):
        self.forwarding.join(self.gateway.node)
        self._started.set()

    @property
    def incarnation(self):
        return self.gateway.node.incarnation


@contextmanager
def cluster(*names, **options):
    """Run an index and one gateway for each name."""
    # Not pytest's own directory: the path of a Unix socket has a greatest length.
    directory = Path(tempfile.mkdtemp(prefix="fd-"))
    try:
        with ExitStack() as stack:
            index = stack.enter_context(IndexThread(directory / "index.sock"))
            nodes = [
                stack.enter_context(NodeGateway(directory, index=index, name=name, **options))
                for name in names
            ]
            yield nodes
    finally:
        shutil.rmtree(directory)
