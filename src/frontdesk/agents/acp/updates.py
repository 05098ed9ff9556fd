"""One turn of an ACP agent, told as events: what the agent reports goes to the turn's port.

Below `acp_agent.py` and the requests, above the turn's port. It knows the protocol's updates, and
nothing of the connection that they come through.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Any

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
    PromptResponse,
    RequestPermissionRequest,
    ResourceContentBlock,
    TextContentBlock,
    TextResourceContents,
    ToolCallProgress,
    ToolCallStart,
    Usage,
    UsageUpdate,
)

from frontdesk.agents.acp.calls import AcpToolCalls
from frontdesk.agents.errors import TurnOver
from frontdesk.agents.events import Error, Event, MessageDelta, MessageStart, ThinkingDelta
from frontdesk.agents.protocol import PIECE_CHARACTERS
from frontdesk.agents.records import Approval
from frontdesk.agents.turn import TurnPort

LONGEST_HINT = 2000
"""Characters of what an approval says beside the tool and its arguments."""

MOST_TOKENS = 1_000_000_000
"""Tokens that an agent may say it used in one turn, of each kind."""

_MARKS = {"completed": "[x]", "in_progress": "[>]", "pending": "[ ]"}


class TurnUsage:
    """What a session of an agent has cost so far: agents report the sum, meters want the rest."""

    __slots__ = ("cost_usd",)

    def __init__(self) -> None:
        self.cost_usd = 0.0

    def more(self, total: float) -> float:
        """Take in a new sum; return what it is more than the last."""
        if not math.isfinite(total) or total <= self.cost_usd:
            return 0.0
        more, self.cost_usd = total - self.cost_usd, total
        return more


class UpdateTranslator:
    """Tell one turn. What comes after its end is discarded."""

    def __init__(self, port: TurnPort, *, spent: TurnUsage) -> None:
        self._port, self._spent = port, spent
        self._calls = AcpToolCalls(self._emit)
        self._message_id: str | None = None
        self._asking: set[asyncio.Future[Approval]] = set()

    def take(self, update: Any) -> None:
        """Take in a `session/update`."""
        with contextlib.suppress(TurnOver):
            self._take(update)

    def concluded(self, response: PromptResponse) -> None:
        """Take in how the agent ended what it was asked."""
        self.used(response)
        if response.stop_reason != "end_turn":
            self._port.emit(Error(response.stop_reason))

    def used(self, response: PromptResponse) -> None:
        """Take in the tokens alone."""
        if response.usage is not None:
            prompt, completion = tokens_of(response.usage)
            cached = min(response.usage.cached_read_tokens or 0, MOST_TOKENS)
            self._port.usage(prompt=prompt, completion=completion, cached=cached)

    async def approval(self, request: RequestPermissionRequest) -> Approval:
        """Ask whether a tool may run; `cancelled` where the turn ends before an answer."""
        call = self._calls.known(request.tool_call)
        asking = asyncio.ensure_future(
            self._port.approval(
                call.name,
                call.args if request.tool_call.raw_input is None else request.tool_call.raw_input,
                hint=(request.tool_call.title or "")[:LONGEST_HINT] or None,
            )
        )
        self._asking.add(asking)
        try:
            answer = await _answer(asking)
        finally:
            asking.cancel()
            self._asking.discard(asking)
        call.verdict = None if answer.approved else answer.status
        return answer

    def dismiss(self) -> None:
        """Answer what still waits for an approval with `cancelled`."""
        for asking in list(self._asking):
            asking.cancel()

    def close(self) -> None:
        """End what is still under way: the turn is over."""
        self.dismiss()
        with contextlib.suppress(TurnOver):
            self._calls.close()

    # -- updates -------------------------------------------------------------------------------

    def _take(self, update: Any) -> None:
        match update:
            case AgentMessageChunk():
                self._message(update)
            case AgentThoughtChunk():
                self._think(text_of(update.content))
            case ToolCallStart() | ToolCallProgress():
                self._calls.take(update)
            case AgentPlanUpdate():
                self._think(plan_text(update.entries))
            case AgentPlanContentUpdate(plan=PlanUpdateItems() as plan):
                self._think(plan_text(plan.entries))
            case AgentPlanContentUpdate(plan=PlanUpdateMarkdown() as plan):
                self._think(f"{plan.content}\n")
            case UsageUpdate() if update.cost is not None and update.cost.currency == "USD":
                self._port.usage(cost_usd=self._spent.more(update.cost.amount))
            case _:
                pass  # modes, commands and titles are the business of editors

    def _message(self, chunk: AgentMessageChunk) -> None:
        former, self._message_id = self._message_id, chunk.message_id
        if former is not None and chunk.message_id not in (None, former):
            self._emit(MessageStart())
        for piece in _pieces(text_of(chunk.content)):
            self._emit(MessageDelta(piece))

    def _think(self, text: str) -> None:
        for piece in _pieces(text):
            self._emit(ThinkingDelta(piece))

    def _emit(self, event: Event) -> None:
        self._port.emit(event)


async def _answer(asking: asyncio.Future[Approval]) -> Approval:
    await asyncio.wait({asking})
    if asking.cancelled():
        return Approval("cancelled")
    try:
        return asking.result()
    except TurnOver:
        return Approval("cancelled")


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


def tokens_of(used: Usage) -> tuple[int, int]:
    """Return the tokens of prompts and of answers, caches and thoughts included.

    The protocol's total is the sum of all kinds, so it tells whether those are counted beside.

    >>> tokens_of(Usage(input_tokens=7, output_tokens=5, cached_read_tokens=4, total_tokens=16))
    (11, 5)
    >>> tokens_of(Usage(input_tokens=11, output_tokens=5, cached_read_tokens=4, total_tokens=16))
    (11, 5)
    """
    prompt, completion = used.input_tokens, used.output_tokens
    if used.total_tokens > prompt + completion:
        prompt += (used.cached_read_tokens or 0) + (used.cached_write_tokens or 0)
        completion += used.thought_tokens or 0
    return min(prompt, MOST_TOKENS), min(completion, MOST_TOKENS)


def plan_text(entries: list[PlanEntry]) -> str:
    """Return a plan as lines of text.

    >>> print(plan_text([PlanEntry(content="look", priority="high", status="completed")]), end="")
    Plan:
    [x] look
    """
    lines = [f"{_MARKS[entry.status]} {entry.content}" for entry in entries]
    return "".join(f"{line}\n" for line in ("Plan:", *lines))


def _pieces(text: str) -> list[str]:
    return [text[at : at + PIECE_CHARACTERS] for at in range(0, len(text), PIECE_CHARACTERS)]
