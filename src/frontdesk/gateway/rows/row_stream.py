"""One reader's stream of rows: everything in pages, then what changes.

Beside the event stream, which it is like: written as ASGI, without a queue for anybody. What is
next the reader says (`row_reader.py`); a client that reads slowly is told less often, and gets
everything again where it has fallen too far behind. An event's id says how far all nodes were told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from frontdesk.feed import FellBehind
from frontdesk.gateway.client_connection import connection_of
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.listed_nodes import all_listed
from frontdesk.gateway.open_streams import StreamKind
from frontdesk.gateway.queries import query_of
from frontdesk.gateway.request_context import RequestContext
from frontdesk.gateway.rows.changed_rows import PERIOD_S
from frontdesk.gateway.rows.last_hour import MINUTE_MS, minutes_of
from frontdesk.gateway.rows.row_filter import FeedQuery, OperatorFeedQuery
from frontdesk.gateway.rows.row_reader import FoundRows, RowReader
from frontdesk.gateway.rows.row_scopes import RowScope
from frontdesk.gateway.sse import end, start
from frontdesk.schemas.answer_schemas import Answer
from frontdesk.schemas.row_schemas import (
    Hour,
    Minute,
    NodesNow,
    Now,
    SnapshotPage,
    TooManyRows,
)

PAGE = 500
SIGN_S = 5.0
"""How often the feed gives a sign of life."""
RETRY = b"retry: 1000\n\n"


class RowStream:
    """One client's feed of sessions: its tenant's, or, for an operator, everybody's."""

    def __init__(self, gateway: Gateway, context: RequestContext) -> None:
        self._gateway, self._context = gateway, context
        self._clock = gateway.clock
        self._tenant_id = context.tenant_key.tenant_id
        self._operator = self._tenant_id is None
        self._ended = asyncio.Event()
        self._minutes: dict[int, Minute] = {}
        self._hour_of: set[str] = set()
        """The sources that the hour was sent of."""
        self._nodes: NodesNow | None = None
        self._counted: TooManyRows | None = None
        self._sent_s = 0.0
        self._sign_s = asyncio.get_running_loop().time() + SIGN_S

    async def run(self) -> None:
        """Send rows until the client leaves, its key is revoked, or the gateway ends."""
        query = self._query()
        if isinstance(query, OperatorFeedQuery):
            self._tenant_id = query.tenant
        gateway, key = self._gateway, self._context.tenant_key
        connection = connection_of(self._context.scope)
        listener: asyncio.Task[None] | None = None
        gateway.streams.enter(key, self._on_key_revoked, kind=StreamKind.ROWS)
        scope = self._scope = gateway.scopes.enter(
            self._tenant_id, node=gateway.node, elsewhere=gateway.forwarding
        )
        self._reader = RowReader(
            scope.sources, query, tenant_id=self._tenant_id, clock=gateway.clock
        )
        try:
            await self._context.send(start(SIGN_S))
            await self._send(RETRY)
            if connection is not None:
                connection.on_disconnect = self._end
            else:
                listener = asyncio.create_task(self._wait_for_disconnect())
            await self._follow(scope, self._context.header(b"last-event-id") or query.since)
            await self._context.send_on(end())
        finally:
            gateway.streams.leave(key, self._on_key_revoked)
            gateway.scopes.leave(scope)
            if listener is not None:
                listener.cancel()
            if connection is not None:
                connection.on_disconnect = None

    async def head(self) -> None:
        """Answer as the feed would begin, without one."""
        self._query()
        await self._context.send(start(SIGN_S))
        await self._context.send_on(end())

    def _query(self) -> FeedQuery:
        return query_of(self._context.query, OperatorFeedQuery if self._operator else FeedQuery)

    # -- what is sent ----------------------------------------------------------------------------

    async def _follow(self, scope: RowScope, since: str | None) -> None:
        """Say what there is to say until it is over.

        1. First the time, the nodes, and the last hour.
        2. Where the client has come from before goes on; else, and after each gap, everything.
        3. Then what changes, not oftener than a row may be sent. Too many are counted again with
           each sign of life, until they are fewer.
        """
        await self._send_event("now", Now(at=self._clock.wall_ms()))
        await scope.first_answers()
        await self._send_surroundings()
        self._reader.resume(since)
        while not self._is_over():
            if not self._reader.begun:
                await self._send_everything(await self._reader.everything())
            if self._reader.begun:
                await self._send_changes()
            await self._wait()
        if self._reader.begun and not self._ended.is_set():
            await self._send_changes()

    async def _send_everything(self, found: FoundRows) -> None:
        if (counted := found.too_many) is not None:
            if counted != self._counted:
                await self._send_event("too_many", counted)
            self._counted = counted
            return
        self._counted = None
        rows = found.rows
        pages = [rows[at : at + PAGE] for at in range(0, len(rows), PAGE)] or [[]]
        for number, page in enumerate(pages, start=1):
            snapshot = SnapshotPage(
                rows=tuple(page), first=number == 1, last=number == len(pages), total=len(rows)
            )
            await self._send_event("snapshot", snapshot, numbered=snapshot.last)

    async def _send_changes(self) -> None:
        try:
            changes = self._reader.changes()
        except FellBehind:
            self._reader.restart()
            return
        if changes is not None:
            self._sent_s = asyncio.get_running_loop().time()
            await self._send_event("rows", changes, numbered=True)

    async def _send_surroundings(self) -> None:
        """Say how the nodes stand, and what began and ended, as far as it was not said."""
        listed = all_listed(self._gateway.node)
        nodes = NodesNow(
            nodes=listed if self._operator else (),
            silent=self._scope.silent if self._operator else (),
            count=len(listed) or 1,
            partial=bool(self._scope.silent),
        )
        if nodes != self._nodes:
            self._nodes = nodes
            await self._send_event("nodes", nodes)
        sources = self._scope.sources()
        runs = {each.run for each in sources}
        # The whole hour at first, and where a node has come with its own.
        whole = runs != self._hour_of
        since_ms = 0 if whole else self._clock.wall_ms() - 2 * MINUTE_MS
        now = minutes_of(each.minutes(self._tenant_id, since_ms=since_ms) for each in sources)
        new = tuple(each for each in now if self._minutes.get(each.at) != each)
        if new or not self._hour_of:
            await self._send_event("hour", Hour(minutes=new))
        self._minutes, self._hour_of = {each.at: each for each in now}, runs

    async def _send_event(self, name: str, content: Answer, *, numbered: bool = False) -> None:
        position = f"id: {self._reader.position}\n".encode() if numbered else b""
        frame = b"%bevent: %b\ndata: %b\n\n" % (
            position,
            name.encode(),
            msgspec.json.encode(content),
        )
        await self._send(frame)

    async def _send(self, body: bytes) -> None:
        await self._context.send_on({"type": "http.response.body", "body": body, "more_body": True})

    # -- when ------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Wait until there is something to say; a sign of life is given whenever one is due."""
        # A row is not sent oftener than that, however many nodes tell of it.
        await self._sleep(self._sent_s + PERIOD_S, until=lambda: False)
        while not self._is_over():
            if await self._sleep(self._sign_s, until=self._has_more):
                return
            self._sign_s = asyncio.get_running_loop().time() + SIGN_S
            await self._send_event("now", Now(at=self._clock.wall_ms()))
            await self._send_surroundings()
            if self._counted is not None or self._reader.too_many:
                self._reader.restart()
                return
            if (grown := self._reader.grown()) is not None:
                await self._send_event("rows", grown, numbered=True)

    async def _sleep(self, time_s: float, *, until: Callable[[], bool]) -> bool:
        """Sleep until something is so, or the stream is over; False where it is time before."""

        def awake() -> bool:
            return until() or self._is_over()

        try:
            async with asyncio.timeout_at(time_s):
                while not awake():
                    await self._scope.wakers.wait_async(awake, key=self)
        except TimeoutError:
            return False
        return True

    def _has_more(self) -> bool:
        return self._counted is None and (not self._reader.begun or self._reader.behind)

    def _is_over(self) -> bool:
        return self._ended.is_set() or self._scope.closed

    # -- what comes from outside -----------------------------------------------------------------

    def _end(self) -> None:
        self._ended.set()
        self._scope.wakers.wake(self)

    async def _wait_for_disconnect(self) -> None:
        while (await self._context.receive_on())["type"] != "http.disconnect":
            pass
        self._end()

    def _on_key_revoked(self) -> None:
        self._end()
        if (connection := connection_of(self._context.scope)) is not None:
            connection.abort_if_stalled()
