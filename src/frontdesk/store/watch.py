"""A watch: one snapshot of a store, then every later change, in order.

A watch is a cursor, not a queue: it holds no changes of its own but the few that it has read ahead,
the store never waits for it, and one that falls behind goes on with a fresh snapshot that says so.

A reader may be broken off at any moment by a signal handler that raises, and reads on afterwards.
So nothing is taken from where it is before it is where it goes: what was read ahead and the cursor
behind it change in one statement, and an item leaves in the last one before it is returned. No
signal handler runs between: those statements call nothing (`frontdesk.lock` says where one may).
"""

from __future__ import annotations

from collections import deque
from functools import partial
from types import TracebackType
from typing import Self

from frontdesk.errors import StoreClosed
from frontdesk.feed import FellBehind
from frontdesk.records import Change, Metadata, Snapshot
from frontdesk.store.core import Core
from frontdesk.waiting import steady_s, timeout

_READ_AHEAD = 256


class Watch:
    """Follow the changes of a store; made by `SessionStore.watch`.

    Iterate it with `for` in a thread (it blocks for each next item), or with `async for` in any
    event loop of asyncio or trio. The first item is a `Snapshot` at some revision r. Every later
    one is a `Change`, in the order of revisions, without gap or repetition (but for what the
    filter leaves out), or a `Snapshot` marked `resync` where the watch was too slow and changes
    are no longer held.

    When the store is closed, what is left is delivered (each session ends with `shutdown`) and the
    iteration ends. It is a cursor into the ring of changes that all watches share: it holds no
    queue, and the store never waits for it. One reader at a time.

    Examples:
        >>> import concurrent.futures, frontdesk
        >>> store = frontdesk.SessionStore()
        >>> with store.watch() as watch:
        ...     first = watch.next(timeout_s=5)
        ...     _ = store.create("s-1", concurrent.futures.Future())
        ...     watch.next(timeout_s=5).kind
        'created'
        >>> store.close()
    """

    __slots__ = (
        "__weakref__",
        "_api_key",
        "_core",
        "_cursor",
        "_forget",
        "_open",
        "_ready",
        "_tenant_id",
    )

    def __init__(
        self,
        core: Core,
        *,
        tenant_id: str | None,
        api_key: str | None,
    ) -> None:
        self._core = core
        self._tenant_id, self._api_key = tenant_id, api_key
        # Known first: where the next lines are broken off, the publishing ends with this object.
        token = object()
        self._forget = partial(core.changes.unsubscribe, token)
        core.lock.refuse_interrupting("watch")
        try:
            with core.lock.held:
                core.require_open()
                core.changes.subscribe(token)
        finally:
            core.after_write()
        self._open = True
        self._ready: deque[Snapshot | Change] = deque()
        self._cursor = 0
        self._take_snapshot(resync=False)

    # -- reading -------------------------------------------------------------------------------

    def next(self, *, timeout_s: float | None = None) -> Snapshot | Change:
        """Return the next item, blocking this thread for at most `timeout_s` seconds.

        Raises `TimeoutError` when nothing came, `StopIteration` when the watch was closed, or the
        store was and everything is delivered, `StoreClosed` after a `fork()`.
        """
        deadline = None
        if timeout_s is not None:
            deadline = steady_s() + timeout("timeout_s", timeout_s)
        while not self._ready or not self._open:
            if not self._read() and not self._wait(deadline):
                raise TimeoutError(f"no change within {timeout_s} s")
        item = self._ready[0]
        del self._ready[0]
        return item

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Snapshot | Change:
        return self.next()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Snapshot | Change:
        while not self._ready or not self._open:
            try:
                if not self._read():
                    await self._core.changes.wakers.wait_async(self._is_ready)
            except StopIteration:
                raise StopAsyncIteration from None
        item = self._ready[0]
        del self._ready[0]
        return item

    # -- ending --------------------------------------------------------------------------------

    def close(self) -> None:
        """End the watch, from any thread; a reader that waits stops. Idempotent.

        After it nothing more is delivered. Also `with` and `async with`.
        """
        self._open = False
        self._forget()
        self._core.changes.wakers.wake_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        forget = getattr(self, "_forget", None)
        if forget is not None:
            forget()

    # -- within --------------------------------------------------------------------------------

    def _read(self) -> bool:
        """Fill `_ready`, which is empty; False where nothing is new, StopIteration at the end."""
        if not self._open:
            raise StopIteration
        # Looked at before the feed: what is in the feed when the store is closed is all there is.
        closed = self._core.closed
        if closed is not None and closed.forked:
            raise StoreClosed(forked=True)
        try:
            changes = self._core.changes.feed.read(self._cursor, limit=_READ_AHEAD)
        except FellBehind:
            self._take_snapshot(resync=True)
            return True
        if not changes:
            if closed is not None:
                raise StopIteration
            return False
        read: deque[Snapshot | Change]
        read = deque(change for change in changes if self._concerns(change.session))
        self._cursor, self._ready = changes[-1].revision, read
        return True

    def _wait(self, deadline: float | None) -> bool:
        left = None if deadline is None else deadline - steady_s()
        if left is not None and not left > 0:
            return False
        return self._core.changes.wakers.wait(self._is_ready, timeout_s=left)

    def _is_ready(self) -> bool:
        closed = not self._open or self._core.closed is not None
        return self._core.changes.feed.head > self._cursor or closed

    def _take_snapshot(self, *, resync: bool) -> None:
        core = self._core
        core.lock.refuse_interrupting("watch")
        try:
            with core.lock.held:
                revision = core.changes.revision
                sessions = core.index.select(tenant_id=self._tenant_id, api_key=self._api_key)
        finally:
            core.after_write()
        # Turned into records here, outside the store's lock: a million sessions hold up no writer.
        metadata = tuple(session.metadata for session in sessions)
        read: deque[Snapshot | Change] = deque((Snapshot(revision, metadata, resync),))
        self._cursor, self._ready = revision, read

    def _concerns(self, session: Metadata) -> bool:
        return self._tenant_id in (None, session.tenant_id) and self._api_key in (
            None,
            session.api_key,
        )
