"""What waits for somebody's answer: approvals, or questions. Each is answered once.

Beside the prompt queue, below the turn. It knows nothing of events: whoever waits says what is to
be told when the answer comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from frontdesk.sessions.errors import UnknownReference

A = TypeVar("A")


class _Open(Generic[A]):
    __slots__ = ("dismissed", "future", "shown", "told")

    def __init__(self, *, shown: dict[str, Any], dismissed: A, told: Callable[[A], None]) -> None:
        self.future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self.shown, self.dismissed, self.told = shown, dismissed, told


class PendingRequests(Generic[A]):
    """Hold what waits, by reference. All on one event loop.

    `name` is what a reference is called on the wire. An answer counts the moment it is given,
    even where the waiting turn is cancelled in the same moment.
    """

    __slots__ = ("_name", "_open")

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: dict[str, _Open[A]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def shown(self) -> list[dict[str, Any]]:
        """Return what waits, as `status` shows it."""
        return [each.shown for each in self._open.values()]

    async def wait(
        self,
        reference: str,
        *,
        shown: dict[str, Any],
        timeout_s: float,
        late: A,
        dismissed: A,
        told: Callable[[A], None],
    ) -> A:
        """Wait for the answer to one reference; `late` is the answer after `timeout_s`.

        `told` is called with the answer, once and as soon as it is given; with `dismissed` when
        whoever waits is cancelled, or its turn has ended.
        """
        waiting = _Open(shown=shown, dismissed=dismissed, told=told)
        self._open[reference] = waiting
        timer = asyncio.get_running_loop().call_later(timeout_s, self._settle, reference, late)
        try:
            return await waiting.future
        finally:
            timer.cancel()
            self._settle(reference, dismissed)

    def answer(self, reference: str, answer: A) -> None:
        """Give the answer; `UnknownReference` where nothing waits under this reference any more."""
        if reference not in self._open:
            raise UnknownReference(self._name, reference=reference)
        self._settle(reference, answer)

    def dismiss_all(self) -> None:
        """Dismiss everything that waits: its turn has ended."""
        for reference, waiting in list(self._open.items()):
            self._settle(reference, waiting.dismissed)

    def _settle(self, reference: str, answer: A) -> None:
        waiting = self._open.pop(reference, None)
        if waiting is None:
            return
        waiting.told(answer)
        if not waiting.future.done():
            waiting.future.set_result(answer)
