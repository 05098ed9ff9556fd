"""What waits for somebody's answer: approvals, or questions. Each is answered once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from frontdesk.agents.approval_options import problem_of_choice
from frontdesk.agents.events import ApprovalRequired
from frontdesk.agents.records import Approval
from frontdesk.sessions.errors import OptionRefused, UnknownReference

R = TypeVar("R")
A = TypeVar("A")

NO_ANSWER: Final = object()
"""In place of the response to a question, where there is none."""


class _Pending(Generic[R, A]):
    __slots__ = ("dismissed", "future", "on_answer", "request")

    def __init__(self, request: R, *, dismissed: A, on_answer: Callable[[A], object]) -> None:
        self.request = request
        self.future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self.dismissed, self.on_answer = dismissed, on_answer


class PendingRequests(Generic[R, A]):
    """Hold the requests (the events that went out) that wait for an answer, by reference.

    `name` is what a reference is called on the wire. An answer counts the moment it is given,
    even where the waiting turn is cancelled in the same moment. `repeats` says of an answer to what
    waits no longer whether it may be given again. All on one event loop.
    """

    __slots__ = ("_by_reference", "_name", "_repeats")

    def __init__(self, name: str, *, repeats: Callable[[str, A], bool] | None = None) -> None:
        self._name, self._repeats = name, repeats
        self._by_reference: dict[str, _Pending[R, A]] = {}

    def __len__(self) -> int:
        return len(self._by_reference)

    def __contains__(self, reference: object) -> bool:
        return reference in self._by_reference

    def requests(self) -> tuple[R, ...]:
        """Return what waits, oldest first."""
        return tuple(each.request for each in self._by_reference.values())

    async def wait(
        self,
        reference: str,
        request: R,
        *,
        timeout_s: float,
        late: A,
        dismissed: A,
        on_answer: Callable[[A], object] = lambda _: None,
    ) -> A:
        """Wait for the answer to one request; `late` is the answer after `timeout_s`.

        `on_answer` is called with the answer, once and as soon as it is given; with `dismissed`
        when whoever waits is cancelled, or its turn has ended.
        """
        pending = _Pending(request, dismissed=dismissed, on_answer=on_answer)
        self._by_reference[reference] = pending
        timer = asyncio.get_running_loop().call_later(timeout_s, self._resolve, reference, late)
        try:
            return await pending.future
        finally:
            timer.cancel()
            # Another may wait under this reference by now: `restore`.
            if self._by_reference.get(reference) is pending:
                self._resolve(reference, dismissed)

    def restore(
        self,
        reference: str,
        request: R,
        *,
        timeout_s: float,
        late: A,
        dismissed: A,
        on_answer: Callable[[A], object],
    ) -> None:
        """Hold a request of an earlier life, as `wait` does: nobody here waits for its answer."""

        def answered(answer: A) -> None:
            timer.cancel()
            on_answer(answer)

        self._by_reference[reference] = _Pending(request, dismissed=dismissed, on_answer=answered)
        timer = asyncio.get_running_loop().call_later(timeout_s, self._resolve, reference, late)

    def answer(self, reference: str, answer: A) -> bool:
        """Give the answer; false where it repeats one that counts already.

        `UnknownReference` where nothing waits under this reference any more.
        """
        if reference not in self and self._repeats is not None and self._repeats(reference, answer):
            return False
        self.request(reference)
        self._resolve(reference, answer)
        return True

    def request(self, reference: str) -> R:
        """Return what waits under this reference; `UnknownReference`."""
        if reference not in self._by_reference:
            raise UnknownReference(self._name, reference=reference)
        return self._by_reference[reference].request

    def dismiss_all(self) -> None:
        """Dismiss everything that waits: its turn has ended."""
        for reference, pending in list(self._by_reference.items()):
            self._resolve(reference, pending.dismissed)

    def drop_all(self) -> None:
        """Hold nothing more, and answer nothing: all of it waits elsewhere."""
        self._by_reference.clear()

    def _resolve(self, reference: str, answer: A) -> None:
        pending = self._by_reference.pop(reference, None)
        if pending is None:
            return
        pending.on_answer(answer)
        if not pending.future.done():
            pending.future.set_result(answer)


class PendingApprovals(PendingRequests[ApprovalRequired, Approval]):
    """The approvals that wait; an option is chosen among those that were offered with each."""

    __slots__ = ()

    def answer(self, reference: str, answer: Approval) -> bool:
        """Give the answer, as above; also `OptionRefused`."""
        if answer.option_id is not None and reference in self:
            details = self.request(reference).details
            problem = problem_of_choice(answer.option_id, approved=answer.approved, details=details)
            if problem is not None:
                raise OptionRefused(answer.option_id, problem=problem)
        return super().answer(reference, answer)
