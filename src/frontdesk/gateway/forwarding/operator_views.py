"""What operators see of all nodes: their numbers, and their sessions.

Above the questions between nodes. A node that does not answer in time is left out: how the nodes
stand, `/healthz` says.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TypeVar

import msgspec

from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.cluster.node import Node
from frontdesk.cluster.records import NodeStatus
from frontdesk.errors import SessionNotFound
from frontdesk.gateway.forwarding.node_calls import NodeCalls
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.routes.operations import numbers_here
from frontdesk.gateway.rows.hosted_rows import HostedQuery, detail_of, hosted_here
from frontdesk.schemas.operator_schemas import GatewayNumbers
from frontdesk.schemas.row_schemas import HostedSession, HostedSessionDetail

NUMBERS, HOSTED, SESSION = "/-/numbers", "/-/hosted", "/-/hosted-session"

T = TypeVar("T")


class OperatorViews:
    """Ask all nodes what operators ask. Belongs to one event loop."""

    def __init__(self, gateway: Gateway, node: Node, calls: NodeCalls) -> None:
        self._gateway, self._node, self._calls = gateway, node, calls
        calls.answers |= {
            NUMBERS: self.answer_numbers,
            HOSTED: self.answer_hosted,
            SESSION: self.answer_session,
        }

    async def numbers(self) -> dict[str, GatewayNumbers]:
        """Return the numbers of each node that answers, by its name."""
        return await self._of_all(NUMBERS, b"", numbers_here(self._gateway), kind=GatewayNumbers)

    async def hosted(self, query: HostedQuery) -> tuple[list[HostedSession], bool]:
        """Return the first sessions of each node that answers, and whether some do not."""
        own = await hosted_here(self._gateway.rows, query)
        body = query.model_dump_json(by_alias=True).encode()
        found = await self._of_all(HOSTED, body, own, kind=list[HostedSession])
        rows = [each for of_node in found.values() for each in of_node]
        return rows, len(found) < len(self._node.nodes())

    async def session(self, key: str) -> HostedSessionDetail | None:
        """Return a session of another node, None where none has it.

        `OwnerUnreachable` where its node does not answer.
        """
        try:
            located = await self._node.find(key)
        except SessionNotFound:
            return None
        if located.node.node.incarnation == self._node.incarnation:
            return None
        body, kind = msgspec.json.encode(key), HostedSessionDetail | None
        answer: HostedSessionDetail | None = await self._calls.ask(
            located.node, SESSION, body, kind=kind
        )
        return answer

    async def _of_all(self, path: str, body: bytes, own: T, *, kind: type[T]) -> dict[str, T]:
        others = [
            each for each in self._node.nodes() if each.node.incarnation != self._node.incarnation
        ]

        async def asked(each: NodeStatus) -> T | None:
            with suppress(OwnerUnreachable):
                answer: T = await self._calls.ask(each, path, body, kind=kind)
                return answer
            return None

        answers = await asyncio.gather(*map(asked, others))
        found = {
            each.node.name: answer
            for each, answer in zip(others, answers, strict=True)
            if answer is not None
        }
        return {self._node.record.name: own, **found}

    # -- what other nodes ask --------------------------------------------------------------------

    async def answer_numbers(self, _: bytes) -> bytes:
        """Answer with this node's numbers."""
        return msgspec.json.encode(numbers_here(self._gateway))

    async def answer_hosted(self, body: bytes) -> bytes:
        """Answer with a page of this node's live sessions."""
        query = HostedQuery.model_validate_json(body)
        return msgspec.json.encode(await hosted_here(self._gateway.rows, query))

    async def answer_session(self, body: bytes) -> bytes:
        """Answer with a session of this node, null where it is not here."""
        key = msgspec.json.decode(body, type=str)
        service = self._gateway.service
        live = service.latest(key) if service.lives(key) else None
        return msgspec.json.encode(None if live is None else detail_of(self._gateway.rows, live))
