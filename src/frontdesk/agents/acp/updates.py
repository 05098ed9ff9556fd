"""One turn of an ACP agent as events: the protocol's updates go to the turn's port.

An agent reports a tool call as often as it likes, in parts; clients see it begin once it runs, and
end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from acp.schema import (
    AgentMessageChunk,
    AgentPlanContentUpdate,
    AgentPlanUpdate,
    AgentThoughtChunk,
    AudioContentBlock,
    ContentToolCallContent,
    EmbeddedResourceContentBlock,
    ImageContentBlock,
    PlanEntry,
    PlanUpdateItems,
    PlanUpdateMarkdown,
    PromptResponse,
    RequestPermissionRequest,
    ResourceContentBlock,
    TextContentBlock,
    TextResourceContents,
    ToolCall,
    ToolCallProgress,
    ToolCallStart,
    ToolCallUpdate,
    Usage,
    UsageUpdate,
)

from frontdesk.agents.errors import TurnOver
from frontdesk.agents.events import (
    Error,
    Event,
    MessageDelta,
    MessageStart,
    ThinkingDelta,
    ToolStatus,
)
from frontdesk.agents.records import MAX_COST_USD, Approval, TokenUsage
from frontdesk.agents.task import PIECE_CHARACTERS
from frontdesk.agents.tool_run import ToolRun
from frontdesk.agents.turn import TurnPort

MAX_CALLS = 1000
"""Calls of one turn that are remembered; past that the oldest is forgotten."""

MAX_NAME_CHARACTERS = 200
"""Characters of a tool's name or of a call's id."""

CallReport = ToolCall | ToolCallUpdate

_STATUS: dict[str, ToolStatus] = {"completed": "ok", "failed": "error"}

MAX_HINT_CHARACTERS = 2000
"""Characters of what an approval says beside the tool and its arguments."""

MAX_TOKENS = 1_000_000_000
"""Tokens that an agent may say it used in one turn, of each kind."""

_MARKS = {"completed": "[x]", "in_progress": "[>]", "pending": "[ ]"}


class ReportedCost:
    """What a session of an agent has cost so far: agents report the sum, meters want the rest."""

    __slots__ = ("cost_usd",)

    def __init__(self) -> None:
        self.cost_usd = 0.0

    def increase_to(self, total: float) -> float:
        """Keep a new sum; return what it is more than the last."""
        if not self.cost_usd < total <= MAX_COST_USD:
            return 0.0
        increase, self.cost_usd = total - self.cost_usd, total
        return increase


class AcpToolCall:
    """One call: what is known of it so far."""

    __slots__ = ("args", "content", "ended", "name", "output", "run", "verdict")

    def __init__(self, name: str) -> None:
        self.name = name
        self.args: Any = None
        self.content: Any = None
        self.output: Any = None
        self.run: ToolRun | None = None
        self.ended = False
        self.verdict: ToolStatus | None = None
        """How its approval was answered, where that was no."""


class AcpToolCalls:
    """Follow the calls of a turn, and emit when one begins and ends."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._calls: dict[str, AcpToolCall] = {}
        self._now = asyncio.get_running_loop().time

    def on_report(self, report: CallReport) -> None:
        """Handle a report: of a call that is new, or of one that goes on."""
        call_id = report.tool_call_id[:MAX_NAME_CHARACTERS]
        call = self.call_of(report)
        if report.raw_input is not None:
            call.args = report.raw_input
        if report.raw_output is not None:
            call.output = report.raw_output
        if report.content:
            call.content = _result_of(report.content)
        if call.ended:
            return
        if report.status in ("in_progress", "completed", "failed") and call.run is None:
            call.run = ToolRun(self._emit, call.name, call.args, now=self._now, call_id=call_id)
            call.run.begin()
        if report.status in _STATUS:
            status = _STATUS[report.status]
            _end(call, (call.verdict or status) if status == "error" else status)

    def call_of(self, report: CallReport) -> AcpToolCall:
        """Return the call that a report is about; one that is not known is new."""
        call_id = report.tool_call_id[:MAX_NAME_CHARACTERS]
        if call_id not in self._calls:
            if len(self._calls) >= MAX_CALLS:
                self._drop(next(iter(self._calls)))
            self._calls[call_id] = AcpToolCall(name_of(report))
        return self._calls[call_id]

    def close(self) -> None:
        """End the calls that are still running: their turn is over."""
        for call_id in list(self._calls):
            self._drop(call_id)

    def _drop(self, call_id: str) -> None:
        call = self._calls.pop(call_id)
        if not call.ended:
            _end(call, "cancelled")


def _end(call: AcpToolCall, status: ToolStatus) -> None:
    if call.run is None:
        return  # no client saw it begin
    call.ended = True
    call.run.end(status, call.output if call.output is not None else call.content)
    # Calls stay known to the end of the turn, but not what they carried.
    call.args = call.content = call.output = None


class UpdateTranslator:
    """Translate one turn. What comes after its end is discarded."""

    def __init__(self, port: TurnPort, *, cost: ReportedCost) -> None:
        self._port, self._cost = port, cost
        self._calls = AcpToolCalls(self._emit)
        self._message_id: str | None = None
        self._prompting: set[asyncio.Future[Approval]] = set()

    def on_update(self, update: Any) -> None:
        """Handle a `session/update`."""
        with contextlib.suppress(TurnOver):
            match update:
                case AgentMessageChunk():
                    self._message(update)
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
                    self._port.usage(
                        TokenUsage(cost_usd=self._cost.increase_to(update.cost.amount))
                    )
                case _:
                    pass  # modes, commands and titles are the business of editors

    def on_response(self, response: PromptResponse) -> None:
        """Handle how the agent ended a prompt."""
        self.add_usage(response)
        if response.stop_reason != "end_turn":
            self._port.emit(Error(response.stop_reason))

    def add_usage(self, response: PromptResponse) -> None:
        """Add the tokens alone."""
        if response.usage is not None:
            prompt, completion = tokens_of(response.usage)
            cached = min(response.usage.cached_read_tokens or 0, MAX_TOKENS)
            self._port.usage(TokenUsage(prompt, completion, cached))

    async def approval(self, request: RequestPermissionRequest) -> Approval:
        """Ask whether a tool may run; `cancelled` where the turn ends before an answer."""
        call = self._calls.call_of(request.tool_call)
        prompting = asyncio.ensure_future(
            self._port.approval(
                call.name,
                call.args if request.tool_call.raw_input is None else request.tool_call.raw_input,
                hint=(request.tool_call.title or "")[:MAX_HINT_CHARACTERS] or None,
            )
        )
        self._prompting.add(prompting)
        answer = Approval("cancelled")
        try:
            await asyncio.wait({prompting})
            if not prompting.cancelled():
                with contextlib.suppress(TurnOver):
                    answer = prompting.result()
        finally:
            prompting.cancel()
            self._prompting.discard(prompting)
        call.verdict = None if answer.status == "approved" else answer.status
        return answer

    def cancel_approvals(self) -> None:
        """Answer what still waits for an approval with `cancelled`."""
        for prompting in list(self._prompting):
            prompting.cancel()

    def close(self) -> None:
        """End what is still under way: the turn is over."""
        self.cancel_approvals()
        with contextlib.suppress(TurnOver):
            self._calls.close()

    def _message(self, chunk: AgentMessageChunk) -> None:
        previous, self._message_id = self._message_id, chunk.message_id
        if previous is not None and chunk.message_id not in (None, previous):
            self._emit(MessageStart())
        for piece in _split(text_of(chunk.content)):
            self._emit(MessageDelta(piece))

    def _think(self, text: str) -> None:
        for piece in _split(text):
            self._emit(ThinkingDelta(piece))

    def _emit(self, event: Event) -> None:
        self._port.emit(event)


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


def tokens_of(add_usage: Usage) -> tuple[int, int]:
    """Return the tokens of prompts and of answers, caches and thoughts included.

    The protocol's total is the sum of all kinds, so it shows whether those are counted beside.

    >>> tokens_of(Usage(input_tokens=7, output_tokens=5, cached_read_tokens=4, total_tokens=16))
    (11, 5)
    >>> tokens_of(Usage(input_tokens=11, output_tokens=5, cached_read_tokens=4, total_tokens=16))
    (11, 5)
    """
    prompt, completion = add_usage.input_tokens, add_usage.output_tokens
    if add_usage.total_tokens > prompt + completion:
        prompt += (add_usage.cached_read_tokens or 0) + (add_usage.cached_write_tokens or 0)
        completion += add_usage.thought_tokens or 0
    return min(prompt, MAX_TOKENS), min(completion, MAX_TOKENS)


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


def name_of(report: CallReport) -> str:
    """Return what clients know a tool by: the first title of its call, or else its kind."""
    title = (report.title or "").strip().partition("\n")[0]
    return (title or report.kind or "tool")[:MAX_NAME_CHARACTERS]


def _result_of(content: list[Any]) -> Any:
    """Return the content of a call as its result: text where all of it is text."""
    texts = [
        each.content.text
        for each in content
        if isinstance(each, ContentToolCallContent) and isinstance(each.content, TextContentBlock)
    ]
    if len(texts) == len(content):
        return "".join(texts)
    return [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in content]
