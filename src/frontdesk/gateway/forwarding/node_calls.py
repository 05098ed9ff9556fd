"""What nodes ask each other for themselves: an entry, and how sessions are doing.

Above the hops, below the forwarding. Each question has a path, a body in JSON, and an answer in
JSON; both ends are here. They are signed like every request between nodes, and bring no caller.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

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
from frontdesk.records import Fence, Metadata

ENTRY = "/-/entry"
ANSWER_S = 1.5
"""A node's own question waits for its answer no longer."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024


class NodeCalls:
    """Ask other nodes, and answer what they ask. Belongs to one event loop."""

    def __init__(self, gateway: Gateway, node: Node, hops: Hops) -> None:
        self._gateway, self._node, self._hops = gateway, node, hops
        self.answers: dict[str, NodeCall] = {ENTRY: self.answer_entry}

    async def ask_owner(self, session_id: str, node: NodeStatus) -> IndexEntry | None:
        """Ask a node for the entry of a session that lives there; None where none does.

        `OwnerUnreachable` where it does not answer.
        """
        body = msgspec.json.encode(session_id)
        answer: IndexEntry | None = await self.ask(node, ENTRY, body, kind=IndexEntry | None)
        return answer

    async def ask(
        self, node: NodeStatus, path: str, body: bytes, *, kind: Any, within_s: float = ANSWER_S
    ) -> Any:
        """Ask a node, and return its answer, which is of this kind.

        `OwnerUnreachable` where it does not answer in time, or by the rules of another version.
        """
        request = HopRequest("POST", path, body)
        try:
            async with asyncio.timeout(within_s), self._hops.exchange(node, request) as connection:
                answer = await whole_body(connection, limit=MAX_ANSWER_BYTES)
        except (HopBroken, TimeoutError) as error:
            problem = str(error) or "no answer in time"
            raise OwnerUnreachable("", problem=problem) from None
        if connection.status == 200 and not is_from_node(connection):
            with suppress(msgspec.DecodeError):
                return msgspec.json.decode(answer, type=kind)
        raise OwnerUnreachable("", problem="it is another node, or of another version")

    async def answer_entry(self, body: bytes) -> bytes:
        """Answer with the entry of a session of this node, null where it has none."""
        key = msgspec.json.decode(body, type=str)
        fence, entry = self._node.fence(key), None
        if fence is not None and self._gateway.service.lives(key):
            with suppress(SessionNotFound):
                metadata = self._gateway.store.get(key).metadata
                entry = entry_of(metadata, incarnation=self._node.incarnation, fence=fence)
        return msgspec.json.encode(entry)


def entry_of(metadata: Metadata, *, incarnation: str, fence: Fence) -> IndexEntry:
    """Return a session as the index has it, but for what is nobody else's business."""
    entry = NewEntry(
        session_id=metadata.session_id,
        incarnation=incarnation,
        token="",
        tenant_id=metadata.tenant_id,
        api_key=metadata.api_key,
        created_at=metadata.created_at,
        blueprint=metadata.blueprint,
        model=metadata.model,
        pid=metadata.pid,
        minted=False,
    )
    return IndexEntry(entry, fence, fence)
