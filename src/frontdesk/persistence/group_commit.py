"""Group commit: the batches of all nodes that wait become one transaction, and one sync.

Without a thread of its own: whoever comes while nobody commits does so for everybody who waits by
then. Who comes meanwhile waits, and the first of those commits for the others next. So one node
alone waits for one sync, and many wait for two at most, however many they are.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from frontdesk.errors import FrontdeskError
from frontdesk.persistence.conversations import Applied, JointConversations, OwnedBatch
from frontdesk.persistence.operations import AnyOperation


class GroupCommit:
    """Commit batches together. From any thread, one of an owner at a time."""

    def __init__(self, store: JointConversations) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._committing = False

    @property
    def waiting(self) -> int:
        """How many batches wait for the transaction that is under way."""
        return len(self._waiting)

    def apply(self, owner: str, operations: Sequence[AnyOperation]) -> Applied:
        """Carry out a batch of one owner, and return when it is on the disk.

        Raises what the store raises; where others were in the transaction, also their storage's.
        """
        mine = _Waiting(OwnedBatch(owner, operations))
        with self._lock:
            self._waiting.append(mine)
            alone, self._committing = not self._committing, True
        if not alone:
            mine.woken.wait()
        if mine.outcome is None:
            self._commit_for_all()
        if isinstance(mine.outcome, Applied):
            return mine.outcome
        assert mine.outcome is not None
        raise mine.outcome

    def _commit_for_all(self) -> None:
        with self._lock:
            taken = list(self._waiting)
            self._waiting.clear()
        try:
            self._commit(taken)
        finally:
            with self._lock:
                successor = self._waiting[0] if self._waiting else None
                self._committing = successor is not None
            for each in taken:
                each.woken.set()
            if successor is not None:
                successor.woken.set()

    def _commit(self, taken: Sequence[_Waiting]) -> None:
        try:
            outcomes = self._store.apply_together([each.batch for each in taken])
        except FrontdeskError as error:
            for each in taken:
                each.outcome = error
        except Exception as error:  # noqa: BLE001 - it is raised where the batch came from
            # One of them cannot be carried out, by a mistake of ours: the others are not to suffer.
            if len(taken) == 1:
                taken[0].outcome = error
                return
            for each in taken:
                self._commit([each])
        else:
            for each, outcome in zip(taken, outcomes, strict=True):
                each.outcome = outcome


class _Waiting:
    """A batch that waits: for its outcome, or, without one when it is woken, to be committed."""

    __slots__ = ("batch", "outcome", "woken")

    def __init__(self, batch: OwnedBatch) -> None:
        self.batch = batch
        self.outcome: Applied | Exception | None = None
        self.woken = threading.Event()
