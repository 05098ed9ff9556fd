"""The tool calls of one turn of an ACP agent: reports of their progress become two events each.

Below `acp_telling.py`. An agent reports a call as often as it likes, in parts; clients see it begin
once it runs, and end. It knows nothing of the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from acp.schema import ContentToolCallContent, TextContentBlock, ToolCall, ToolCallUpdate

from frontdesk.agents.events import Event, ToolExecutionEnd, ToolExecutionStart

MOST_CALLS = 1000
"""Calls of one turn that are remembered; past that the oldest is forgotten."""

LONGEST_NAME = 200
"""Characters of a tool's name or of a call's id."""

CallReport = ToolCall | ToolCallUpdate

_STATUS = {"completed": "ok", "failed": "error"}


class AcpToolCall:
    """One call: what is known of it so far."""

    __slots__ = ("args", "began_s", "content", "ended", "name", "output", "verdict")

    def __init__(self, name: str) -> None:
        self.name = name
        self.args: Any = None
        self.content: Any = None
        self.output: Any = None
        self.began_s: float | None = None
        self.ended = False
        self.verdict: str | None = None
        """How its approval was answered, where that was no."""


class AcpToolCalls:
    """Follow the calls of a turn, and say when one begins and ends."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._calls: dict[str, AcpToolCall] = {}
        self._now = asyncio.get_running_loop().time

    def take(self, report: CallReport) -> None:
        """Take in a report: of a call that is new, or of one that goes on."""
        call_id = report.tool_call_id[:LONGEST_NAME]
        call = self.known(report)
        _learn(call, report)
        if call.ended:
            return
        if report.status in ("in_progress", "completed", "failed"):
            self._begin(call_id, call)
        if report.status in _STATUS:
            status = _STATUS[report.status]
            self._end(call_id, call, call.verdict if status == "error" else status)

    def known(self, report: CallReport) -> AcpToolCall:
        """Return the call that a report is about; one of which nobody has heard is new."""
        call_id = report.tool_call_id[:LONGEST_NAME]
        if call_id not in self._calls:
            if len(self._calls) >= MOST_CALLS:
                self._forget(next(iter(self._calls)))
            self._calls[call_id] = AcpToolCall(name_of(report))
        return self._calls[call_id]

    def close(self) -> None:
        """End the calls that are still running: their turn is over."""
        for call_id in list(self._calls):
            self._forget(call_id)

    def _forget(self, call_id: str) -> None:
        call = self._calls.pop(call_id)
        if call.began_s is not None and not call.ended:
            self._end(call_id, call, "cancelled")

    def _begin(self, call_id: str, call: AcpToolCall) -> None:
        if call.began_s is None:
            call.began_s = self._now()
            self._emit(ToolExecutionStart(call_id, call.name, call.args))

    def _end(self, call_id: str, call: AcpToolCall, status: str | None) -> None:
        call.ended = True
        took_ms = round((self._now() - (call.began_s or self._now())) * 1000)
        result = call.output if call.output is not None else call.content
        self._emit(ToolExecutionEnd(call_id, call.name, status or "error", result, took_ms))
        # Calls stay known to the end of the turn, but not what they carried.
        call.args = call.content = call.output = None


def name_of(report: CallReport) -> str:
    """Return what clients know a tool by: the first title of its call, or else its kind."""
    title = (report.title or "").strip().partition("\n")[0]
    return (title or report.kind or "tool")[:LONGEST_NAME]


def _learn(call: AcpToolCall, report: CallReport) -> None:
    if report.raw_input is not None:
        call.args = report.raw_input
    if report.raw_output is not None:
        call.output = report.raw_output
    if report.content:
        call.content = _shown(report.content)


def _shown(content: list[Any]) -> Any:
    """Return the content of a call as its result: text where all of it is text."""
    texts = [
        each.content.text
        for each in content
        if isinstance(each, ContentToolCallContent) and isinstance(each.content, TextContentBlock)
    ]
    if len(texts) == len(content):
        return "".join(texts)
    return [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in content]
