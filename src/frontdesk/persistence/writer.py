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
    groups: dict[int, list[FramesAppended]] = {}
    latest: dict[int, int] = {}
    for each in operations:
        if type(each) is not FramesAppended:
            result.append(each)
            continue
        group = groups.get(latest.get(each.number, -1))
        if group is not None and _follows(group, each):
            group.append(each)
            continue
        latest[each.number] = len(result)
        groups[len(result)] = [each]
        result.append(each)
    for place, group in groups.items():
        if len(group) > 1:
            result[place] = FramesAppended(
                number=group[0].number,
                fence=group[0].fence,
                first_index=group[0].first_index,
                frames=tuple(frame for part in group for frame in part.frames),
            )
    return result


def _follows(group: list[FramesAppended], each: FramesAppended) -> bool:
    last = group[-1]
    return (
        last.fence == each.fence
        and last.first_index + len(last.frames) == each.first_index
        and (len(group) < 64 or sum(part.held_bytes for part in group) < MAX_JOINED_BYTES)
    )
