"""A watch over all nodes: one snapshot, then every later change, in the order of revisions.

It is a cursor on what its node has read of the log. A snapshot takes several calls to the engine
where there are many sessions; what the log tells between the first and the last is put in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from operator import attrgetter
from types import TracebackType
from typing import Self

from frontdesk.cluster.cluster_log import ClusterLog
from frontdesk.cluster.engine import Engine
from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.cluster.messages import LoggedRow
from frontdesk.cluster.pages import all_pages
from frontdesk.cluster.records import EntryPage, Selection
from frontdesk.feed import FellBehind
from frontdesk.records import Change, Ended, Metadata, Snapshot

__all__ = ["ClusterWatch"]

_READ_AHEAD = 256
LOG_LAG_S = 30.0
"""How long a snapshot waits for the log to come as far as the entries that it consists of."""
REBUILDING_S = 0.5
"""How long it waits before it looks again whether the index has been rebuilt."""


class ClusterWatch:
    """Follow the changes of all nodes; made by `Node.watch`. Iterate it with `async for`.

    The law is the embedded store's: the first item is a `Snapshot` at some revision, every later
    one a `Change`, without gap or repetition, or a `Snapshot` marked `resync` where the watch was
    too slow, the log did not reach back, or a new era began. While the index is rebuilt it waits.
    It ends when the node leaves. One reader at a time.

    `EngineUnavailable` where a snapshot cannot be had now: it goes on where the next item is asked
    for.
    """

    def __init__(
        self, engine: Engine, log: ClusterLog, *, tenant_id: str | None, api_key: str | None
    ) -> None:
        self._engine, self._log = engine, log
        self._tenant_id, self._api_key = tenant_id, api_key
        self._cursor: int | None = None
        self._era = log.era
        self._last: int | None = None
        self._begun = False
        self._open = True
        self._ready: deque[Snapshot | Change] = deque()

    async def begin(self) -> Self:
        """Take the snapshot now, not when it is asked for: what comes after it is not missed."""
        while self._cursor is None and self._open and not self._log.over:
            await self._take_snapshot()
        return self

    def finish(self) -> None:
        """End the watch after what has been read of the log until now."""
        self._last = self._log.feed.head
        self._log.wakers.wake(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Snapshot | Change:
        while self._open:
            if self._ready:
                return self._ready.popleft()
            if self._cursor is None or self._era != self._log.era:
                if self._log.over or self._last is not None:
                    break
                await self._take_snapshot()
                continue
            try:
                ahead = _READ_AHEAD if self._last is None else self._last - self._cursor
                changes = self._log.feed.read(self._cursor, limit=ahead)
            except FellBehind:
                self._cursor = None
                continue
            if changes:
                self._ready.extend(one.change for one in changes if self._concerns(one))
                self._cursor = changes[-1].revision
            elif self._log.over or self._cursor == self._last:
                break
            else:
                await self._log.wakers.wait_async(self._has_more, key=self)
        raise StopAsyncIteration

    def close(self) -> None:
        """End the watch; a reader that waits stops. Idempotent."""
        self._open = False
        self._log.wakers.wake(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _has_more(self) -> bool:
        behind = self._cursor is None or self._log.feed.head != self._cursor
        over = self._log.over or not self._open or self._last is not None
        return behind or over or self._era != self._log.era

    def _concerns(self, session: Metadata | LoggedRow) -> bool:
        return self._tenant_id in (None, session.tenant_id) and self._api_key in (
            None,
            session.api_key,
        )

    # -- snapshots -------------------------------------------------------------------------------

    async def _take_snapshot(self) -> None:
        """Read all entries, put in what the log told meanwhile, and go on from there.

        Where the log is restarted or has gone on too far by then, nothing is taken: again.
        """
        era = self._log.era
        selection = Selection(tenant_id=self._tenant_id)
        if self._tenant_id is None:
            selection = Selection(api_key=self._api_key)
        pages = await all_pages(self._engine, selection)
        if any(page.partial for page in pages):
            await asyncio.sleep(REBUILDING_S)
            return
        if any(page.era != era for page in pages) or not self._open:
            await self._until(lambda: self._log.era != era or not self._open or self._log.over)
            return
        first, last = pages[0].revision, pages[-1].revision
        await self._until(lambda: self._log.feed.head >= last or self._log.era != era)
        changes: list[LoggedRow] = []
        try:
            while (after := first + len(changes)) < last:
                changes += self._log.feed.read(after, limit=last - after)
        except FellBehind:
            return
        if self._log.era != era:
            return
        sessions = tuple(filter(self._concerns, brought_up(pages, (one.change for one in changes))))
        self._ready.append(Snapshot(last, sessions, resync=self._begun))
        self._cursor, self._era, self._begun = last, era, True

    async def _until(self, came: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(LOG_LAG_S):
                while not came():
                    await self._log.wakers.wait_async(came, key=self)
        except TimeoutError:
            raise EngineUnavailable("its log does not come as far as its entries") from None


def brought_up(pages: Iterable[EntryPage], changes: Iterable[Change]) -> Iterable[Metadata]:
    """Return the sessions of all pages as they were after the last of the changes.

    A page shows what it does as of its own revision: a change that it includes already is put in
    once more, which changes nothing.
    """
    sessions = {one.entry.session_id: one.metadata for page in pages for one in page.entries}
    versions = {one.entry.session_id: one.version for page in pages for one in page.entries}
    for change in changes:
        name, session = change.session.session_id, change.session
        if change.revision <= versions.get(name, 0):
            continue
        if not isinstance(change, Ended):
            sessions[name] = session
            versions[name] = change.revision
        elif name in sessions and sessions[name].fence == session.fence:
            del sessions[name]
    return sorted(sessions.values(), key=attrgetter("fence"))
