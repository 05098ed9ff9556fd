"""Nodes for tests, over one index in this process: their time, network and engine can be faulty."""

import asyncio
import functools
import threading
from contextlib import AsyncExitStack, asynccontextmanager

from cluster.inprocess import InProcessEngine, InProcessServer
from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.cluster.membership import new_token
from frontdesk.cluster.node import Node
from frontdesk.cluster.node_records import NodeHooks
from frontdesk.cluster.records import IndexLimits
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.store import SessionStore
from frontdesk.testing import FakeAgent

BOUND_S = 30.0
TERMS = LeaseTerms(lease_s=2.0, isolation_grace_s=4.0, kill_grace_s=1.0)
NO_LIMITS = IndexLimits()


class OpenNode:
    """A node with its store and engine; what it was asked to stop; its own time, moved by hand."""

    def __init__(self, server, name, **options):
        self.engine = InProcessEngine(server)
        self.store = SessionStore()
        self.superseded, self.isolated, self.asked = [], [], []
        self.renewals, self.repairs, self.eras = [], [], []
        self.owners = {}
        self.now_s = 1000.0
        hooks = NodeHooks(
            on_superseded=lambda *which: self.superseded.append(which),
            on_isolated=lambda *which: self.isolated.append(which),
            ask_owner=self._ask_owner,
            on_renewal=self.renewals.append,
            on_era=lambda: self.eras.append(True),
            on_repair=lambda action: self.repairs.append(action.value),
            now_s=lambda: self.now_s,
        )
        self.node = Node(
            self.engine, self.store, name=name, address=f"unix:/{name}", hooks=hooks, **options
        )

    async def _ask_owner(self, session_id, node):
        self.asked.append(node.node.name)
        owner = self.owners.get(node.node.name)
        if owner is None:
            raise OwnerUnreachable(session_id, problem="no answer")
        if isinstance(owner, Exception):
            raise owner
        return owner.node.entry(session_id)

    async def create(self, session_id, agent=None, *, minted=False, limits=NO_LIMITS, **attributes):
        """Do what a session service does: here first, then in the index."""
        session = self.store.create(session_id, agent or FakeAgent(session_id), **attributes)
        try:
            await self.node.create(session, token=new_token(), minted=minted, limits=limits)
        except BaseException:
            self.store.delete(session_id, fence=session.fence)
            raise
        return session

    async def move(self, duration_s):
        """Let time pass here, while the loop moves."""
        self.now_s += duration_s
        self.node._lease._move()
        self.node._lease.renew_soon()

    def kill(self):
        """Vanish, as a process that is killed does: nobody is told."""
        lease = self.node._lease
        lease._tick.cancel()
        lease._thread.end()
        lease._thread.join()
        for task in self.node._tasks:
            task.cancel()
        self.engine.cut = True


@asynccontextmanager
async def open_nodes(*names, server=None, terms=TERMS, **options):
    """Open a server and nodes on it; in the end nothing of them may be left."""
    server = server or InProcessServer()
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    async with AsyncExitStack() as ends:
        opened = [OpenNode(server, name, terms=terms, **options) for name in names]
        for each in opened:
            ends.callback(each.store.close)
            await ends.enter_async_context(each.node)
        yield (server, *opened)
    left = asyncio.all_tasks() - tasks
    assert not left, f"tasks are left: {left}"
    leases = [each for each in threading.enumerate() if each.name == "frontdesk-lease"]
    assert not [each for each in leases if each not in threads]


async def eventually(condition):
    """Wait until something is true; it is looked at again whenever the loop has done something."""
    async with asyncio.timeout(BOUND_S):
        while not (found := condition()):
            await asyncio.sleep(0.005)
    return found


def on_loop(test):
    """Run a coroutine function as a test."""

    @functools.wraps(test)
    def run(**fixtures):
        asyncio.run(test(**fixtures))

    return run
