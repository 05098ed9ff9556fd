"""What conversations have said, on its way to the disk, as the event loop sees it.

All of it runs on one event loop; the thread that writes is beside it (`writer.py`), and tells of
each commit by one call into the loop, which wakes all who waited for something in it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from frontdesk.background import in_own_thread
from frontdesk.persistence.conversations import Applied, Conversations
from frontdesk.persistence.errors import StorageBroken, StorageUnavailable
from frontdesk.persistence.fair_reads import FairReads
from frontdesk.persistence.operations import AnyOperation, ConversationErased, FramesAppended
from frontdesk.persistence.writer import RETRY_S, Batch, StorageWriter

T = TypeVar("T")

_log = logging.getLogger("frontdesk.persistence")

MAX_BYTES: int = 64 * 1024 * 1024
MAX_BYTES_EACH: int = 8 * 1024 * 1024
WAIT_S: float = 5.0
MAX_ERASED = 1024
"""So many conversations that were erased here are told from those that others have."""

TAKEN = "another node has the conversation by now"


class _Waiter(NamedTuple):
    number: int
    last: int
    future: asyncio.Future[None]


class _Follower(NamedTuple):
    on_committed: Callable[[int], None]
    on_handed_over: Callable[[], None] | None


class _Uncommitted:
    """What one conversation has said that is not committed yet."""

    __slots__ = ("last", "size")

    def __init__(self) -> None:
        self.last = 0
        self.size = 0


class CommitQueue:
    """What conversations have said, on its way to the disk. One event loop; one thread writes.

    What is added in one go, without an `await` between, is in one transaction: a batch is handed
    over between two callbacks of the loop. One batch is under way at a time, and another begins
    `commit_interval_s` after it began, or at once where somebody waits.

    `on_broken` is called once a sync or a read has failed, on the thread that found out: it ends
    the process, before anybody hears of what may not be on the disk. `on_lost` is called for each
    conversation that is another node's by now, or is gone. Leaving the block writes all that was
    added, and closes the store.
    """

    def __init__(
        self,
        store: Conversations,
        *,
        commit_interval_s: float = 0.01,
        on_broken: Callable[[BaseException], None] | None = None,
        max_bytes: int = MAX_BYTES,
        max_bytes_each: int = MAX_BYTES_EACH,
        retry_s: float = RETRY_S,
    ) -> None:
        self._store = store
        self._interval_s = commit_interval_s
        self._end_process = on_broken
        self._max_bytes = max_bytes
        self._max_bytes_each = max_bytes_each
        self._writer = StorageWriter(store, self, retry_s=retry_s)
        self._reads = FairReads()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next = _Next(0)
        self._hand_over_at: asyncio.Handle | None = None
        self._under_way = False
        self._hurried = False
        self._began = float("-inf")
        self._uncommitted: dict[int, _Uncommitted] = {}
        self._bytes = 0
        self._waiters: list[_Waiter] = []
        self._followers: dict[int, _Follower] = {}
        self._erased: OrderedDict[int, None] = OrderedDict()
        self._problem: str | None = None
        self._broken: BaseException | None = None
        self.on_lost: Callable[[int], None] | None = None
        self.on_commit: Callable[[Batch, float], None] | None = None
        """Told of each batch on the disk, and how many seconds that took."""

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._writer.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hand_over()
        self._writer.stop()
        await in_own_thread(self._writer.join, name="storage-end")
        await self._reads.close()
        await in_own_thread(self._store.close, name="storage-end")

    # -- what conversations say --------------------------------------------------------------------

    def add(self, *operations: AnyOperation) -> None:
        """Have operations written, after all that were added before. Never blocks."""
        into = self._next
        for operation in operations:
            number = operation.number
            size = operation.held_bytes
            if (uncommitted := self._uncommitted.get(number)) is None:
                uncommitted = self._uncommitted[number] = _Uncommitted()
            into.last += 1
            uncommitted.last = into.last
            uncommitted.size += size
            self._bytes += size
            into.operations.append(operation)
            into.sizes[number] = into.sizes.get(number, 0) + size
            if type(operation) is ConversationErased:
                self._erased[number] = None
                if len(self._erased) > MAX_ERASED:
                    self._erased.popitem(last=False)
            if type(operation) is FramesAppended:
                into.newest[number] = operation.first_index + len(operation.frames) - 1
        if self._hand_over_at is None and not self._under_way:
            self._schedule()

    def hasten(self) -> None:
        """Have what was added written as soon as can be."""
        self._hurried = True
        if self._next.operations and not self._under_way:
            self._schedule()

    async def committed(self, number: int, *, wait_s: float | None = WAIT_S) -> None:
        """Return once all that was added for a conversation so far is on the disk.

        At once where there is nothing. `StorageUnavailable` where the storage does not take it
        within `wait_s` (None waits on): it is written nonetheless, once that can be done; and at
        once where the conversation is another node's by now: of that, nothing is.
        """
        if (uncommitted := self._uncommitted.get(number)) is None:
            return
        self._raise_broken()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(number, uncommitted.last, future)
        self._waiters.append(waiter)
        self.hasten()
        try:
            async with asyncio.timeout(wait_s):
                await future
        except TimeoutError:
            problem = self._problem or f"the disk took longer than {wait_s:g} s"
            raise StorageUnavailable(problem) from None
        finally:
            with suppress(ValueError):
                self._waiters.remove(waiter)

    def follow(
        self,
        number: int,
        on_committed: Callable[[int], None],
        *,
        on_handed_over: Callable[[], None] | None = None,
    ) -> None:
        """Have a function called with the index of the newest event that is committed.

        On the loop, after each commit that has something of the conversation; 0 where that is no
        event. `on_handed_over` is called before, when nothing more comes into that commit.
        """
        self._followers[number] = _Follower(on_committed, on_handed_over)

    def unfollow(self, number: int) -> None:
        """Call it no more."""
        self._followers.pop(number, None)

    def backlog(self, number: int | None = None) -> int:
        """Return how many bytes are added and not committed: of one conversation, or all."""
        if number is None:
            return self._bytes
        uncommitted = self._uncommitted.get(number)
        return uncommitted.size if uncommitted else 0

    def overfull(self, number: int) -> bool:
        """Say whether so much of a conversation waits that nothing more is to be added."""
        return self.backlog(number) > self._max_bytes_each or self._bytes > self._max_bytes

    @property
    def unavailable(self) -> str | None:
        """Why nothing can be stored now; None while all is well."""
        if self._problem is None and self._bytes > self._max_bytes:
            return f"{self._bytes} bytes wait to be stored"
        return self._problem

    async def read(self, ask: Callable[[Conversations], T], *, asker: str = "") -> T:
        """Ask the store something, in another thread. Two at a time are answered.

        `asker` is the tenant for which that is done, or a key; they take turns. Without one the
        process itself asks. `StorageUnavailable` where too many of the same asker wait already.
        """
        self._raise_broken()
        try:
            return await self._reads.read(lambda: ask(self._store), asker=asker)
        except StorageBroken as error:
            self.on_broken(error)
            raise

    # -- on the loop -------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Have the next batch handed over: at once where somebody waits, or after the interval."""
        if self._hand_over_at is not None:
            self._hand_over_at.cancel()
        assert self._loop is not None
        wait_s = self._began + self._interval_s - self._loop.time()
        if self._hurried or wait_s <= 0:
            self._hand_over_at = self._loop.call_soon(self._hand_over)
        else:
            self._hand_over_at = self._loop.call_later(wait_s, self._hand_over)

    def _hand_over(self) -> None:
        if self._hand_over_at is not None:
            self._hand_over_at.cancel()
            self._hand_over_at = None
        self._hurried = False
        if not self._next.operations or self._broken is not None:
            return
        taken, self._next = self._next, _Next(self._next.last)
        self._under_way = True
        assert self._loop is not None
        self._began = self._loop.time()
        for number in taken.sizes:
            follower = self._followers.get(number)
            if follower is not None and follower.on_handed_over is not None:
                follower.on_handed_over()
        self._writer.give(Batch(taken.operations, taken.last, taken.sizes, taken.newest))

    def _commit(self, batch: Batch, lost: frozenset[int]) -> None:
        self._under_way = False
        assert self._loop is not None
        now_s, began_s = self._loop.time(), self._began
        for number, size in batch.sizes.items():
            uncommitted = self._uncommitted[number]
            uncommitted.size -= size
            self._bytes -= size
            if uncommitted.last <= batch.last:
                del self._uncommitted[number]
        for waiter in self._waiters:
            if waiter.last > batch.last or waiter.future.done():
                continue
            if waiter.number in lost and waiter.number not in self._erased:
                waiter.future.set_exception(StorageUnavailable(TAKEN))
            else:
                waiter.future.set_result(None)
        if self._next.operations:
            self._schedule()
        for number in batch.sizes:
            if number not in lost and (follower := self._followers.get(number)) is not None:
                follower.on_committed(batch.newest.get(number, 0))
        if self.on_commit is not None:
            self.on_commit(batch, now_s - began_s)
        if self.on_lost is not None:
            for number in lost:
                self.on_lost(number)

    def _break_waiters(self) -> None:
        for waiter in self._waiters:
            if not waiter.future.done():
                waiter.future.set_exception(StorageBroken("a write failed before"))

    def _raise_broken(self) -> None:
        if self._broken is not None:
            raise StorageBroken("a write failed before") from self._broken

    # -- what the writer tells, on its thread ------------------------------------------------------

    def on_written(self, batch: Batch, applied: Applied) -> None:
        """Wake, on the loop, all who waited for something in a batch."""
        self._call(lambda: self._commit(batch, applied.lost))

    def on_unavailable(self, problem: str | None) -> None:
        """Take over why nothing can be stored."""
        former, self._problem = self._problem, problem
        if (former is None) != (problem is None):
            state = "available" if problem is None else "unavailable"
            said = problem or "conversations are stored again"
            _log.warning(said, extra={"event": "storage_changed", "state": state})

    def on_broken(self, error: BaseException) -> None:
        """End the process; where nobody can, nothing is stored any more."""
        if self._end_process is not None:
            self._end_process(error)
        self._broken = error
        self._problem = "the storage failed"
        self._call(self._break_waiters)

    def _call(self, function: Callable[[], None]) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function)


class _Next:
    """The batch that is being gathered; `last` counts all operations from the beginning on."""

    __slots__ = ("last", "newest", "operations", "sizes")

    def __init__(self, last: int) -> None:
        self.last = last
        self.operations: list[AnyOperation] = []
        self.sizes: dict[int, int] = {}
        self.newest: dict[int, int] = {}
