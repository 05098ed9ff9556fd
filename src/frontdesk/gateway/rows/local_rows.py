"""The rows of this process: each made anew where its session has changed, while somebody reads.

It observes the sessions (`SessionObserver`). Without a reader it notes when each was last active,
and what has ended; with one, it marks what changes and makes these rows a few times a second,
however often they have changed, into a ring that readers follow with a cursor each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from frontdesk.agents.events import Event, MessageDelta, SessionEnd, ThinkingDelta
from frontdesk.agents.ids import registry_key
from frontdesk.clock import Clock
from frontdesk.feed import Ring, Wakers
from frontdesk.gateway.rows.last_ends import LastEnds
from frontdesk.gateway.rows.last_hour import LastHour
from frontdesk.schemas.row_schemas import GoneRow, RowState, SessionRow
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.event_log import LoggedEvent
from frontdesk.sessions.phases import SessionPhase

PERIOD_S = 0.25
"""A row is sent at most four times a second."""
CAPACITY = 4096
LINGER_S = 10.0
"""How long it goes on without a reader: one that was cut off comes back."""


class ChangedRows:
    """Rows that have changed together."""

    __slots__ = ("changed", "gone")

    def __init__(self, changed: tuple[SessionRow, ...], gone: tuple[GoneRow, ...]) -> None:
        self.changed, self.gone = changed, gone


class LocalRows:
    """See sessions change; make rows of them for those who read. Belongs to one event loop."""

    def __init__(
        self,
        *,
        clock: Clock,
        node: str,
        live: Callable[[], Iterable[Conversation]],
    ) -> None:
        self._clock, self._node, self._live = clock, node, live
        self.ends: LastEnds = LastEnds(clock, node=node)
        self.hour: LastHour = LastHour(clock)
        self.ring: Ring[ChangedRows] = Ring(capacity=CAPACITY)
        self.wakers: Wakers = Wakers()
        self._active: dict[str, int] = {}
        self._marked: dict[str, Conversation] = {}
        self._gone: list[GoneRow] = []
        self._readers = 0
        self._reading = False
        self._timer: asyncio.TimerHandle | None = None
        self._lingering: asyncio.TimerHandle | None = None

    # -- what it sees ----------------------------------------------------------------------------

    def on_started(self, conversation: Conversation) -> None:
        """See a session that lives from now on."""
        self.hour.count(conversation.tenant_id)
        self._touch(conversation)

    def on_event(self, conversation: Conversation, event: Event, logged: LoggedEvent) -> None:  # noqa: ARG002
        """See an event; the pieces of a message change no row."""
        kind = type(event)
        if kind is MessageDelta or kind is ThinkingDelta:
            return
        if kind is SessionEnd:
            self._on_end(conversation)
        else:
            self._touch(conversation)

    def on_changed(self, conversation: Conversation) -> None:
        """See that a session restarts, or begins to end."""
        self._touch(conversation)

    def _touch(self, conversation: Conversation) -> None:
        key = registry_key(conversation.tenant_id, conversation.session_id)
        self._active[key] = self._clock.wall_ms()
        if self._reading:
            self._marked[key] = conversation
            self._send_soon()

    def _on_end(self, conversation: Conversation) -> None:
        key = registry_key(conversation.tenant_id, conversation.session_id)
        self._active.pop(key, None)
        reason = conversation.ending_reason
        assert reason is not None, "it has ended"
        self.hour.count(conversation.tenant_id, reason.kind.value)
        end = self.ends.add(conversation, reason)
        if self._reading:
            self._marked.pop(key, None)
            gone = GoneRow(
                tenant_id=end.tenant_id,
                session_id=end.session_id,
                fence=end.fence,
                reason=end.reason,
                at=end.at,
            )
            self._gone.append(gone)
            self._send_soon()

    # -- who reads -------------------------------------------------------------------------------

    def enter(self) -> None:
        """Begin to read: from now on changes are put into the ring."""
        self._readers += 1
        self._reading = True
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    def leave(self) -> None:
        """Read no more."""
        self._readers -= 1
        if not self._readers:
            self._lingering = asyncio.get_running_loop().call_later(LINGER_S, self._rest)

    def close(self) -> None:
        """Do nothing more."""
        for timer in (self._timer, self._lingering):
            if timer is not None:
                timer.cancel()
        self._reading = False
        self.wakers.wake_all()

    def _rest(self) -> None:
        self._reading = False
        self._marked.clear()
        self._gone.clear()
        # What comes from now on is in no slot: who reads later begins anew.
        self.ring.restart(self.ring.head + 1)

    def _send_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._send)

    def _send(self) -> None:
        self._timer = None
        marked, gone = self._marked, self._gone
        self._marked, self._gone = {}, []
        changed = tuple(
            self.row(each) for each in marked.values() if each.phase is not SessionPhase.ENDED
        )
        if changed or gone:
            self.ring.append(ChangedRows(changed, tuple(gone)))
            self.wakers.wake_all()

    # -- rows ------------------------------------------------------------------------------------

    def rows(self) -> list[Conversation]:
        """Return the sessions that there are rows of now."""
        return [each for each in self._live() if each.phase is not SessionPhase.ENDED]

    def row(self, conversation: Conversation) -> SessionRow:
        """Make the row of a session."""
        counters, parts = conversation.counters, conversation.parts
        key = registry_key(conversation.tenant_id, conversation.session_id)
        state: RowState = conversation.state
        if conversation.phase is SessionPhase.ENDING:
            state = "stopping"
        return SessionRow(
            tenant_id=conversation.tenant_id,
            session_id=conversation.session_id,
            fence=str(conversation.fence),
            state=state,
            created_at=conversation.created_at,
            last_activity_at=self._active.get(key, conversation.created_at),
            blueprint=conversation.blueprint,
            model=conversation.model,
            turns=counters.turns,
            tokens=counters.tokens.total,
            cost_usd=counters.tokens.cost_usd,
            approvals=len(parts.approvals),
            questions=len(parts.questions),
            key_id=conversation.api_key,
            node=self._node,
        )
