"""The last ends of sessions: why, after how long, and what they were."""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from itertools import islice
from typing import Any

from frontdesk.clock import Clock
from frontdesk.records import ExitReason
from frontdesk.schemas.row_schemas import EndedSession

MOST = 1000
"""Of a tenant's, and of all that an operator is shown."""
MOST_TOGETHER = 20_000


class LastEnds:
    """Hold the last ends of each tenant. A tenant with many ends costs no other one its own."""

    __slots__ = ("_by_tenant", "_clock", "_count", "_node")

    def __init__(self, clock: Clock, *, node: str) -> None:
        self._clock, self._node = clock, node
        self._by_tenant: dict[str, deque[EndedSession]] = {}
        self._count = 0

    def add(self, conversation: Any, reason: ExitReason) -> EndedSession:
        """Note how a conversation has ended."""
        tokens = conversation.counters.tokens
        end = EndedSession(
            tenant_id=conversation.tenant_id,
            session_id=conversation.session_id,
            fence=str(conversation.fence),
            reason=str(reason),
            at=self._clock.wall_ms(),
            age_ms=conversation.uptime_ms,
            turns=conversation.counters.turns,
            tokens=tokens.total,
            cost_usd=tokens.cost_usd,
            blueprint=conversation.blueprint,
            model=conversation.model,
            key_id=conversation.api_key,
            node=self._node,
            log_id=log_id_of(conversation),
        )
        ends = self._by_tenant.setdefault(conversation.tenant_id, deque(maxlen=MOST))
        self._count += len(ends) < MOST
        ends.append(end)
        if self._count > MOST_TOGETHER:
            most = max(self._by_tenant, key=lambda tenant_id: len(self._by_tenant[tenant_id]))
            self._by_tenant[most].popleft()
            self._count -= 1
        return end

    def newest(self, tenant_id: str | None) -> list[EndedSession]:
        """Return the last ends of a tenant, or of all, the newest first."""
        if tenant_id is not None:
            return list(reversed(self._by_tenant.get(tenant_id, ())))
        newest_first = (reversed(each) for each in self._by_tenant.values())
        return list(islice(heapq.merge(*newest_first, key=lambda end: -end.at), MOST))


def log_id_of(conversation: Any) -> str:
    """Return what stands in the log's line of a session's end."""
    named = f"{conversation.tenant_id}/{conversation.session_id}/{conversation.fence}"
    return hashlib.sha256(named.encode()).hexdigest()[:16]
