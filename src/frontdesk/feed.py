"""The feed: numbered slots that every watcher and every stream reads with a cursor of its own.

Beside the monitors, below the store. One writer at a time (the owner sees to that) appends; any
number of readers, in threads and event loops, follow. There is no queue per reader: a slow reader
is one whose cursor points at a slot that is no longer held, and `read` says so. The writer never
waits for anybody. It knows nothing of what the slots hold.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class FellBehind(Exception):
    """The slot under the cursor is no longer held."""


class Feed(Generic[T]):
    """Hold the last `capacity` items under contiguous numbers.

    `append` costs two dict operations and, where a reader waits, its wake-up. Memory is bounded by
    `capacity` items, whatever the number of readers.
    """

    __slots__ = ("_capacity", "_slots", "_wakers", "head", "oldest")

    def __init__(self, *, capacity: int, head: int = 0) -> None:
        self._capacity = capacity
        self._slots: dict[int, T] = {}
        self._wakers: dict[object, Callable[[], None]] = {}
        self.head = head
        """The number of the newest slot."""
        self.oldest = head + 1
        """The number of the oldest slot that is held, `head + 1` where none is."""

    def append(self, item: T) -> int:
        """Put the item into the next slot and return its number. The owner calls `wake` after."""
        number = self.head + 1
        self._slots[number] = item
        # The slot is filled before the head moves, so a reader that sees the head finds the slot.
        self.head = number
        if number - self.oldest >= self._capacity:
            self.forget(number - self._capacity)
        return number

    def forget(self, upto: int) -> None:
        """Drop every slot up to and including `upto`."""
        upto = min(upto, self.head)
        while self.oldest <= upto:
            # The bound moves first: a reader that misses the slot sees that it fell behind.
            number, self.oldest = self.oldest, self.oldest + 1
            self._slots.pop(number, None)

    def restart(self, head: int) -> None:
        """Forget everything and go on numbering after `head`; readers before it fall behind."""
        self._slots.clear()
        self.head, self.oldest = head, head + 1

    def read(self, after: int, *, most: int = 1024) -> list[T]:
        """Return up to `most` items that follow the cursor `after`; `FellBehind` if one is gone."""
        items = []
        for number in range(after + 1, min(self.head, after + most) + 1):
            try:
                items.append(self._slots[number])
            except KeyError:
                raise FellBehind from None
        return items

    def wake(self) -> None:
        """Wake whoever waits. Call it after the append, outside any lock."""
        # Those who wait now: one that is woken and waits again must not be taken for another's.
        for key in list(self._wakers):
            waker = self._wakers.pop(key, None)
            if waker is not None:
                waker()

    def wait(
        self, after: int, *, timeout_s: float | None = None, ended: Callable[[], bool]
    ) -> bool:
        """Block this thread until something follows the cursor, or `ended()`; False if neither."""
        # Not an Event: from CPython 3.14 on, a signal handler that raises as its wait() begins can
        # leave it locked, and then whoever is about to set it waits for ever.
        latch = threading.Lock()
        latch.acquire()
        self._wakers[latch] = latch.release
        try:
            # Registered first, looked at second: an append in between has woken us already.
            return (
                self.head > after
                or ended()
                or latch.acquire(timeout=-1 if timeout_s is None else max(0, timeout_s))
            )
        finally:
            self._wakers.pop(latch, None)

    async def wait_async(self, after: int, *, ended: Callable[[], bool]) -> None:
        """Wait on the running event loop, asyncio's or trio's, until something follows the cursor,
        or `ended()`.
        """
        if asyncio._get_running_loop() is None:
            await self._wait_on_trio(after, ended)
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._wakers[future] = lambda: _wake_future(loop, future)
        try:
            if self.head <= after and not ended():
                await future
        finally:
            self._wakers.pop(future, None)

    async def _wait_on_trio(self, after: int, ended: Callable[[], bool]) -> None:
        import trio  # it runs already: there would be an event loop of asyncio otherwise

        over, token = trio.Event(), trio.lowlevel.current_trio_token()

        def wake() -> None:
            # The reader's loop may be over: then nobody waits there any more.
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(over.set)

        self._wakers[over] = wake
        try:
            if self.head <= after and not ended():
                await over.wait()
        finally:
            self._wakers.pop(over, None)


def _wake_future(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    if asyncio._get_running_loop() is loop:
        _resolve(future)
        return
    try:
        loop.call_soon_threadsafe(_resolve, future)
    except RuntimeError:
        return  # the reader's loop was closed: nobody waits there any more


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
