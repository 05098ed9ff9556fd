"""One reader's stream of rows: everything in pages, then what changes.

Beside the event stream, which it is like: written as ASGI, without a queue for anybody. It is a
cursor on the ring of `LocalRows`; one that has fallen off the ring gets everything again. An
event's id says which run of the gateway it is of and how far it has come, so that a client that
comes back gets what it has missed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import msgspec

from frontdesk.feed import FellBehind
from frontdesk.gateway.client_connection import connection_of
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.open_streams import StreamKind
from frontdesk.gateway.queries import query_of
from frontdesk.gateway.request_context import RequestContext
from frontdesk.gateway.rows.local_rows import ChangedRows
from frontdesk.gateway.rows.row_filter import FeedQuery, OperatorFeedQuery
from frontdesk.gateway.sse import end, start
from frontdesk.schemas.answer_schemas import Answer
from frontdesk.schemas.row_schemas import (
    Hour,
    LeftRow,
    Now,
    RowChanges,
    SessionRow,
    SnapshotPage,
    TooManyRows,
)

PAGE = 500
MOST = 20_000
"""Rows that are listed; where more match, they are counted."""
SIGN_S = 5.0
"""How often the feed gives a sign of life."""
RETRY = b"retry: 1000\n\n"


class RowStream:
    """One client's feed of sessions: its tenant's, or, for an operator, everybody's."""

    def __init__(self, gateway: Gateway, context: RequestContext) -> None:
        self._gateway, self._context = gateway, context
        self._rows = gateway.rows
        self._tenant_id = context.tenant_key.tenant_id
        self._ended = asyncio.Event()
        self._sent: set[str] = set()
        """What a filtered feed has shown: what matches no more is taken back."""
        self._hour_ms = 0

    async def run(self) -> None:
        """Send rows until the client leaves, or its key is revoked."""
        operator = self._tenant_id is None
        query = query_of(self._context.query, OperatorFeedQuery if operator else FeedQuery)
        if isinstance(query, OperatorFeedQuery):
            self._tenant_id = query.tenant
        self._query = query
        key, connection = self._context.tenant_key, connection_of(self._context.scope)
        listener: asyncio.Task[None] | None = None
        try:
            self._gateway.streams.enter(key, self._on_key_revoked, kind=StreamKind.ROWS)
            self._rows.enter()
            await self._context.send(start(SIGN_S))
            await self._send(RETRY)
            if connection is not None:
                connection.on_disconnect = self._end
            else:
                listener = asyncio.create_task(self._wait_for_disconnect())
            await self._follow(self._context.header(b"last-event-id") or query.since)
            await self._context.send_on(end())
        finally:
            self._gateway.streams.leave(key, self._on_key_revoked)
            self._rows.leave()
            if listener is not None:
                listener.cancel()
            if connection is not None:
                connection.on_disconnect = None

    async def head(self) -> None:
        """Answer as the feed would begin, without one."""
        operator = self._tenant_id is None
        query_of(self._context.query, OperatorFeedQuery if operator else FeedQuery)
        await self._context.send(start(SIGN_S))
        await self._context.send_on(end())

    # -- what is sent ----------------------------------------------------------------------------

    async def _follow(self, since: str | None) -> None:
        position = self._position(since)
        await self._send(self._frame("now", Now(at=self._gateway.clock.wall_ms())))
        await self._send_hour()
        while not self._ended.is_set():
            if position is None:
                position = self._rows.ring.head
                async for frame in self._everything(position):
                    await self._send(frame)
            try:
                batch = self._rows.ring.read(position)
            except FellBehind:
                position = None
                continue
            if batch:
                position += len(batch)
                await self._send(self._changes(batch, position))
            else:
                await self._wait(position)
            await self._send_hour()

    async def _everything(self, position: int) -> AsyncIterator[bytes]:
        """Give all rows in pages, or how many there are where they are too many."""
        now_ms = self._gateway.clock.wall_ms()
        found = [
            row
            for each in self._rows.rows()
            if self._tenant_id is None or each.tenant_id == self._tenant_id
            for row in [self._rows.row(each)]
            if self._query.takes(row, now_ms=now_ms)
        ]
        if len(found) > MOST:
            yield self._frame("too_many", too_many(found), position)
            return
        self._sent = {key_of(row) for row in found} if self._query.narrow else set()
        pages = [found[at : at + PAGE] for at in range(0, len(found), PAGE)] or [[]]
        for number, page in enumerate(pages):
            last = number == len(pages) - 1
            snapshot = SnapshotPage(
                rows=tuple(page), first=number == 0, last=last, total=len(found)
            )
            yield self._frame("snapshot", snapshot, position if last else None)

    def _changes(self, batch: list[ChangedRows], position: int) -> bytes:
        """Return what has changed as a frame: each row once, as it is now."""
        now_ms = self._gateway.clock.wall_ms()
        newest: dict[str, SessionRow] = {}
        gone = []
        for each in batch:
            for end_of in each.gone:
                if self._tenant_id is None or end_of.tenant_id == self._tenant_id:
                    newest.pop(f"{end_of.tenant_id}/{end_of.session_id}", None)
                    gone.append(end_of)
            for row in each.changed:
                if self._tenant_id is None or row.tenant_id == self._tenant_id:
                    newest[key_of(row)] = row
        changed, left = [], []
        for key, row in newest.items():
            if self._query.takes(row, now_ms=now_ms):
                changed.append(row)
                if self._query.narrow:
                    self._sent.add(key)
            elif key in self._sent:
                self._sent.discard(key)
                left.append(
                    LeftRow(tenant_id=row.tenant_id, session_id=row.session_id, fence=row.fence)
                )
        if self._query.narrow:
            gone = [each for each in gone if f"{each.tenant_id}/{each.session_id}" in self._sent]
            self._sent -= {f"{each.tenant_id}/{each.session_id}" for each in gone}
        if not (changed or gone or left):
            return b""
        changes = RowChanges(changed=tuple(changed), gone=tuple(gone), left=tuple(left))
        return self._frame("rows", changes, position)

    async def _send_hour(self) -> None:
        minutes = self._rows.hour.minutes(self._tenant_id, since_ms=self._hour_ms)
        if minutes or not self._hour_ms:
            await self._send(self._frame("hour", Hour(minutes=minutes)))
        self._hour_ms = self._gateway.clock.wall_ms()

    def _frame(self, name: str, content: Answer, position: int | None = None) -> bytes:
        told = b"" if position is None else f"id: {self._gateway.run_id}-{position}\n".encode()
        return b"%bevent: %b\ndata: %b\n\n" % (told, name.encode(), msgspec.json.encode(content))

    async def _send(self, body: bytes) -> None:
        if body:
            message = {"type": "http.response.body", "body": body, "more_body": True}
            await self._context.send_on(message)

    # -- where it stands -------------------------------------------------------------------------

    def _position(self, since: str | None) -> int | None:
        """Return how far a client has come, None where it begins, or what it says is not of now."""
        run_id, _, number = (since or "").rpartition("-")
        # A filtered feed that comes back does not know what it has shown.
        if run_id != self._gateway.run_id or not number.isdigit() or self._query.narrow:
            return None
        position = int(number)
        return position if position <= self._rows.ring.head else None

    async def _wait(self, position: int) -> None:
        """Wait until something has changed, the stream ends, or a sign of life is due."""
        ring = self._rows.ring
        try:
            async with asyncio.timeout(SIGN_S):
                await self._rows.wakers.wait_async(
                    lambda: ring.head > position or self._ended.is_set(), key=self
                )
        except TimeoutError:
            await self._send(self._frame("now", Now(at=self._gateway.clock.wall_ms())))

    def _end(self) -> None:
        self._ended.set()
        self._rows.wakers.wake(self)

    async def _wait_for_disconnect(self) -> None:
        while (await self._context.receive_on())["type"] != "http.disconnect":
            pass
        self._end()

    def _on_key_revoked(self) -> None:
        self._end()
        if (connection := connection_of(self._context.scope)) is not None:
            connection.abort_if_stalled()


def key_of(row: SessionRow) -> str:
    """Return what names a row."""
    return f"{row.tenant_id}/{row.session_id}"


def too_many(rows: list[SessionRow]) -> TooManyRows:
    """Return how many rows there are of each kind."""
    return TooManyRows(
        total=len(rows),
        by_state=dict(Counter(each.state for each in rows)),
        by_tenant=dict(Counter(each.tenant_id for each in rows).most_common(200)),
        by_blueprint=dict(Counter(each.blueprint for each in rows)),
    )
