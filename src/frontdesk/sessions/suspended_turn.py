"""A turn that waits for somebody's answers and lost its agent, with its process or the gateway's.

What was asked stays open, as clients left it. Once all of it is answered, or too late, the turn
goes on in the session's next agent, from what the last one left; the runner waits for that.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec

from frontdesk.agents.events import ApprovalRequired, ApprovalResolved
from frontdesk.agents.records import Approval, Memory, Suspended
from frontdesk.sessions.earlier_life import EarlierRequest, EarlierTurn
from frontdesk.sessions.pending import NO_ANSWER
from frontdesk.sessions.turn_parts import TurnParts


class SuspendedTurn:
    """Hold what a turn waits for, and the answers so far. On one event loop.

    `answered` is done once nothing of it is open any more.
    """

    __slots__ = ("_approvals", "_open", "_parts", "_responses", "answered", "earlier")

    def __init__(self, earlier: EarlierTurn, parts: TurnParts) -> None:
        self.earlier: EarlierTurn = earlier
        self._parts = parts
        self._open: set[str] = set()
        self._approvals: dict[str, Approval] = {}
        self._responses: dict[str, Any] = {}
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for request in earlier.requests:
            if request.answer is None:
                self._wait_for(request)
            elif isinstance(request.event, ApprovalRequired):
                answer = msgspec.json.decode(request.answer, type=Approval)
                self._approvals[request.reference] = answer
            else:
                self._responses[request.reference] = msgspec.json.decode(request.answer)
        self._notify()

    def suspended(self, memory: Memory) -> Suspended:
        """Return where the turn goes on."""
        return Suspended(memory=memory, approvals=self._approvals, responses=self._responses)

    def _wait_for(self, request: EarlierRequest) -> None:
        parts, reference = self._parts, request.reference
        settings = parts.service.settings
        self._open.add(reference)
        if isinstance(request.event, ApprovalRequired):
            parts.approvals.restore(
                reference,
                request.event,
                timeout_s=settings.approval_timeout_s,
                late=Approval("expired"),
                dismissed=Approval("cancelled"),
                on_answer=partial(self._on_approval, reference),
            )
        else:
            parts.questions.restore(
                reference,
                request.event,
                timeout_s=settings.question_timeout_s,
                late=NO_ANSWER,
                dismissed=NO_ANSWER,
                on_answer=partial(self._on_response, reference),
            )

    def _on_approval(self, reference: str, answer: Approval) -> None:
        # Its agent offered no options: those that do cannot suspend.
        resolved = ApprovalResolved(reference, answer.status, answer.option_id)
        request_id = self.earlier.request_id
        self._parts.log.append_shortened(resolved, request_id=request_id)
        self._approvals[reference] = answer
        self._on_answer(reference, answer)

    def _on_response(self, reference: str, answer: Any) -> None:
        if answer is not NO_ANSWER:
            self._responses[reference] = answer
        self._on_answer(reference, answer)

    def _on_answer(self, reference: str, answer: object) -> None:
        if self._parts.record is not None:
            self._parts.record.answer(reference, answer)
        self._open.discard(reference)
        self._notify()

    def _notify(self) -> None:
        if not self._open and not self.answered.done():
            self.answered.set_result(None)
