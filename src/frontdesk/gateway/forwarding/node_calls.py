"""What nodes ask each other for themselves: an entry, and how sessions are doing.

Above the hops, below the forwarding. Each question has a path, a body in JSON, and an answer in
JSON; both ends are here. They are signed like every request between nodes, and bring no caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.cluster.node import Node
from frontdesk.cluster.records import IndexEntry, NewEntry, NodeStatus
from frontdesk.errors import SessionNotFound
from frontdesk.gateway.forwarding.answer_copy import is_from_node, whole_body
from frontdesk.gateway.forwarding.hop_connection import HopBroken
from frontdesk.gateway.forwarding.hops import HopRequest, Hops
from frontdesk.gateway.forwarding.owner_application import NodeCall
from frontdesk.gateway.gateway import Gateway

ENTRY = "/-/entry"
ANSWER_S = 1.5
"""A node's own question waits for its answer no longer."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024


class NodeCalls:
    """Ask other nodes, and answer what they ask. Belongs to one event loop."""

    def __init__(self, gateway: Gateway, node: Node, hops: Hops) -> None:
        self._gateway, self._node, self._hops = gateway, node, hops
        self.answers: Mapping[str, NodeCall] = {ENTRY: self._answer_entry}

    async def ask_owner(self, session_id: str, node: NodeStatus) -> IndexEntry | None:
        """Ask a node for the entry of a session that lives there; None where none does.

        `OwnerUnreachable` where it does not answer.
        """
        answer = await self.ask(node, ENTRY, msgspec.json.encode(session_id))
        return msgspec.json.decode(answer, type=IndexEntry | None)

    async def ask(self, node: NodeStatus, path: str, body: bytes) -> bytes:
        """Ask a node; `OwnerUnreachable` where it does not answer within `ANSWER_S`."""
        request = HopRequest("POST", path, body)
        try:
            async with asyncio.timeout(ANSWER_S), self._hops.exchange(node, request) as connection:
                answer = await whole_body(connection, limit=MAX_ANSWER_BYTES)
        except (HopBroken, TimeoutError) as error:
            problem = str(error) or "no answer in time"
            raise OwnerUnreachable("", problem=problem) from None
        if connection.status != 200 or is_from_node(connection):
            raise OwnerUnreachable("", problem="it is another node, or of another version")
        return answer

    async def _answer_entry(self, body: bytes) -> bytes:
        key = msgspec.json.decode(body, type=str)
        return msgspec.json.encode(self._entry(key))

    def _entry(self, key: str) -> IndexEntry | None:
        gateway, node = self._gateway, self._node
        fence = node.fence(key)
        if fence is None or not gateway.service.lives(key):
            return None
        try:
            session = gateway.store.get(key)
        except SessionNotFound:
            return None
        entry = NewEntry(
            session_id=key,
            incarnation=node.incarnation,
            token="",  # nobody else's business
            tenant_id=session.tenant_id,
            api_key=session.api_key,
            created_at=session.created_at,
            blueprint=session.blueprint,
            model=session.model,
            pid=session.pid,
            minted=False,
        )
        return IndexEntry(entry, fence, fence)
