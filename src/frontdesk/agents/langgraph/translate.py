"""What a graph streams, translated to events of a turn.

Messages are what models stream and what nodes write themselves; what a model says inside of a tool
is the tool's own business. Tools are told of from their start to their end, a pause for an answer
included.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ToolMessage,
    convert_to_messages,
)
from langgraph.types import Command

from frontdesk.agents.events import MessageDelta, MessageStart, ThinkingDelta, ToolCalls
from frontdesk.agents.langgraph.callbacks import INSIDE_A_TOOL, TurnCallbacks
from frontdesk.agents.langgraph.interrupts import text_of
from frontdesk.agents.langgraph.memory import CutTurn
from frontdesk.agents.records import ToolStatus
from frontdesk.agents.tool_run import ToolRun
from frontdesk.agents.turn import Turn
from frontdesk.agents.values import json_value


class StreamTranslator:
    """Emit what a graph does in one turn, and note in `cut` what its state may not have.

    `callback_tools` are those whose events are the gateway's. With `speaks` false, messages are not
    the answer and are not told.
    """

    __slots__ = (
        "_callbacks",
        "_counted",
        "_cut",
        "_in_message",
        "_runs",
        "_speaks",
        "_turn",
        "callback_tools",
    )  # fmt: skip

    def __init__(
        self,
        turn: Turn,
        cut: CutTurn,
        *,
        callbacks: TurnCallbacks,
        speaks: bool,
    ) -> None:
        self._turn, self._cut, self._callbacks = turn, cut, callbacks
        self.callback_tools: frozenset[str] = frozenset()
        self._speaks = speaks
        self._runs: dict[str, ToolRun] = {}
        self._counted: set[str | None] = set()
        self._in_message = False

    def on_message(self, message: BaseMessage, metadata: Mapping[str, Any]) -> None:
        """Pass on text and thoughts."""
        if not self._speaks or not isinstance(message, AIMessage) or INSIDE_A_TOOL in metadata:
            return
        if not isinstance(message, AIMessageChunk) and message.text == "".join(self._cut.text):
            return  # a node wrapped up in a message of its own what its model has streamed
        if message.id is None or message.id != self._cut.message_id:
            self._cut.begin_message(message.id)
            self._in_message = False
        for text, thought in _texts(message):
            if text:
                self.emit_text(text)
            if thought:
                self._in_message = False
                self._turn.emit(ThinkingDelta(thought))

    def emit_text(self, text: str) -> None:
        """Emit text of the message under way."""
        if not self._in_message:
            self._in_message = True
            self._turn.emit(MessageStart())
        self._turn.emit(MessageDelta(text))
        self._cut.text.append(text)

    @property
    def has_spoken(self) -> bool:
        """Say whether the last message has text."""
        return bool(self._cut.text)

    def on_update(self, update: Any) -> None:
        """Tell how many calls a model asked for; a graph tells of those of its subgraphs again."""
        for message in _messages_in(update):
            if not isinstance(message, BaseMessage):
                # In one of the short forms, which the stream of messages passes over.
                self.on_message(convert_to_messages([message])[0], {})
            elif (
                isinstance(message, AIMessage)
                and message.tool_calls
                and message.id not in self._counted
            ):
                self._counted.add(message.id)
                self._turn.emit(ToolCalls(len(message.tool_calls)))

    def on_tool(self, data: Mapping[str, Any]) -> None:
        """Emit the beginning and the end of a tool's call; one that was paused begins once."""
        call_id = data["tool_call_id"]
        if data["event"] == "tool-started":
            name = data["tool_name"]
            if call_id not in self._runs and name not in self.callback_tools:
                self._runs[call_id] = ToolRun(
                    self._turn.emit, name, data.get("input"), now=time.monotonic, call_id=call_id
                )
                self._runs[call_id].begin()
        elif data["event"] == "tool-finished":
            output = data["output"]
            result = json_value(output.content if isinstance(output, ToolMessage) else output)
            failed = isinstance(output, ToolMessage) and output.status == "error"
            self._cut.results[call_id] = text_of(result)
            self._end(call_id, "error" if failed else "ok", result)
        elif data["event"] == "tool-error":
            self._end(call_id, "error", self._callbacks.failures.pop(call_id, None))

    def _end(self, call_id: str, status: ToolStatus, result: Any) -> None:
        if (run := self._runs.pop(call_id, None)) is not None:
            run.end(status, result)

    def close(self) -> None:
        """Tell of tools that do not come to an end any more."""
        for run in self._runs.values():
            run.end("cancelled")
        self._runs.clear()


def _texts(message: AIMessage) -> Iterator[tuple[str, str]]:
    """Yield text and thought of each part of a message, whichever provider's it is."""
    if isinstance(message.content, str) and not message.additional_kwargs:
        yield message.content, ""
        return
    for block in message.content_blocks:
        if block["type"] == "text":
            yield block["text"], ""
        elif block["type"] == "reasoning":
            yield "", block.get("reasoning", "")


def _messages_in(update: Any) -> Iterator[Any]:
    """Yield what is written into the messages: nodes return an update, a command, or several."""
    for each in update if isinstance(update, list) else (update,):
        values = each.update if isinstance(each, Command) else each
        found = values.get("messages") if isinstance(values, Mapping) else None
        yield from found if isinstance(found, list) else () if found is None else (found,)
