"""An operator's order to a node: that it leaves new sessions to others.

Above the questions between nodes, beside what operators see. The order goes to the node itself,
which says so to all with its lease; a node that has it already stays as it is.
"""

from __future__ import annotations

import msgspec

from frontdesk.cluster.node import Node
from frontdesk.cluster.records import NodeState, NodeStatus
from frontdesk.gateway.elsewhere import Drained
from frontdesk.gateway.errors import NodeNotFound
from frontdesk.gateway.forwarding.node_calls import NodeCalls
from frontdesk.gateway.gateway import Gateway

DRAIN = "/-/drain"


class NodeDrains:
    """Have nodes drain, this one included. Belongs to one event loop."""

    def __init__(self, gateway: Gateway, node: Node, calls: NodeCalls) -> None:
        self._gateway, self._node, self._calls = gateway, node, calls
        calls.answers |= {DRAIN: self.answer_drain}

    async def drain(self, node: str) -> Drained:
        """Have the node drain that has this name or incarnation.

        `NodeNotFound`; `OwnerUnreachable` where it does not answer.
        """
        status = self._named(node)
        if status.node.incarnation == self._node.incarnation:
            return Drained(status, self._gateway.begin_passing_on())
        return Drained(status, await self._calls.ask(status, DRAIN, b"", kind=bool))

    def _named(self, node: str) -> NodeStatus:
        """Return the node; of two lives of one name the one that lives, not the one before it."""
        found = [
            each for each in self._node.nodes() if node in (each.node.name, each.node.incarnation)
        ]
        if not found:
            raise NodeNotFound(node)
        return min(found, key=lambda each: each.state is not NodeState.ALIVE)

    async def answer_drain(self, _: bytes) -> bytes:
        """Drain as another node says; answer whether that is new."""
        return msgspec.json.encode(self._gateway.begin_passing_on())
