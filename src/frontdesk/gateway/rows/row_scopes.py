"""The rows of all nodes, for those who read them now: a tenant's, or everybody's.

A scope is what is read: of one tenant, or of all. Its readers share what other nodes are asked for;
who reads a tenant's rows has nothing of any other's in its memory. Without readers there is no
scope, and no node is asked for anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from frontdesk.agents.ids import registry_key
from frontdesk.clock import Clock
from frontdesk.feed import Wakers
from frontdesk.gateway.rows.changed_rows import RowSource
from frontdesk.gateway.rows.local_rows import LINGER_S, LocalRows

if TYPE_CHECKING:
    # Late: without a cluster, nothing of it is imported.
    from frontdesk.cluster.node import Node
    from frontdesk.gateway.elsewhere import Elsewhere
    from frontdesk.gateway.rows.node_rows import NodeRows

POLL_S = 0.25
"""How often it is looked whether nodes came or went; this node hears of that by itself."""
DEAD = 32
"""So many dead nodes are held, for readers who have yet to be told."""
FIRST_S = 3.0
"""How long a reader waits for the other nodes' first answers."""


class RowScope:
    """The rows of a tenant, or of all, on all nodes. Made and ended by `RowScopes`."""

    def __init__(self, local: LocalRows, *, tenant_id: str | None, clock: Clock) -> None:
        self._local, self._clock = local, clock
        self.tenant_id: str | None = tenant_id
        self.wakers: Wakers = Wakers()
        self.readers: int = 0
        self.ending: asyncio.TimerHandle | None = None
        self._nodes: dict[str, NodeRows] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._polling: asyncio.TimerHandle | None = None

    def start(self, node: Node | None, elsewhere: Elsewhere | None) -> None:
        """Follow this process, and the other nodes where there are some."""
        self._local.enter()
        self._local.wakers.append(self.wakers)
        if node is not None and elsewhere is not None:
            self._poll(node, elsewhere)

    def end(self) -> None:
        """Follow nobody any more."""
        if self._polling is not None:
            self._polling.cancel()
        for task in (*self._tasks.values(), *self._endings):
            task.cancel()
        self._local.wakers.remove(self.wakers)
        self._local.leave()
        self.wakers.wake_all()

    @property
    def closed(self) -> bool:
        """Whether this node ends."""
        return self._local.closed

    def sources(self) -> Sequence[RowSource]:
        """Return what has rows now; dead nodes among them, which say what has gone with them."""
        return [self._local, *(each for each in self._nodes.values() if each.run)]

    @property
    def silent(self) -> tuple[str, ...]:
        """Return the names of the nodes that do not answer."""
        return tuple(
            sorted(each.name for each in self._nodes.values() if each.suspect and not each.over)
        )

    async def first_answers(self) -> None:
        """Wait until each node has told its rows, or does not answer; not for long."""
        waits = [each.answered.wait() for each in self._nodes.values()]
        try:
            async with asyncio.timeout(FIRST_S):
                await asyncio.gather(*waits)
        except TimeoutError:
            pass

    def _poll(self, node: Node, elsewhere: Elsewhere) -> None:
        """Follow nodes that have come, and say of those that have gone what went with them."""
        # Late: without a cluster, nothing of it is imported.
        from frontdesk.gateway.rows.node_rows import NodeRows

        there = {
            each.node.incarnation: each
            for each in node.nodes()
            if each.node.incarnation != node.incarnation and not node.is_dead(each.node.incarnation)
        }
        for incarnation, status in there.items():
            if incarnation not in self._nodes:
                rows = NodeRows(
                    elsewhere.asking_rows(status),
                    indexed=partial(elsewhere.indexed_rows, status, self.tenant_id),
                    run=incarnation,
                    name=status.node.name,
                    tenant_id=self.tenant_id,
                    clock=self._clock,
                    wakers=self.wakers,
                )
                self._nodes[incarnation] = rows
                name = f"frontdesk rows of {status.node.name}"
                self._tasks[incarnation] = asyncio.create_task(rows.follow(), name=name)
        for incarnation in [each for each in self._tasks if each not in there]:
            self._tasks.pop(incarnation).cancel()
            ending = asyncio.create_task(self._end_node(self._nodes[incarnation], elsewhere))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
        for incarnation in [key for key, each in self._nodes.items() if each.over][:-DEAD]:
            del self._nodes[incarnation]
        self._polling = asyncio.get_running_loop().call_later(POLL_S, self._poll, node, elsewhere)

    async def _end_node(self, dead: NodeRows, elsewhere: Elsewhere) -> None:
        """Say what became of a dead node's sessions; of those that others have, they do."""
        stored = await elsewhere.stored_among(tuple(dead.keys))
        others = {
            registry_key(row.tenant_id, row.session_id)
            for source in self.sources()
            if stored and source is not dead and not source.over
            for row in source.rows(self.tenant_id)
        }
        dead.end(elsewhere.reason_of_end, stored=stored, others=others)


class RowScopes:
    """Give each reader the scope that it reads. Belongs to one event loop."""

    def __init__(self, local: LocalRows, *, clock: Clock) -> None:
        self._local, self._clock = local, clock
        self._scopes: dict[str | None, RowScope] = {}

    def __len__(self) -> int:
        """Return how many scopes are read, or were just now."""
        return len(self._scopes)

    def enter(
        self, tenant_id: str | None, *, node: Node | None, elsewhere: Elsewhere | None
    ) -> RowScope:
        """Begin to read; `leave` it."""
        scope = self._scopes.get(tenant_id)
        if scope is None:
            scope = RowScope(self._local, tenant_id=tenant_id, clock=self._clock)
            self._scopes[tenant_id] = scope
            scope.start(node, elsewhere)
        scope.readers += 1
        if scope.ending is not None:
            scope.ending.cancel()
            scope.ending = None
        return scope

    def leave(self, scope: RowScope) -> None:
        """Read no more. It goes on for a while: a reader that was cut off comes back."""
        scope.readers -= 1
        if not scope.readers and not self._local.closed:
            loop = asyncio.get_running_loop()
            scope.ending = loop.call_later(LINGER_S, self._end, scope)

    def _end(self, scope: RowScope) -> None:
        if self._scopes.pop(scope.tenant_id, None) is not None:
            scope.end()

    def close(self) -> None:
        """Follow nobody any more; whoever reads is told that it is over."""
        for scope in list(self._scopes.values()):
            if scope.ending is not None:
                scope.ending.cancel()
            self._end(scope)
