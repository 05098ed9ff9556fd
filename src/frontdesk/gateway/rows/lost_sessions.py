"""What became of sessions whose node died: the other nodes say so, each to its own readers.

Every other node hears of each from the index. Those that are stored are dormant from then on; the
rest have ended, and every node lists them: lists of several nodes name an end once. What is counted
or logged is told by one of the nodes alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frontdesk.agents.ids import split
from frontdesk.gateway.log_events import LogEvent, log_event
from frontdesk.gateway.rows.local_rows import LocalRows
from frontdesk.records import Ended

if TYPE_CHECKING:
    # Late: without a cluster, nothing of it is imported.
    from frontdesk.cluster.node import Node

StoredAmong = Callable[[Collection[str]], Awaitable[Collection[str]]]
"""Returns which of these keys of the registry are those of stored sessions that have not ended."""
SLICE = 500
"""So many are looked for in the storage at once."""


@dataclass(frozen=True, slots=True)
class LostSession:
    """One of them; `logged` says whether it is this node that counts and logs it."""

    ended: Ended
    node: str
    logged: bool


class LostSessions:
    """Record each once it is known whether it is stored. Belongs to one event loop; `close` it."""

    def __init__(self, rows: LocalRows, *, node: Node, stored_among: StoredAmong) -> None:
        self._rows, self._node, self._stored_among = rows, node, stored_among
        self._waiting: deque[LostSession] = deque()
        self._recording: asyncio.Task[None] | None = None

    def add(self, ended: Ended, incarnation: str) -> None:
        """See that the index has ended a session, whose node is dead."""
        status = self._node.node(incarnation)
        others = (each.node.incarnation for each in self._node.nodes())
        first = min((each for each in others if each != incarnation), default="")
        name = "" if status is None else status.node.name
        self._waiting.append(LostSession(ended, name, logged=self._node.incarnation == first))
        if self._recording is None or self._recording.done():
            self._recording = asyncio.create_task(self._record(), name="frontdesk lost sessions")

    async def close(self) -> None:
        """Record no more."""
        if self._recording is not None:
            self._recording.cancel()
            await asyncio.wait({self._recording})

    async def _record(self) -> None:
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(SLICE, len(self._waiting)))]
            stored = await self._stored_among([each.ended.session.session_id for each in some])
            for lost in some:
                dormant = lost.ended.session.session_id in stored
                record_lost(self._rows, lost, dormant=dormant)


def record_lost(rows: LocalRows, lost: LostSession, *, dormant: bool) -> None:
    """List how a session ended, unless it is dormant; count and log what became of it."""
    ended, facts = lost.ended, dict[str, object]()
    tenant_id, session_id = split(ended.session.session_id)
    if not dormant:
        end = rows.ends.add_lost(ended, tenant_id=tenant_id, session_id=session_id, node=lost.node)
        facts = {"log_id": end.log_id, "age_ms": end.age_ms}
    if lost.logged:
        rows.hour.count(tenant_id, ended.reason.kind.value)
        log_event(
            LogEvent.SESSION_DORMANT if dormant else LogEvent.SESSION_ENDED,
            level=logging.WARNING,
            tenant=tenant_id,
            session_id=session_id,
            blueprint=ended.session.blueprint or "",
            reason=ended.reason.public_text,
            **facts,
        )
