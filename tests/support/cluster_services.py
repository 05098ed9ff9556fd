"""Session services that are nodes of one cluster, over one index in this process."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

from cluster.inprocess import InProcessEngine, InProcessServer
from frontdesk import SessionStore
from frontdesk.agents import Blueprints
from frontdesk.cluster.node import Node
from frontdesk.cluster.node_records import NodeHooks
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.sessions.context import SessionSettings
from frontdesk.sessions.service import SessionService

BOUND_S = 30


class Member:
    """One node: its registry, its engine, its service."""

    def __init__(self, server, name, blueprints, *, limits, terms, settings, ports):
        self.engine = InProcessEngine(server)
        self.store = SessionStore(limits=limits)
        self.stopped = []
        hooks = NodeHooks(on_superseded=self._on_superseded, on_isolated=self._on_isolated)
        self.node = Node(
            self.engine, self.store, name=name, address=f"unix:/{name}", terms=terms, hooks=hooks
        )
        settings = SessionSettings(**{"abort_grace_s": 0.2, "end_grace_s": 1.0, **settings})
        self.service = SessionService(
            self.store, Blueprints(blueprints), settings=settings, node=self.node, **ports
        )

    def _on_superseded(self, key, fence):
        self.stopped.append(key)
        self.service.on_superseded(key, fence)

    def _on_isolated(self, key, fence):
        self.stopped.append(key)
        self.service.on_isolated(key, fence)


@asynccontextmanager
async def open_members(
    *blueprints, number=2, limits=None, terms=None, server=None, ports=None, **settings
):
    """Open services on as many nodes; nothing of them may be left, here or in the index."""
    server = server or InProcessServer()
    before = asyncio.all_tasks()
    async with AsyncExitStack() as stack:
        members = []
        for place in range(number):
            member = Member(
                server,
                f"host/{place + 1}",
                blueprints,
                limits=limits,
                terms=terms or LeaseTerms(),
                settings=settings,
                ports=ports or {},
            )
            stack.enter_context(member.store)
            await stack.enter_async_context(member.node)
            await stack.enter_async_context(member.service)
            member.server = server
            members.append(member)
        yield members
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left


async def until(condition):
    """Wait until something holds that no event tells of."""
    async with asyncio.timeout(BOUND_S):
        while not condition():
            await asyncio.sleep(0.001)


def entries_of(server):
    """Return the ids in the index."""
    return sorted(server.index._contents.entries)


def reservations_of(server):
    """Return the ids that are reserved in the index."""
    return sorted(server.index._contents.reservations)
