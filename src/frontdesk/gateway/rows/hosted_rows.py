"""Sessions as operators list them: filtered, in an order, a page at a time, and one by itself.

A page of several nodes is made of a page of each: every node gives those that come first after the
cursor, and the first of all these are the page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from heapq import nsmallest
from typing import Annotated, Any

import msgspec
from pydantic import BeforeValidator, Field

from frontdesk.errors import InvalidArgument
from frontdesk.gateway import urlsafe_text
from frontdesk.gateway.queries import PageQuery
from frontdesk.gateway.rows.local_rows import LocalRows
from frontdesk.gateway.rows.row_filter import SORT_KEYS, RowQuery, Sort, TenantOfOperator
from frontdesk.gateway.rows.row_reader import SLICE
from frontdesk.schemas.row_schemas import HostedSession, HostedSessionDetail, SessionRow
from frontdesk.sessions.conversation import Conversation

SHOWN = 40

Position = tuple[float, str, str, str]
"""Where a row stands in a list: its value, and its names where values are the same."""


class HostedQuery(RowQuery, TenantOfOperator, PageQuery):
    """Which sessions operators list, in which order, and which page of them."""

    sort: Annotated[
        Sort,
        BeforeValidator(lambda value: value or "created"),
        Field(description="by this, the smallest first; with `-` in front the greatest"),
    ] = "created"

    def position(self, row: SessionRow) -> Position:
        """Return where a row stands."""
        value = SORT_KEYS[self.sort.removeprefix("-")](row)
        signed = -value if self.sort.startswith("-") else value
        return signed, row.tenant_id, row.session_id, row.fence

    def beginning(self) -> Position | None:
        """Return the position that a page begins after; `InvalidArgument` for what is none."""
        if self.after is None:
            return None
        try:
            sort, value, tenant_id, session_id, fence = msgspec.json.decode(
                urlsafe_text.decoded(self.after), type=tuple[str, float, str, str, str]
            )
            if sort == self.sort:
                return value, tenant_id, session_id, fence
        except ValueError:
            pass
        got = repr(self.after[:SHOWN])
        raise InvalidArgument("after", expected="a cursor from `next`", got=got)

    def cursor(self, row: SessionRow) -> str:
        """Return what continues a list after a row."""
        return urlsafe_text.encoded(msgspec.json.encode((self.sort, *self.position(row))))


async def hosted_here(rows: LocalRows, query: HostedQuery) -> list[HostedSession]:
    """Return the first sessions of this process after the cursor, and one more where there is."""
    beginning, now_ms = query.beginning(), rows.now_ms()
    found: list[tuple[Position, Conversation, SessionRow]] = []
    for number, each in enumerate(rows.live(query.tenant), start=1):
        if number % SLICE == 0:
            await asyncio.sleep(0)
        row = rows.row(each)
        if row is None or not query.takes(row, now_ms=now_ms):
            continue
        position = query.position(row)
        if beginning is None or position > beginning:
            found.append((position, each, row))
    first = nsmallest(query.limit + 1, found, key=lambda one: one[0])
    return [_hosted(conversation, row) for _, conversation, row in first]


def page_of(
    query: HostedQuery, found: Iterable[HostedSession]
) -> tuple[tuple[HostedSession, ...], str | None]:
    """Return the page that all nodes' rows make, and the cursor of the next."""
    in_order = sorted(found, key=query.position)
    page = tuple(in_order[: query.limit])
    return page, query.cursor(page[-1]) if len(in_order) > query.limit else None


def detail_of(rows: LocalRows, conversation: Conversation) -> HostedSessionDetail | None:
    """Return a session by itself; None where it has ended."""
    row, public = rows.row(conversation), conversation.public
    if row is None or public is None:
        return None
    return HostedSessionDetail(
        **_fields(row),
        pid=conversation.pid,
        restarts=public.restarts,
        queued=public.queued,
        running_tools=tuple(each.tool_name for each in public.running_tools),
        waiting_tools=tuple(each.tool_name for each in public.approvals),
    )


def _hosted(conversation: Conversation, row: SessionRow) -> HostedSession:
    return HostedSession(**_fields(row), pid=conversation.pid)


def _fields(row: SessionRow) -> dict[str, Any]:
    return msgspec.structs.asdict(row)
