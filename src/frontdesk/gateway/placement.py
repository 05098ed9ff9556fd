"""Which node of a cluster opens a session that is asked for: this one, but for two cases.

Above the node, below the route that creates. A node that drains has the one with the fewest
sessions do it; and of a request that comes more than once, by its idempotency key, to whichever
nodes, one node makes the answer and has it: who that is, the engine decides.
"""

from __future__ import annotations

import hashlib

from frontdesk.cluster.node import Node
from frontdesk.gateway.elsewhere import Elsewhere
from frontdesk.gateway.errors import IdempotencyMismatch
from frontdesk.gateway.idempotency import STORED_S, Slot


class Placement:
    """Say where sessions are opened. Belongs to one event loop."""

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    async def node_for(
        self, scope: Slot, key: str | None, *, body: bytes, draining_to: Elsewhere | None
    ) -> str | None:
        """Return the other node that opens a session, by its incarnation; None where this one does.

        `scope` and `key` are those of `Idempotency.once`; `draining_to` is given where this node
        drains. A node that dies gives its claims free; one that drains claims for the other, so
        that the answer is not lost with it. Raises `IdempotencyMismatch` where the key came with
        another body before; what the engine raises.
        """
        own = chosen = self._node.incarnation
        if draining_to is not None:
            chosen = draining_to.least_loaded() or own
        if key is not None:
            slot = hashlib.sha256("\0".join((*scope, key)).encode()).hexdigest()
            digest = hashlib.sha256(body).hexdigest()
            claim = await self._node.claim(slot, digest=digest, ttl_s=STORED_S, by=chosen)
            if claim.digest != digest:
                raise IdempotencyMismatch(key)
            chosen = claim.incarnation
        return None if chosen == own else chosen
