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
from frontdesk.gateway.cluster_member import ClusterMember
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.state_dir import StateDir
from gateway.agents import BLUEPRINTS
from gateway.running import START_S, RunningGateway
from support.fault_proxy import FaultProxy

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

    def __init__(self, directory, *, index, name, listen, advertise=None, **options):
        super().__init__(directory / name, **options)
        # As workers have it: one master secret, so that a session token is good on every node.
        state = StateDir.make(self.config.server.state_dir)
        (state.path / "master.secret").write_bytes(SECRET)
        self.gateway = Gateway(
            self.config,
            blueprints=options.get("agents", BLUEPRINTS),
            keys=self.keys,
            cluster=ClusterMember(
                engine=LocalEngine(index.path),
                name=name,
                listen=listen,
                advertise=advertise,
                secret=SECRET,
            ),
        )

    @property
    def forwarding(self):
        return self.gateway.forwarding

    @property
    def incarnation(self):
        return self.gateway.node.incarnation


@contextmanager
def cluster(*names, proxied=False, tcp=False, **options):
    """Run an index and one gateway for each name, with a `proxy` in front of what it listens at."""
    # Not pytest's own directory: the path of a Unix socket has a greatest length.
    directory = Path(tempfile.mkdtemp(prefix="fd-"))
    try:
        with ExitStack() as stack:
            index = stack.enter_context(IndexThread(directory / "index.sock"))
            nodes = []
            for name in names:
                listen = "127.0.0.1:0" if tcp else f"unix:{directory}/{name}/hop.sock"
                proxy = stack.enter_context(FaultProxy(listen)) if proxied else None
                advertise = proxy.address if proxy else None
                node = NodeGateway(
                    directory, index=index, name=name, listen=listen, advertise=advertise, **options
                )
                node.proxy, node.index = proxy, index
                nodes.append(stack.enter_context(node))
            yield nodes
    finally:
        shutil.rmtree(directory)
