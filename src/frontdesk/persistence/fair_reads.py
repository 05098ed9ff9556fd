"""Which reads of the storage are under way: a few at a time, and tenants by turns.

Beside the commit queue, which asks it before a reader is given anything. A read has its place until
whoever asked goes on: what was read and lies about is bounded by that, however long the event loop
takes. The next place is that of the tenant that had none for longest, so that nobody waits for more
than one read of each other tenant, whatever one of them asks for.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from frontdesk.background import OwnThreads, in_own_thread
from frontdesk.persistence.errors import StorageUnavailable

T = TypeVar("T")

READERS = 2
MAX_WAITING = 1024
"""Reads of one tenant that wait; one more is refused."""

CLOSED = "it is closed"


class FairReads:
    """Call what blocks for a read in threads of their own, each tenant's in order.

    On one event loop.
    """

    def __init__(self, *, at_once: int = READERS, max_waiting: int = MAX_WAITING) -> None:
        self._threads = OwnThreads(at_once, name="storage-reader")
        self._free, self._max_waiting = at_once, max_waiting
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._under_way: set[Future[Any]] = set()
        self._closed = False

    async def read(self, ask: Callable[[], T], *, asker: str) -> T:
        """Return what is read, once it is this one's turn; `StorageUnavailable` beyond the bound.

        Cancelling ends the wait, and a read that has not begun.
        """
        if self._closed:
            raise StorageUnavailable(CLOSED)
        if self._free and not self._waiting:
            self._free -= 1
        else:
            await self._wait(asker)
        try:
            asked = self._threads.submit(ask)
            self._under_way.add(asked)
            asked.add_done_callback(self._under_way.discard)
            return await asyncio.wrap_future(asked)
        finally:
            self._give_place()

    async def close(self) -> None:
        """Refuse those that wait; return once what is under way is over, wanted or not."""
        self._closed = True
        for waiting in self._waiting.values():
            for each in waiting:
                if not each.done():
                    each.set_exception(StorageUnavailable(CLOSED))
        self._waiting.clear()
        under_way = list(self._under_way)
        await in_own_thread(lambda: wait(under_way), name="storage-end")

    async def _wait(self, asker: str) -> None:
        waiting = self._waiting.setdefault(asker, deque())
        if len(waiting) >= self._max_waiting:
            raise StorageUnavailable(f"{len(waiting)} reads of the same tenant wait already")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled() and place.exception() is None:
                self._give_place()  # it had just got it
            raise

    def _give_place(self) -> None:
        while self._waiting:
            asker, waiting = self._waiting.popitem(last=False)
            place = waiting.popleft()
            if waiting:
                self._waiting[asker] = waiting
            if not place.done():
                place.set_result(None)
                return
        self._free += 1

    def __len__(self) -> int:
        """Return how many wait."""
        return sum(map(len, self._waiting.values()))
