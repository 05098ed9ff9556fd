"""The feed: a ring of numbered slots that readers follow with cursors, and how they are woken.

One writer at a time (the owner sees to that) appends; any number of readers, in threads and event
loops, follow. There is no queue per reader: a slow reader is one whose cursor points at a slot that
is no longer held, and `Ring.read` says so. The writer never waits for anybody. The store's watches
and the sessions' event logs are made of the same two parts.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from frontdesk.waiting import running_library

T = TypeVar("T")


class FellBehind(Exception):
    """The slot under the cursor is no longer held."""


class Ring(Generic[T]):
    """Hold the last `capacity` items under contiguous numbers.

    `append` costs two dict operations. Memory is bounded by `capacity` items, whatever the number
    of readers.
    """

    __slots__ = ("_capacity", "_slots", "head", "oldest")
    head: int
    oldest: int

    def __init__(self, *, capacity: int, head: int = 0) -> None:
        self._capacity = capacity
        self._slots: dict[int, T] = {}
        self.head = head
        """The number of the newest slot."""
        self.oldest = head + 1
        """The number of the oldest slot that is held, `head + 1` where none is."""

    def __len__(self) -> int:
        """Return the number of slots that are held."""
        return len(self._slots)

    def append(self, item: T) -> int:
        """Put the item into the next slot and return its number. The owner wakes readers after."""
        number = self.head + 1
        self._slots[number] = item
        # The slot is filled before the head moves, so a reader that sees the head finds the slot.
        self.head = number
        if number - self.oldest >= self._capacity:
            self.forget(number - self._capacity)
        return number

    def extend(self, items: Sequence[T]) -> None:
        """Put many items into the next slots, in a fraction of what `append` costs for each."""
        head = self.head + len(items)
        self._slots.update(zip(range(self.head + 1, head + 1), items, strict=True))
        self.head = head
        if head - self.oldest >= self._capacity:
            self.forget(head - self._capacity)

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

    def read(self, after: int, *, limit: int = 1024) -> list[T]:
        """Return up to `limit` items after the cursor `after`; `FellBehind` if one is gone."""
        items = []
        for number in range(after + 1, min(self.head, after + limit) + 1):
            try:
                items.append(self._slots[number])
            except KeyError:
                raise FellBehind from None
        return items


class Wakers:
    """Wake readers that wait: threads, and tasks on any event loop of asyncio or trio.

    Each waits under a key of its own, is woken once, and waits again if it likes. A wake-up costs a
    dict operation and what the reader's own waker costs.
    """

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[object, Callable[[], object]] = {}

    def __len__(self) -> int:
        """Return the number of readers that wait."""
        return len(self._by_key)

    def add(self, key: object, waker: Callable[[], object]) -> None:
        """Have `waker` called at the next wake-up, once."""
        self._by_key[key] = waker

    def wake(self, key: object) -> None:
        """Wake one reader, if it waits."""
        waker = self._by_key.pop(key, None)
        if waker is not None:
            waker()

    def wake_all(self) -> None:
        """Wake whoever waits. Call it after the append, outside any lock."""
        # Those who wait now: one that is woken and waits again must not be taken for another's.
        for key in list(self._by_key):
            waker = self._by_key.pop(key, None)
            if waker is not None:
                waker()

    def wait(self, ready: Callable[[], bool], *, timeout_s: float | None = None) -> bool:
        """Block this thread until it is woken, or `ready()`; False if neither came in time."""
        # Not an Event: from CPython 3.14 on, a signal handler that raises as its wait() begins can
        # leave it locked, and then whoever is about to set it waits for ever.
        latch = threading.Lock()
        latch.acquire()
        self.add(latch, latch.release)
        try:
            # Registered first, looked at second: an append in between has woken us already.
            return ready() or latch.acquire(timeout=-1 if timeout_s is None else max(0, timeout_s))
        finally:
            self._by_key.pop(latch, None)

    async def wait_async(
        self, ready: Callable[[], bool] = lambda: False, *, key: object = None
    ) -> None:
        """Wait on the running event loop, asyncio's or trio's, until it is woken, or `ready()`.

        `key` is what `wake` wakes it by.
        """
        if running_library() == "trio":
            await self._wait_on_trio(ready)
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        key = future if key is None else key

        def wake() -> None:
            if asyncio._get_running_loop() is loop:
                if not future.done():
                    future.set_result(None)
                return
            # A closed loop: nobody waits there any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, future)

        self.add(key, wake)
        try:
            if not ready():
                await future
        finally:
            if self._by_key.get(key) is wake:
                del self._by_key[key]

    async def _wait_on_trio(self, ready: Callable[[], bool]) -> None:
        import trio  # it runs already

        woken, token = trio.Event(), trio.lowlevel.current_trio_token()

        def wake() -> None:
            # The reader's loop may be over: then nobody waits there any more.
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(woken.set)

        self.add(woken, wake)
        try:
            if not ready():
                await woken.wait()
        finally:
            self._by_key.pop(woken, None)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
