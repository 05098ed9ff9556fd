"""A turn's port for turns that no client asked for: checks of a blueprint, and warm-ups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from frontdesk.agents.errors import ToolFailed
from frontdesk.agents.events import Error, Event, MessageDelta
from frontdesk.agents.records import (
    Approval,
    ApprovalDetails,
    Memory,
    SessionContext,
    TokenUsage,
    ToolSpec,
    TurnContext,
)
from frontdesk.agents.turn import TurnListener

ANSWER = "This is only a check: please go on without an answer."

MAX_RECORDED = 2000
"""Characters that are kept of an agent's text, and the number of errors."""


class RecordingTurnPort:
    """Record the text and the errors of one turn, and answer for the client (`TurnPort`).

    Approvals are rejected, questions are answered with a sentence, callback tools there are none.
    """

    def __init__(self, session: SessionContext, prompt: str) -> None:
        self.context: TurnContext = TurnContext(
            text=prompt, request_id="req_check", session=session, model=session.model
        )
        self.errors: list[str] = []
        self._text: list[str] = []
        self._recorded = 0

    @property
    def text(self) -> str:
        """Return the beginning of what the agent answered."""
        return "".join(self._text)[:MAX_RECORDED]

    @property
    def model(self) -> str:
        """Return the session's model."""
        return self.context.model

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """Return none."""
        return ()

    def emit(self, event: Event) -> None:
        """Record the beginning of the text, and the errors."""
        if isinstance(event, MessageDelta) and self._recorded < MAX_RECORDED:
            self._text.append(event.delta)
            self._recorded += len(event.delta)
        elif isinstance(event, Error) and len(self.errors) < MAX_RECORDED:
            self.errors.append(event.reason)

    def usage(self, used: TokenUsage) -> None:
        """Count nothing."""

    def usage_unknown(self) -> None:
        """Count nothing."""

    def steering(self, limit: int | None = None) -> list[str]:  # noqa: ARG002
        """Return none."""
        return []

    def waiting_steering(self) -> list[str]:
        """Return none."""
        return []

    def listen(self, listener: TurnListener | None) -> None:
        """Notify nobody: nothing changes."""

    def remember(self, memory: Memory) -> None:
        """Keep nothing: no other agent follows."""

    def suspend(self, memory: Memory) -> None:
        """Keep nothing: what is asked is answered at once."""

    async def approval(
        self,
        tool: str,  # noqa: ARG002
        args: Any = None,  # noqa: ARG002
        *,
        hint: str | None = None,  # noqa: ARG002
        details: ApprovalDetails | None = None,  # noqa: ARG002
        reference: str | None = None,  # noqa: ARG002
    ) -> Approval:
        """Approve of nothing."""
        return Approval("rejected", ANSWER)

    async def ask(self, question: str, *, reference: str | None = None) -> Any:  # noqa: ARG002
        """Answer with a sentence."""
        return ANSWER

    async def call_tool(self, name: str, args: Any = None, *, call_id: str | None = None) -> Any:  # noqa: ARG002
        """Fail: nobody has attached any."""
        raise ToolFailed(name, problem="there are no callback tools in a check")
