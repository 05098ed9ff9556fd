"""The thread that writes batches, one after the other, each in one transaction.

While the storage cannot take a batch, the batch stays whole and is tried again each second, before
any later one. After a failed sync nothing is tried again: the thread ends, once it has said so.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from queue import SimpleQueue
from typing import NamedTuple, Protocol

from frontdesk.background import start_without_signals
from frontdesk.persistence.conversations import Applied, Conversations
from frontdesk.persistence.errors import StorageUnavailable
from frontdesk.persistence.operations import AnyOperation, FramesAppended

RETRY_S: float = 1.0
MAX_JOINED_BYTES = 256 * 1024
"""Of one row of the journal."""


class Batch(NamedTuple):
    """What is written together: the operations, and how many were added until then.

    `sizes` are the bytes of each conversation, `newest` the index of its newest event.
    """

    operations: Sequence[AnyOperation]
    last: int
    sizes: dict[int, int]
    newest: dict[int, int]


class WriterListener(Protocol):
    """Who is told what became of batches, on the writer's thread."""

    def on_written(self, batch: Batch, applied: Applied) -> None:
        """Take note of a batch that is on the disk."""

    def on_unavailable(self, problem: str | None) -> None:
        """Take note that nothing can be stored now, for this reason; None: it can again."""

    def on_broken(self, error: BaseException) -> None:
        """Take note that nothing will be stored any more."""


class StorageWriter:
    """Write batches in a thread of its own, in the order in which they are given."""

    def __init__(
        self, store: Conversations, listener: WriterListener, *, retry_s: float = RETRY_S
    ) -> None:
        self._store = store
        self._listener = listener
        self._retry_s = retry_s
        self._batches: SimpleQueue[Batch | None] = SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="frontdesk-storage", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        start_without_signals(self._thread)

    def give(self, batch: Batch) -> None:
        """Have a batch written. Never blocks."""
        self._batches.put(batch)

    def stop(self) -> None:
        """Have the thread end once all is written; what cannot be stored now is tried once more."""
        self._batches.put(None)
        self._stopping.set()

    def join(self) -> None:
        """Wait for the thread's end."""
        self._thread.join()

    def _run(self) -> None:
        try:
            while (batch := self._batches.get()) is not None:
                self._write(batch)
        except BaseException as error:  # noqa: BLE001 - whatever it is, nothing is written any more
            self._listener.on_broken(error)

    def _write(self, batch: Batch) -> None:
        operations = joined(batch.operations)
        applied = None
        while applied is None:
            stopping = self._stopping.is_set()
            try:
                applied = self._store.apply(operations)
            except StorageUnavailable as error:
                self._listener.on_unavailable(error.problem)
                if stopping:
                    return
                self._stopping.wait(self._retry_s)
        self._listener.on_unavailable(None)
        self._listener.on_written(batch, applied)


def joined(operations: Iterable[AnyOperation]) -> list[AnyOperation]:
    """Return the operations with the events of each conversation joined, as far as they follow.

    They move to where the first of them stands, among operations that do not depend on them.
    """
    result: list[AnyOperation] = []
    groups: list[_Group] = []
    latest: dict[int, _Group] = {}
    for each in operations:
        if type(each) is not FramesAppended:
            result.append(each)
            continue
        group = latest.get(each.number)
        if group is None or not group.takes(each):
            latest[each.number] = group = _Group(len(result), each)
            groups.append(group)
            result.append(each)
    for group in groups:
        if len(group.frames) > len(group.first.frames):
            first = group.first
            result[group.place] = FramesAppended(
                number=first.number,
                fence=first.fence,
                first_index=first.first_index,
                frames=tuple(group.frames),
            )
    return result


class _Group:
    """Events of one conversation that follow each other, and where the first of them stands."""

    __slots__ = ("first", "frames", "place", "size")

    def __init__(self, place: int, first: FramesAppended) -> None:
        self.place = place
        self.first = first
        self.frames = list(first.frames)
        self.size = first.held_bytes

    def takes(self, each: FramesAppended) -> bool:
        """Take events that follow, while there are not too many."""
        follows = self.first.first_index + len(self.frames) == each.first_index
        if not follows or self.first.fence != each.fence or self.size >= MAX_JOINED_BYTES:
            return False
        self.frames += each.frames
        self.size += each.held_bytes
        return True
