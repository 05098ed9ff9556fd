"""One turn of an ACP agent as events: the protocol's updates go to the turn's port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from acp.schema import (
    AgentMessageChunk,
    AgentPlanContentUpdate,
    AgentPlanUpdate,
    AgentThoughtChunk,
    AudioContentBlock,
    EmbeddedResourceContentBlock,
    ImageContentBlock,
    PlanEntry,
    PlanUpdateItems,
    PlanUpdateMarkdown,
    ResourceContentBlock,
    TextContentBlock,
    TextResourceContents,
    ToolCallProgress,
    ToolCallStart,
    ToolCallUpdate,
    UsageUpdate,
)

from frontdesk.agents.acp.agent_answers import PromptAnswer
from frontdesk.agents.acp.permissions import MAX_LINE_CHARACTERS, Excerpts
from frontdesk.agents.acp.token_counts import SessionUsage, tokens_in_meta, tokens_of
from frontdesk.agents.acp.tool_calls import AcpToolCalls, TerminalOutput, name_of
from frontdesk.agents.errors import QuestionExpired, TurnOver
from frontdesk.agents.events import (
    Error,
    Event,
    MessageDelta,
    MessageStart,
    OutOfTurn,
    ThinkingDelta,
)
from frontdesk.agents.records import NO_USAGE, Approval, ApprovalOption, TokenUsage
from frontdesk.agents.task import PIECE_CHARACTERS
from frontdesk.agents.turn import TurnPort

MAX_MESSAGE_IDS = 1000
"""Messages of one turn whose ids are remembered, to know what still comes of them later."""

MAX_REASON_CHARACTERS = 100
"""Characters of an agent's own reason for ending a turn."""

_MARKS = {"completed": "[x]", "in_progress": "[>]", "pending": "[ ]"}

T = TypeVar("T")

Update = Any
"""One of the SDK's models of what a `session/update` brings."""


class UpdateTranslator:
    """Translate one turn. What comes after its end is discarded."""

    def __init__(
        self,
        port: TurnPort,
        *,
        usage: SessionUsage,
        terminal_output: TerminalOutput = lambda _: None,
    ) -> None:
        self._port, self._usage = port, usage
        self._calls = AcpToolCalls(self._emit, terminal_output=terminal_output)
        self._message_id: str | None = None
        self._message_ids: set[str] = set()
        self._in_chunks = NO_USAGE
        self._prompting: set[asyncio.Future[Any]] = set()

    def on_update(self, update: Update, meta: Any = None) -> None:
        """Handle a `session/update`, with the `_meta` of it."""
        with contextlib.suppress(TurnOver):
            match update:
                case AgentMessageChunk():
                    self._message(update)
                    self._in_chunks += tokens_in_meta(update.field_meta or meta) or NO_USAGE
                case AgentThoughtChunk():
                    self._think(text_of(update.content))
                case ToolCallStart() | ToolCallProgress():
                    self._calls.on_report(update)
                case AgentPlanUpdate():
                    self._think(plan_text(update.entries))
                case AgentPlanContentUpdate(plan=PlanUpdateItems() as plan):
                    self._think(plan_text(plan.entries))
                case AgentPlanContentUpdate(plan=PlanUpdateMarkdown() as plan):
                    self._think(f"{plan.content}\n")
                case UsageUpdate() if update.cost is not None and update.cost.currency == "USD":
                    self._port.usage(TokenUsage(cost_usd=self._usage.cost_of(update.cost.amount)))
                case _:
                    pass  # modes, commands and titles are the business of editors

    def is_late(self, update: Update, *, ids_differ: bool) -> bool:
        """Say whether an update that comes after this turn still belongs to it, as its ids tell.

        `ids_differ` says that this agent does not use the ids of its messages again.
        """
        if isinstance(update, ToolCallStart):
            return False  # a call that begins is new, whatever its id
        return self.owns(update) and (ids_differ or isinstance(update, ToolCallProgress))

    def on_left_out(self) -> None:
        """Say that something of the turn was too large to be read."""
        with contextlib.suppress(TurnOver):
            self._emit(Error("message_too_large"))

    def on_answer(self, answer: PromptAnswer) -> None:
        """Handle how the agent ended a prompt."""
        self.add_usage(answer)
        if answer.reason not in (None, "end_turn"):
            self._emit(Error(str(answer.reason)[:MAX_REASON_CHARACTERS]))

    def add_usage(self, answer: PromptAnswer | None) -> None:
        """Add the tokens that the agent says a prompt used, by one of the ways to say it.

        None where there was no answer: then nobody knows.
        """
        in_chunks, self._in_chunks = self._in_chunks, NO_USAGE
        counts = None
        if answer is not None:
            counts = answer.usage and tokens_of(answer.usage)
            counts = counts or tokens_in_meta(answer.field_meta)
        if counts is not None:
            self._port.usage(self._usage.of_answer(counts))
        elif in_chunks.total:
            self._port.usage(in_chunks)
        if (counts is None and not in_chunks.total) or (counts and self._usage.is_partial):
            self._port.usage_unknown()

    async def approval(self, report: ToolCallUpdate, options: Sequence[ApprovalOption]) -> Approval:
        """Ask whether a tool may run; `cancelled` where the turn ends before an answer."""
        call = self._calls.call_of(report)
        self._calls.add(call, report)
        details = Excerpts().details(
            title=call.title,
            kind=call.kind,
            content=call.content,
            locations=call.locations,
            options=options,
        )
        hint = (call.title or "")[:MAX_LINE_CHARACTERS] or None
        asking = self._port.approval(call.name, call.args, hint=hint, details=details)
        try:
            answer = await self._until_answered(asking)
        except TurnOver:
            answer = Approval("cancelled")
        self._calls.judge(call, None if answer.status == "approved" else answer.status)
        return answer

    async def ask(self, question: str) -> Any:
        """Ask the user; `QuestionExpired` where there is no answer in time, or the turn ends."""
        try:
            return await self._until_answered(self._port.ask(question))
        except TurnOver:
            raise QuestionExpired("", waited_s=0) from None

    async def _until_answered(self, asking: Coroutine[Any, Any, T]) -> T:
        """Wait for a client; `TurnOver` where the turn ends before an answer."""
        prompting = asyncio.ensure_future(asking)
        self._prompting.add(prompting)
        try:
            await asyncio.wait({prompting})
            if prompting.cancelled():
                raise TurnOver(self._port.context.request_id)
            return prompting.result()
        finally:
            prompting.cancel()
            self._prompting.discard(prompting)

    def cancel_questions(self) -> None:
        """Answer what still waits for an approval, or an answer, with `cancelled`."""
        for prompting in list(self._prompting):
            prompting.cancel()

    def owns(self, update: Update) -> bool:
        """Say whether an update is about a message or a call of this turn, as its id tells."""
        match update:
            case AgentMessageChunk() | AgentThoughtChunk():
                return update.message_id in self._message_ids
            case ToolCallStart() | ToolCallProgress():
                return update.tool_call_id in self._calls
            case _:
                return False

    def ids_differ_from(self, other: UpdateTranslator) -> bool:
        """Say whether the messages of two turns have ids, and none is of both."""
        both = self._message_ids and other._message_ids
        return bool(both) and self._message_ids.isdisjoint(other._message_ids)

    def close(self, *, ended_well: bool = False) -> None:
        """End what is still under way: the turn is over."""
        self.cancel_questions()
        with contextlib.suppress(TurnOver):
            self._calls.close(ended_well=ended_well)

    def _message(self, chunk: AgentMessageChunk) -> None:
        previous, self._message_id = self._message_id, chunk.message_id
        if chunk.message_id is not None and len(self._message_ids) < MAX_MESSAGE_IDS:
            self._message_ids.add(chunk.message_id)
        if previous is not None and chunk.message_id not in (None, previous):
            self._emit(MessageStart())
        for piece in _split(text_of(chunk.content)):
            self._emit(MessageDelta(piece))

    def _think(self, text: str) -> None:
        for piece in _split(text):
            self._emit(ThinkingDelta(piece))

    def _emit(self, event: Event) -> None:
        self._port.emit(event)


def out_of_turn(update: Update) -> OutOfTurn | None:
    """Return what an agent did while no turn was under way; None for what clients do not see."""
    match update:
        case AgentMessageChunk():
            text = text_of(update.content)
            return OutOfTurn("message", text) if text else None
        case AgentThoughtChunk():
            return OutOfTurn("thought", text_of(update.content))
        case AgentPlanUpdate():
            return OutOfTurn("thought", plan_text(update.entries))
        case ToolCallStart() | ToolCallUpdate():
            status = f" ({update.status})" if update.status else ""
            return OutOfTurn("tool", f"{name_of(update)}{status}")
        case _:
            return None


def text_of(block: Any) -> str:
    """Return a block of content as text: what is none is named.

    >>> text_of(TextContentBlock(type="text", text="hello"))
    'hello'
    """
    match block:
        case TextContentBlock():
            return block.text
        case ResourceContentBlock():
            return f"[{block.title or block.name}]({block.uri})"
        case EmbeddedResourceContentBlock(resource=TextResourceContents() as resource):
            return resource.text
        case ImageContentBlock() | AudioContentBlock():
            return f"[{block.mime_type}]"
        case _:
            return ""


def plan_text(entries: list[PlanEntry]) -> str:
    """Return a plan as lines of text.

    >>> print(plan_text([PlanEntry(content="look", priority="high", status="completed")]), end="")
    Plan:
    [x] look
    """
    lines = [f"{_MARKS[entry.status]} {entry.content}" for entry in entries]
    return "".join(f"{line}\n" for line in ("Plan:", *lines))


def _split(text: str) -> list[str]:
    return [text[at : at + PIECE_CHARACTERS] for at in range(0, len(text), PIECE_CHARACTERS)]
