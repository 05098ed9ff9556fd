"""The calls of tools that an ACP agent reports in one turn, as events.

An agent reports a call as often as it likes, in parts; clients see it begin once it runs, and end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from acp.schema import (
    ContentToolCallContent,
    TerminalToolCallContent,
    TextContentBlock,
    ToolCall,
    ToolCallLocation,
    ToolCallUpdate,
)

from frontdesk.agents.events import Event
from frontdesk.agents.records import ToolStatus
from frontdesk.agents.tool_run import ToolRun

MAX_CALLS = 1000
"""Calls of one turn that are remembered; past that the oldest is forgotten."""

MAX_KEPT_BYTES = 8 * 1024 * 1024
"""Bytes that are kept of the calls of one turn until they end, all together."""

MAX_NAME_CHARACTERS = 200
"""Characters of a tool's name or of a call's id."""

CallReport = ToolCall | ToolCallUpdate

TerminalOutput = Callable[[str], str | None]
"""Returns what a terminal of the session has printed; None where there is no such terminal."""

_STATUS: dict[str, ToolStatus] = {"completed": "ok", "failed": "error"}


class AcpToolCall:
    """One call: what is known of it so far."""

    __slots__ = (
        "args",
        "content",
        "ended",
        "kind",
        "locations",
        "name",
        "output",
        "printed",
        "reported",
        "run",
        "sizes",
        "title",
        "verdict",
    )

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.title: str | None = None
        self.kind: str | None = None
        self.args: Any = None
        self.content: Sequence[Any] = ()
        self.locations: Sequence[ToolCallLocation] = ()
        self.output: Any = None
        self.printed: str = ""
        """What a terminal of the agent's own has printed: it is told in `_meta`, piece by piece."""
        self.reported: bool = False
        """Whether it is known from more than a request for permission."""
        self.run: ToolRun | None = None
        self.ended: bool = False
        self.verdict: ToolStatus | None = None
        """How its approval was answered, where that was no."""
        self.sizes: dict[str, int] = {}
        """How large what is kept of it is, by attribute."""


class AcpToolCalls:
    """Follow the calls of a turn, and emit when one begins and ends."""

    def __init__(
        self, emit: Callable[[Event], None], *, terminal_output: TerminalOutput = lambda _: None
    ) -> None:
        self._emit, self._terminal_output = emit, terminal_output
        self._calls: dict[str, AcpToolCall] = {}
        self._held_bytes = 0
        self._now = asyncio.get_running_loop().time

    def __contains__(self, call_id: str) -> bool:
        return call_id[:MAX_NAME_CHARACTERS] in self._calls

    def on_report(self, report: CallReport) -> None:
        """Handle a report: of a call that is new, or of one that goes on."""
        call = self.call_of(report)
        if call.ended:
            return
        self.add(call, report)
        call.reported = True
        if report.status in ("in_progress", "completed", "failed") and call.run is None:
            call_id = report.tool_call_id[:MAX_NAME_CHARACTERS]
            call.run = ToolRun(self._emit, call.name, call.args, now=self._now, call_id=call_id)
            call.run.begin()
        if report.status in _STATUS:
            # Some agents report a call completed that somebody said no to: it has not run.
            self._end(call, call.verdict or _STATUS[report.status])

    def call_of(self, report: CallReport) -> AcpToolCall:
        """Return the call that a report is about; one that is not known is new."""
        call_id = report.tool_call_id[:MAX_NAME_CHARACTERS]
        if call_id not in self._calls:
            if len(self._calls) >= MAX_CALLS:
                self._drop(next(iter(self._calls)), "cancelled")
            self._calls[call_id] = AcpToolCall(name_of(report))
        return self._calls[call_id]

    def add(self, call: AcpToolCall, report: CallReport) -> None:
        """Keep what a report says of its call, as far as there is room."""
        call.title, call.kind = report.title or call.title, report.kind or call.kind
        if report.raw_input is not None:
            self._keep(call, "args", report.raw_input)
        if report.raw_output is not None:
            self._keep(call, "output", report.raw_output)
        if report.content:
            self._keep(call, "content", report.content)
        if report.locations:
            self._keep(call, "locations", report.locations)
        printed = printed_after(call.printed, report.field_meta)
        if printed != call.printed:
            self._keep(call, "printed", printed)

    def judge(self, call: AcpToolCall, verdict: ToolStatus | None) -> None:
        """Note how an approval that is about a call was answered: after a no, it has not run.

        Some agents ask under an id of its own: then it is about what has the same arguments.
        """
        call.verdict = verdict
        if not call.reported and call.args is not None:
            for each in self._calls.values():
                if each.reported and not each.ended and each.args == call.args:
                    each.verdict = verdict

    def close(self, *, ended_well: bool) -> None:
        """End the calls that are still running: their turn is over.

        An agent whose turn has ended well has done what it began, and does not always say so.
        """
        for call_id in list(self._calls):
            self._drop(call_id, "ok" if ended_well else "cancelled")

    # -- within --------------------------------------------------------------------------------

    def _keep(self, call: AcpToolCall, name: str, value: Any) -> None:
        size = size_of(value)
        held_bytes = self._held_bytes - call.sizes.get(name, 0) + size
        if held_bytes > MAX_KEPT_BYTES:
            value, size = f"<{size} bytes>", 0
            if name in ("content", "locations"):
                value = ()
            held_bytes = self._held_bytes - call.sizes.get(name, 0)
        self._held_bytes, call.sizes[name] = held_bytes, size
        setattr(call, name, value)

    def _drop(self, call_id: str, status: ToolStatus) -> None:
        call = self._calls.pop(call_id)
        if not call.ended:
            self._end(call, call.verdict or status)

    def _end(self, call: AcpToolCall, status: ToolStatus) -> None:
        if call.run is not None:  # otherwise no client saw it begin
            call.ended = True
            output = call.output
            call.run.end(status, self._result_of(call) if output is None else output)
        # Calls stay known to the end of the turn, but not what they carried.
        call.args = call.output = None
        call.printed = ""
        call.content = call.locations = ()
        self._held_bytes -= sum(call.sizes.values())
        call.sizes = {}

    def _result_of(self, call: AcpToolCall) -> Any:
        """Return the content of a call as its result: text where all of it is text."""
        content = call.content
        if not content:
            return call.printed or None
        texts = [self._text_of(each, call) for each in content]
        if None not in texts:
            return "".join(text for text in texts if text is not None)
        parts = [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in content]
        for part in parts:
            if part["type"] == "terminal":  # its id says nothing to a client
                part["output"] = self._printed(part["terminalId"], call)
        return parts

    def _text_of(self, content: Any, call: AcpToolCall) -> str | None:
        match content:
            case ContentToolCallContent(content=TextContentBlock() as block):
                return block.text
            case TerminalToolCallContent():
                return self._printed(content.terminal_id, call)
            case _:
                return None

    def _printed(self, terminal_id: str, call: AcpToolCall) -> str | None:
        """Return what a terminal has printed: one of the session's, or the agent's own."""
        printed = self._terminal_output(terminal_id)
        return call.printed or None if printed is None else printed


def name_of(report: CallReport) -> str:
    """Return what clients know a tool by: the first title of its call, or else its kind."""
    title = (report.title or "").strip().partition("\n")[0]
    return (title or report.kind or "tool")[:MAX_NAME_CHARACTERS]


def printed_after(printed: str, meta: Any) -> str:
    """Return what a terminal of the agent's own has printed, with what a report's `_meta` adds.

    >>> printed_after("a", {"terminal_output_delta": {"terminal_id": "t", "data": "b"}})
    'ab'
    >>> printed_after("a", {"terminal_output": {"terminal_id": "t", "data": "ab"}})
    'ab'
    """
    for name in ("terminal_output", "terminal_output_delta"):
        found = meta.get(name) if isinstance(meta, dict) else None
        if isinstance(found, dict) and isinstance(data := found.get("data"), str):
            whole = name == "terminal_output" and data.startswith(printed)
            return data if whole else printed + data
    return printed


def size_of(value: Any) -> int:
    """Return how large a value is as JSON, about."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list) and value and hasattr(value[0], "model_dump_json"):
        return sum(len(each.model_dump_json()) for each in value)
    try:
        return len(msgspec.json.encode(value))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return MAX_KEPT_BYTES
