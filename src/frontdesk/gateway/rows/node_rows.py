"""Another node's rows of a tenant, or of all, as they are told to this one while somebody reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence

import msgspec

from frontdesk.agents.ids import registry_key
from frontdesk.clock import Clock
from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.feed import Ring, Wakers
from frontdesk.gateway.rows.changed_rows import CAPACITY, ChangedRows
from frontdesk.gateway.rows.last_hour import MINUTE_MS, MINUTES
from frontdesk.gateway.rows.row_questions import RowsAnswer, RowsQuestion
from frontdesk.schemas.row_schemas import GoneRow, Minute, SessionRow

AGAIN_S = 0.5
"""How long after a question that was not answered it is asked again."""

NOTHING = ChangedRows((), ())

Indexed = Callable[[], Awaitable[list[SessionRow]]]
Ask = Callable[[RowsQuestion], Awaitable[RowsAnswer]]


class NodeRows:
    """Follow a node by asking it, for as long as `follow` runs. Belongs to one event loop.

    Its positions are the node's own, so that a reader may go on with them at any other node.
    `indexed` gives what the index knows of its sessions, under the name `run`, where it does not
    answer from the first.
    """

    def __init__(
        self,
        ask: Ask,
        *,
        indexed: Indexed,
        run: str,
        name: str,
        tenant_id: str | None,
        clock: Clock,
        wakers: Wakers,
    ) -> None:
        self.name: str = name
        self.run: str = ""
        """Of the node; empty until it has told all its rows once."""
        self.ring: Ring[ChangedRows] = Ring(capacity=CAPACITY)
        self.suspect: bool = False
        self.over: bool = False
        self.answered: asyncio.Event = asyncio.Event()
        """It has told all its rows, or does not answer."""
        self._ask, self._indexed, self._run = ask, indexed, run
        self._tenant_id, self._clock, self._wakers = tenant_id, clock, wakers
        self._rows: dict[str, SessionRow] = {}
        self._minutes: dict[int, Minute] = {}
        self._since_ms = 0

    async def follow(self) -> None:
        """Ask for what has changed, again and again."""
        page: int | None = None
        coming: dict[str, SessionRow] = {}
        run, position = "", 0
        while True:
            question = RowsQuestion(
                run=run,
                position=position,
                tenant_id=self._tenant_id,
                since_ms=self._since_ms,
                page=page,
            )
            try:
                answer = await self._ask(question)
            except OwnerUnreachable:
                if not self.run:
                    # It has never said anything: then the rows are what the index knows.
                    rows = {_key_of(row): row for row in await self._indexed()}
                    self._begin_anew(rows, run=self._run, position=0)
                self._set_suspect(True)
                await asyncio.sleep(AGAIN_S)
                continue
            if answer.anew:
                coming = {} if page is None or answer.run != run else coming
                coming.update((_key_of(row), row) for row in answer.rows)
                page = answer.page
                if page is None:
                    self._begin_anew(coming, run=answer.run, position=answer.position)
                    coming = {}
            else:
                self._take(answer)
            run, position = answer.run, answer.position
            self._take_minutes(answer.minutes)
            self._set_suspect(False)

    def _begin_anew(self, rows: dict[str, SessionRow], *, run: str, position: int) -> None:
        self._rows, self.run = rows, run
        self.ring.restart(position)
        self.answered.set()
        self._wakers.wake_all()

    def _take(self, answer: RowsAnswer) -> None:
        for gone in answer.gone:
            key = registry_key(gone.tenant_id, gone.session_id)
            known = self._rows.get(key)
            if known is not None and known.fence == gone.fence:
                del self._rows[key]
        self._rows.update((_key_of(row), row) for row in answer.rows)
        if answer.position > self.ring.head:
            # Several of the node's changes in one: who has come from another node, and is between
            # them, gets it whole.
            between = answer.position - self.ring.head - 1
            said = ChangedRows(answer.rows, answer.gone)
            self.ring.extend([*[NOTHING] * between, said])
            if answer.rows or answer.gone:
                self._wakers.wake_all()

    def _take_minutes(self, minutes: Sequence[Minute]) -> None:
        now_ms = self._clock.wall_ms()
        self._since_ms = now_ms - MINUTE_MS
        self._minutes.update((each.at, each) for each in minutes)
        oldest = now_ms - MINUTES * MINUTE_MS
        for at in [each for each in self._minutes if each <= oldest]:
            del self._minutes[at]

    def _set_suspect(self, suspect: bool) -> None:
        if suspect != self.suspect:
            self.suspect = suspect
            self._wakers.wake_all()

    @property
    def keys(self) -> Collection[str]:
        """The keys in the registry of its sessions."""
        return self._rows.keys()

    def end(
        self, reason_of: Callable[[str], str], *, stored: Collection[str], others: Collection[str]
    ) -> None:
        """Say what became of its sessions: the node is dead.

        Those that are `stored` are dormant, unless `others` have them by now; the rest have gone,
        each for a reason.
        """
        now_ms = self._clock.wall_ms()
        dormant = [
            msgspec.structs.replace(row, state="dormant", approvals=0, questions=0)
            for key, row in self._rows.items()
            if key in stored and key not in others
        ]
        gone = [
            GoneRow(
                tenant_id=row.tenant_id,
                session_id=row.session_id,
                fence=row.fence,
                reason=reason_of(key),
                at=now_ms,
            )
            for key, row in self._rows.items()
            if key not in stored
        ]
        self._rows.clear()
        self.over = True
        self.answered.set()
        self.ring.append(ChangedRows(dormant, gone))
        self._wakers.wake_all()

    def rows(self, tenant_id: str | None) -> Iterator[SessionRow]:
        """Give the rows, as the node last told them; all are of the tenant that it is asked for."""
        del tenant_id
        for row in list(self._rows.values()):
            yield msgspec.structs.replace(row, state="suspect") if self.suspect else row

    def count(self, tenant_id: str | None) -> int:
        """Return how many rows the node has told."""
        del tenant_id
        return len(self._rows)

    def minutes(self, tenant_id: str | None, *, since_ms: int) -> Sequence[Minute]:
        """Return what began and ended in each minute that was not over at a moment."""
        del tenant_id
        return [each for at, each in sorted(self._minutes.items()) if at + MINUTE_MS > since_ms]


def _key_of(row: SessionRow) -> str:
    return registry_key(row.tenant_id, row.session_id)
