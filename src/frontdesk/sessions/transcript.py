"""What a turn has said so far: opens its messages, and writes them into the history.

Above the history, below the open turn. It turns a stream of events into messages, and knows
nothing of where the events go.
"""

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
    plain,
    sayable,
)
from frontdesk.agents.records import Message, ToolCall
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

    def opening(self, event: Event) -> Event | None:
        """Return `message_start` or `thinking_start` where a delta needs one first."""
        kind = type(event)
        if kind is MessageDelta and self._opened is not MessageStart:
            return MessageStart()
        if kind is ThinkingDelta and self._opened is not ThinkingStart:
            return ThinkingStart()
        return None

    def add(self, event: Event) -> str | None:
        """Take the next event; return the text of a message that it completed, if it did."""
        if isinstance(event, MessageDelta):
            self._take(event.delta)
            return None
        if isinstance(event, ThinkingDelta):
            return None
        completed = self._text() if self._opened is MessageStart else None
        self._opened = type(event) if isinstance(event, MessageStart | ThinkingStart) else None
        if isinstance(event, MessageStart):
            self._write()
        elif isinstance(event, ToolExecutionStart):
            self._calls.append(_call_of(event))
        elif isinstance(event, ToolExecutionEnd):
            self._write()
            self._history.add(Message("tool_result", _shown(event.result)))
        return completed

    def close(self) -> LastMessage:
        """Write what is open into the history, and return the turn's last message."""
        self._opened = None
        self._write()
        return LastMessage("assistant", self._last)

    def open_text(self) -> str:
        """Return the text of the message that is open, "" where none is."""
        return self._text() if self._opened is MessageStart else ""

    def _take(self, delta: str) -> None:
        kept = delta[: max(0, MAX_MESSAGE_CHARACTERS - self._characters)]
        if kept:
            self._parts.append(kept)
            self._characters += len(kept)

    def _text(self) -> str:
        text = sayable("".join(self._parts))
        self._parts = [text] if text else []
        return text

    def _write(self) -> None:
        text = self._text()
        if text or self._calls:
            self._history.add(Message("assistant", text, tuple(self._calls)))
            self._last = text or self._last
        self._parts, self._calls, self._characters = [], [], 0


def _call_of(event: ToolExecutionStart) -> ToolCall:
    args = plain(event.args)
    too_long = len(msgspec.json.encode(args)) > MAX_RESULT_CHARACTERS
    return ToolCall(event.call_id, event.tool_name, None if too_long else args)


def _shown(result: Any) -> str:
    if result is None:
        return ""
    if isinstance(result, str):
        return sayable(result[:MAX_RESULT_CHARACTERS])
    return msgspec.json.encode(plain(result)).decode()[:MAX_RESULT_CHARACTERS]
