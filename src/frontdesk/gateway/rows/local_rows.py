"""The rows of this process: each made anew where its session has changed, while somebody reads.

It observes the sessions (`SessionObserver`). Without a reader it notes when each was last active,
and what has ended; with one, it marks what changes and makes these rows a few times a second,
however often they have changed, into a ring that readers follow with a cursor each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import nsmallest

from frontdesk.agents.events import Event, MessageDelta, SessionEnd, ThinkingDelta
from frontdesk.clock import Clock
from frontdesk.feed import Ring, Wakers
from frontdesk.gateway.rows.changed_rows import CAPACITY, PERIOD_S, ChangedRows
from frontdesk.gateway.rows.last_ends import LastEnds
from frontdesk.gateway.rows.last_hour import LastHour
from frontdesk.records import ExitReason
from frontdesk.schemas.row_schemas import GoneRow, Minute, RowState, SessionRow
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.event_log import LoggedEvent
from frontdesk.sessions.phases import SessionPhase
from frontdesk.sessions.session_snapshot import SessionSnapshot

LINGER_S = 10.0
"""How long it goes on without a reader: one that was cut off comes back."""
UNSEEN = (SessionPhase.OPENING, SessionPhase.ENDED)
"""In these a session is in no list: it may never be there, or is there no more."""


class LocalRows:
    """See sessions change; make rows of them for those who read. Belongs to one event loop.

    `held` gives the sessions of a tenant, None of all: those that live, and the dormant ones that
    are in memory, which were used last. `run` names this life of the process.
    """

    suspect: bool = False
    over: bool = False

    def __init__(
        self,
        *,
        clock: Clock,
        node: str,
        run: str,
        held: Callable[[str | None], Iterable[Conversation]],
    ) -> None:
        self._clock, self._node, self._held = clock, node, held
        self.run: str = run
        self.ends: LastEnds = LastEnds(clock, node=node)
        self.hour: LastHour = LastHour(clock)
        self.ring: Ring[ChangedRows] = Ring(capacity=CAPACITY)
        self.wakers: list[Wakers] = [Wakers()]
        """Who is woken where something has changed: the first are who reads this process alone."""
        self.closed: bool = False
        self._active: dict[Conversation, int] = {}
        self._marked: set[Conversation] = set()
        self._gone: list[GoneRow] = []
        self._readers = 0
        self._reading = False
        self._timer: asyncio.TimerHandle | None = None
        self._lingering: asyncio.TimerHandle | None = None

    # -- what it sees ----------------------------------------------------------------------------

    def on_started(self, conversation: Conversation) -> None:
        """See a session that lives from now on; one that was dormant has begun before."""
        if conversation.phase is not SessionPhase.RESTARTING:
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

    def on_published(self, conversation: Conversation) -> None:
        """See that more of a session may be told: it is stored by now."""
        self._mark(conversation)

    def on_dormant(self, conversation: Conversation, reason: ExitReason) -> None:  # noqa: ARG002
        """See that a session is dormant from now on: when it was last active stays."""
        self._mark(conversation)

    def on_loaded(self, conversation: Conversation) -> None:
        """See a dormant session that has a row from now on."""
        self._active[conversation] = conversation.last_activity_at
        self._mark(conversation)

    def on_unloaded(self, conversation: Conversation) -> None:
        """Forget a dormant session. Readers hear nothing: what they were told of it is still so."""
        self._active.pop(conversation, None)
        self._marked.discard(conversation)

    def on_recovered(self, *, conversations: int, turns: int) -> None:
        """See nothing of it: none of them is held here."""

    def _touch(self, conversation: Conversation) -> None:
        self._active[conversation] = self._clock.wall_ms()
        self._mark(conversation)

    def _mark(self, conversation: Conversation) -> None:
        if self._reading:
            self._marked.add(conversation)
            self._send_soon()

    def _on_end(self, conversation: Conversation) -> None:
        if self._active.pop(conversation, None) is None:
            return  # it never began
        reason = conversation.ending_reason
        assert reason is not None, "it has ended"
        self.hour.count(conversation.tenant_id, reason.kind.value)
        end = self.ends.add(conversation, reason)
        if self._reading:
            self._marked.discard(conversation)
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

    @property
    def reading(self) -> bool:
        """Whether somebody reads, or has just done so: only then are there changes."""
        return self._reading

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
        if not self._readers and not self.closed:
            self._lingering = asyncio.get_running_loop().call_later(LINGER_S, self._rest)

    def close(self) -> None:
        """Say what is left to say, and nothing more; who reads ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._send()
        if self._lingering is not None:
            self._lingering.cancel()
        self.closed, self._reading = True, False
        self._wake()

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
        self._marked, self._gone = set(), []
        changed = [row for each in marked if (row := self.row(each)) is not None]
        if changed or gone:
            self.ring.append(ChangedRows(changed, gone))
            self._wake()

    def _wake(self) -> None:
        for each in self.wakers:
            each.wake_all()

    # -- rows ------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Return the time that rows are made by."""
        return self._clock.wall_ms()

    def live(self, tenant_id: str | None) -> list[Conversation]:
        """Return the sessions of a tenant, or of all, that there may be rows of."""
        return list(self._held(tenant_id))

    def rows(self, tenant_id: str | None) -> Iterator[SessionRow]:
        """Give the rows of a tenant, or of all, each as it is when its turn comes."""
        for each in self.live(tenant_id):
            row = self.row(each)
            if row is not None:
                yield row

    def count(self, tenant_id: str | None) -> int:
        """Return about how many rows a tenant has, or all have together."""
        return len(self.live(tenant_id))

    def page(
        self, tenant_id: str | None, *, after: int, limit: int
    ) -> tuple[list[SessionRow], int | None]:
        """Return the rows of sessions opened after one of a number, and the next such number."""
        later = [each for each in self._held(tenant_id) if each.number > after]
        page = nsmallest(limit, later, key=lambda each: each.number)
        rows = [row for each in page if (row := self.row(each)) is not None]
        return rows, page[-1].number if len(later) > limit else None

    def minutes(self, tenant_id: str | None, *, since_ms: int) -> Sequence[Minute]:
        """Return what began and ended in each minute that was not over at a moment."""
        return self.hour.minutes(tenant_id, since_ms=since_ms)

    def row(self, of: Conversation) -> SessionRow | None:
        """Make the row of a session; None where it has ended, or has not begun."""
        if of.phase in UNSEEN or (public := of.public) is None:
            return None
        return SessionRow(
            tenant_id=of.tenant_id,
            session_id=of.session_id,
            fence=str(of.fence),
            state=_state(of, public),
            created_at=of.created_at,
            last_activity_at=self._active.get(of, of.created_at),
            blueprint=of.blueprint,
            model=public.model,
            turns=public.turns,
            tokens=public.tokens.total,
            cost_usd=public.tokens.cost_usd,
            approvals=len(public.approvals),
            questions=len(public.questions),
            key_id=of.api_key,
            node=self._node,
        )


def _state(of: Conversation, public: SessionSnapshot) -> RowState:
    if of.phase is SessionPhase.ENDING:
        return "stopping"
    return "dormant" if of.dormant else public.state
