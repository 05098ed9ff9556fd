"""The last ends of sessions: why, after how long, and what they were."""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from frontdesk.clock import Clock
from frontdesk.records import Ended, ExitReason
from frontdesk.schemas.row_schemas import EndedSession
from frontdesk.sessions.conversation import Conversation

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

    def add(self, conversation: Conversation, reason: ExitReason) -> EndedSession:
        """Note how a conversation has ended."""
        tokens = conversation.counters.tokens
        end = EndedSession(
            tenant_id=conversation.tenant_id,
            session_id=conversation.session_id,
            fence=str(conversation.fence),
            reason=reason.public_text,
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
        self._add(end)
        return end

    def add_lost(self, ended: Ended, *, tenant_id: str, session_id: str, node: str) -> EndedSession:
        """Note the end of a session whose node died: what the index knows of it, and no more."""
        session = ended.session
        fence = fence_of_entry(session.session_id, session.fence)
        end = EndedSession(
            tenant_id=tenant_id,
            session_id=session_id,
            fence=fence,
            reason=ended.reason.public_text,
            at=ended.ended_at,
            age_ms=max(ended.ended_at - session.created_at, 0),
            turns=0,
            tokens=0,
            cost_usd=0.0,
            blueprint=session.blueprint or "",
            model=session.model or "",
            key_id=session.api_key,
            node=node,
            log_id=_log_id(tenant_id, session_id, fence),
        )
        self._add(end)
        return end

    def _add(self, end: EndedSession) -> None:
        ends = self._by_tenant.setdefault(end.tenant_id, deque(maxlen=MOST))
        self._count += len(ends) < MOST
        ends.append(end)
        if self._count > MOST_TOGETHER:
            most = max(self._by_tenant, key=lambda tenant_id: len(self._by_tenant[tenant_id]))
            self._by_tenant[most].popleft()
            self._count -= 1
            if not self._by_tenant[most]:
                del self._by_tenant[most]

    def newest(self, tenant_id: str | None) -> list[EndedSession]:
        """Return the last ends of a tenant, or of all, the newest first."""
        if tenant_id is not None:
            return list(reversed(self._by_tenant.get(tenant_id, ())))
        return merged([list(reversed(each)) for each in self._by_tenant.values()])


def merged(newest_first: Sequence[Iterable[EndedSession]]) -> list[EndedSession]:
    """Return the newest of several lists of ends, each once: what several nodes tell is one end."""
    together = heapq.merge(*newest_first, key=lambda end: -end.at)
    return list(islice(_once(together), MOST))


def _once(ends: Iterable[EndedSession]) -> Iterator[EndedSession]:
    told: set[tuple[str, str, str]] = set()
    for end in ends:
        name = (end.tenant_id, end.session_id, end.fence)
        if name not in told:
            told.add(name)
            yield end


def log_id_of(conversation: Conversation) -> str:
    """Return what stands in the log's line of a session's end."""
    return _log_id(conversation.tenant_id, conversation.session_id, str(conversation.fence))


def fence_of_entry(key: str, fence: int) -> str:
    """Return what tells a session from others of its id, where its own node cannot say.

    The fence that clients knew went with that; the index's counts every tenant's sessions, and is
    not for them.
    """
    return hashlib.sha256(f"{key}/{fence}".encode()).hexdigest()[:16]


def _log_id(tenant_id: str, session_id: str, fence: str) -> str:
    return hashlib.sha256(f"{tenant_id}/{session_id}/{fence}".encode()).hexdigest()[:16]
