"""What operators see of all nodes: their numbers, and their sessions.

Above the questions between nodes. A node that does not answer in time is left out: how the nodes
stand, `/healthz` says.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec

from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.cluster.node import Node
from frontdesk.cluster.records import NodeStatus
from frontdesk.gateway.forwarding.node_calls import NodeCalls
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.routes.operations import hosted_here, numbers_here
from frontdesk.schemas.operator_schemas import GatewayNumbers, HostedSession

NUMBERS, HOSTED = "/-/numbers", "/-/hosted"

T = TypeVar("T")


class OperatorViews:
    """Ask all nodes what operators ask. Belongs to one event loop."""

    def __init__(self, gateway: Gateway, node: Node, calls: NodeCalls) -> None:
        self._gateway, self._node, self._calls = gateway, node, calls
        calls.answers |= {NUMBERS: self.answer_numbers, HOSTED: self.answer_hosted}

    async def numbers(self) -> dict[str, GatewayNumbers]:
        """Return the numbers of each node that answers, by its name."""
        return await self._of_all(NUMBERS, numbers_here(self._gateway), kind=GatewayNumbers)

    async def hosted(self) -> list[HostedSession]:
        """Return the live sessions of each node that answers, oldest first."""
        own = hosted_here(self._gateway)
        found = await self._of_all(HOSTED, own, kind=list[HostedSession])
        rows = [each for of_node in found.values() for each in of_node]
        return sorted(rows, key=lambda each: each.created_at)

    async def _of_all(self, path: str, own: T, *, kind: type[T]) -> dict[str, T]:
        others = [
            each for each in self._node.nodes() if each.node.incarnation != self._node.incarnation
        ]

        async def asked(each: NodeStatus) -> bytes | None:
            try:
                return await self._calls.ask(each, path, b"")
            except OwnerUnreachable:
                return None

        answers = await asyncio.gather(*map(asked, others))
        found = {
            each.node.name: msgspec.json.decode(answer, type=kind)
            for each, answer in zip(others, answers, strict=True)
            if answer is not None
        }
        return {self._node.record.name: own, **found}

    # -- what other nodes ask --------------------------------------------------------------------

    async def answer_numbers(self, _: bytes) -> bytes:
        """Answer with this node's numbers."""
        return msgspec.json.encode(numbers_here(self._gateway))

    async def answer_hosted(self, _: bytes) -> bytes:
        """Answer with this node's live sessions."""
        return msgspec.json.encode(hosted_here(self._gateway))
