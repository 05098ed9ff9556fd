"""The messages of one turn, collected for the history from the events that went out."""

from __future__ import annotations

from typing import Any

import msgspec

from frontdesk.agents.events import (
    Event,
    LastMessage,
    MessageDelta,
    MessageStart,
    ThinkingDelta,
    ThinkingStart,
    ToolExecutionEnd,
    ToolExecutionStart,
)
from frontdesk.agents.records import Message, ToolCall
from frontdesk.agents.values import encodable, json_value
from frontdesk.sessions.history import History

MAX_MESSAGE_CHARACTERS = 1_000_000
"""What is kept of one message. The stream carries all of it; the history is bounded."""

MAX_RESULT_CHARACTERS = 100_000
"""What the history keeps of one tool's result."""


class Transcript:
    """Collect the messages of one turn.

    `opening` says which event must come first; `add` takes each event in order; `close` writes
    what is open. Calls that begin before the next text belong to the message before them.
    """

    __slots__ = ("_calls", "_characters", "_history", "_last", "_opened", "_parts")

    def __init__(self, history: History) -> None:
        self._history = history
        self._parts: list[str] = []
        self._characters = 0
        self._calls: list[ToolCall] = []
        self._opened: type[Event] | None = None
        self._last = ""

    def go_on(self, text: str) -> None:
        """Take this for what the turn said last: another agent said it."""
        self._last = text

    def opening(self, event: Event) -> Event | None:
        """Return `message_start` or `thinking_start` where a delta needs one first."""
        kind = type(event)
        if kind is MessageDelta and self._opened is not MessageStart:
            return MessageStart()
        if kind is ThinkingDelta and self._opened is not ThinkingStart:
            return ThinkingStart()
        return None

    def add(self, event: Event) -> None:
        """Take the next event."""
        if isinstance(event, MessageDelta):
            kept = event.delta[: max(0, MAX_MESSAGE_CHARACTERS - self._characters)]
            if kept:
                self._parts.append(kept)
                self._characters += len(kept)
        if isinstance(event, MessageDelta | ThinkingDelta):
            return
        self._opened = type(event) if isinstance(event, MessageStart | ThinkingStart) else None
        if isinstance(event, MessageStart):
            self._write()
        elif isinstance(event, ToolExecutionStart):
            args = json_value(event.args)
            too_long = len(msgspec.json.encode(args)) > MAX_RESULT_CHARACTERS
            call = ToolCall(event.call_id, event.tool_name, None if too_long else args)
            self._calls.append(call)
        elif isinstance(event, ToolExecutionEnd):
            self._write()
            result = _result_text(event.result)
            self._history.add(
                Message("tool_result", result, call_id=event.call_id, status=event.status)
            )

    def close(self) -> LastMessage:
        """Write what is open into the history, and return the turn's last message."""
        self._opened = None
        self._write()
        return LastMessage("assistant", self._last)

    def open_text(self) -> str:
        """Return the text of the message that is open, "" where none is."""
        return self._text() if self._opened is MessageStart else ""

    def _text(self) -> str:
        text = encodable("".join(self._parts))
        self._parts = [text] if text else []
        return text

    def _write(self) -> None:
        text = self._text()
        if text or self._calls:
            self._history.add(Message("assistant", text, tuple(self._calls)))
            self._last = text or self._last
        self._parts, self._calls, self._characters = [], [], 0


def _result_text(result: Any) -> str:
    if result is None:
        return ""
    if isinstance(result, str):
        return encodable(result[:MAX_RESULT_CHARACTERS])
    return msgspec.json.encode(json_value(result)).decode()[:MAX_RESULT_CHARACTERS]
