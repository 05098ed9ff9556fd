"""What one node asks another for its rows, and what it answers.

Every question is answered with what has changed after a position, once something has or `WAIT_S`
are over; where that is not held, with all rows, a page at a time. So a node makes rows only while
it is asked for them.
"""

from __future__ import annotations

import asyncio

import msgspec

from frontdesk.feed import FellBehind
from frontdesk.gateway.rows.changed_rows import CAPACITY, NewestRows
from frontdesk.gateway.rows.local_rows import LocalRows
from frontdesk.schemas.row_schemas import GoneRow, Minute, SessionRow

WAIT_S = 5.0
PAGE = 2000
"""So many rows an answer has at most when it begins anew."""


class RowsQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Whose rows, after which position of which run; `page` goes on with all of them."""

    run: str
    position: int
    tenant_id: str | None
    since_ms: int
    page: int | None = None


class RowsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Rows as they are, what has gone, and how far that is.

    `anew` says that nothing from before counts; then `page` is the next page, null after the last.
    """

    run: str
    position: int
    rows: list[SessionRow]
    gone: list[GoneRow]
    minutes: list[Minute]
    anew: bool = False
    page: int | None = None


async def answer_rows(rows: LocalRows, question: RowsQuestion) -> RowsAnswer:
    """Answer another node's question, waiting until there is something to say."""
    rows.enter()
    try:
        if question.page is not None:
            return _page(rows, question, question.page, position=question.position)
        deadline = asyncio.get_running_loop().time() + WAIT_S
        position = question.position
        while question.run == rows.run and position <= rows.ring.head:
            try:
                batches = rows.ring.read(position, limit=CAPACITY)
            except FellBehind:
                break
            position += len(batches)
            newest = NewestRows()
            for each in batches:
                newest.add(each, question.tenant_id)
            if (
                newest.rows
                or newest.gone
                or rows.closed
                or not await _wait(rows, position, until=deadline)
            ):
                return RowsAnswer(
                    run=rows.run,
                    position=position,
                    rows=list(newest.rows.values()),
                    gone=newest.gone,
                    minutes=_minutes(rows, question),
                )
        return _page(rows, question, 0, position=rows.ring.head)
    finally:
        rows.leave()


def _page(rows: LocalRows, question: RowsQuestion, page: int, *, position: int) -> RowsAnswer:
    found, following = rows.page(question.tenant_id, after=page, limit=PAGE)
    return RowsAnswer(
        run=rows.run,
        position=position,
        rows=found,
        gone=[],
        minutes=_minutes(rows, question),
        anew=True,
        page=following,
    )


def _minutes(rows: LocalRows, question: RowsQuestion) -> list[Minute]:
    return list(rows.minutes(question.tenant_id, since_ms=question.since_ms))


async def _wait(rows: LocalRows, position: int, *, until: float) -> bool:
    """Wait for a change; False where none came in time."""
    try:
        async with asyncio.timeout_at(until):
            await rows.wakers[0].wait_async(lambda: rows.ring.head > position or rows.closed)
    except TimeoutError:
        return False
    return True
