"""What a Pydantic AI session remembers between turns: its model messages, bounded.

Of a turn that was cut short (abort, error, deadline) everything is kept that certainly happened:
the text that went out, the tools that were called, what they returned. A model that is asked again
must know what it has done already. Every call has its result right behind it, as each provider
wants it; one that was cut off says so.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturn,
    ToolReturnPart,
    UserPromptPart,
)

from frontdesk.agents.pydantic_ai.prompts import FileBudget, Prompt, prompt_from_history
from frontdesk.agents.pydantic_ai.run import RunTranslator
from frontdesk.agents.pydantic_ai.stored_messages import MemoryUnreadable, StoredMessages
from frontdesk.agents.records import Memory, MemoryOutcome, Message, Restored, ToolCall

MAX_MESSAGES = 400
"""Model messages that are kept; they are cut where a user's prompt begins."""

_log = logging.getLogger("frontdesk.agents")

CUT_OFF = "The call was cut off. Whether it took effect is not known."
"""What a model reads in place of a result that there is none of."""


class TurnMemory:
    """The memory with what one turn adds to it, as far as that has come; `run` once it runs.

    `begun` is what the run begins with, a prompt or where a former agent stopped. `returned` is
    what its tools returned, by the ids of their calls.
    """

    __slots__ = ("begun", "finished", "returned", "run")

    def __init__(self, begun: list[ModelMessage]) -> None:
        self.begun: list[ModelMessage] = begun
        self.run: RunTranslator | None = None
        self.finished: bool = False
        self.returned: dict[str, Any] = {}

    def messages(self) -> list[ModelMessage]:
        """Return what there is to remember now, of the turns before as well.

        Those are as the run has them: an agent's history processors may have made them fewer.
        """
        messages = [] if self.run is None else self.run.messages()
        if self.finished:
            return messages
        # What a model said last may be half of it, a call with half its arguments for instance.
        # Only the text that went out is certain.
        while messages and interrupted(messages[-1]):
            messages.pop()
        if not messages:
            messages = list(self.begun)
        if self.run is not None and self.run.sent:
            messages.append(ModelResponse(parts=[TextPart("".join(self.run.sent))]))
        return answered(messages, self.returned)


class SessionMemory:
    """The model messages of one session, oldest first, up to the turn under way.

    `stored` is what the next agent will find of them. Where a session is `restored`, that is what
    its last agent left; the last `unremembered` messages of its history are not in that.
    """

    __slots__ = ("_left", "_turn", "_unremembered", "messages", "stored")

    def __init__(self, *, stored: StoredMessages | None = None, unremembered: int = 0) -> None:
        self.stored: StoredMessages = stored or StoredMessages()
        self.messages: list[ModelMessage] = list(self.stored.messages)
        self._unremembered = unremembered
        self._turn: TurnMemory | None = None
        self._left: list[Memory] = []
        """What a turn that was given up leaves: the next one brings it along."""

    @classmethod
    def restored(cls, restored: Restored) -> tuple[SessionMemory, MemoryOutcome]:
        """Return the memory of a session that is not new, and how much of it there is."""
        stored = StoredMessages()
        try:
            stored.read(restored.memories)
        except MemoryUnreadable as problem:
            _log.warning("the memory of a Pydantic AI agent cannot be read: %s", problem)
        if not stored.messages:
            return cls(), "kept" if restored.is_empty else "rebuilt"
        return cls(stored=stored, unremembered=restored.unremembered), "kept"

    def begin(self, prompt: Prompt, history: Sequence[Message]) -> TurnMemory:
        """Begin a turn, whose request begins with `messages`: rebuilt for a new agent.

        A turn that was given up, and may still run, is remembered as far as it has come.
        """
        if self._turn is not None:
            self._left = self.end(self._turn)
        if not self.messages:
            self.messages = rebuilt(history)
        elif self._unremembered:
            self.messages += rebuilt(history[-self._unremembered :])
        begun: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart(prompt)])]
        return self._begin([*self.messages, *begun])

    def resume(self, begun: list[ModelMessage]) -> TurnMemory:
        """Go on with a turn that a former agent has brought to these messages."""
        return self._begin(begun)

    def _begin(self, begun: list[ModelMessage]) -> TurnMemory:
        self._unremembered = 0
        self._turn = TurnMemory(begun)
        return self._turn

    def end(self, turn: TurnMemory) -> list[Memory]:
        """Keep what there is after a turn, as far as there is room. Once for each.

        Returns what is to be stored of it.
        """
        if turn is not self._turn:
            return []
        self._turn = None
        self.messages = FileBudget().within(bounded(turn.messages()))
        left, self._left = self._left, []
        return [*left, *self.stored.memories(self.messages)]


def interrupted(message: ModelMessage) -> bool:
    """Say whether a message is the model's, and did not come to its end."""
    return isinstance(message, ModelResponse) and message.state == "interrupted"


def bounded(messages: list[ModelMessage]) -> list[ModelMessage]:
    """Return the last messages, beginning with a user's prompt."""
    first = max(0, len(messages) - MAX_MESSAGES)
    if not first:
        return messages
    for place in range(first, len(messages)):
        message = messages[place]
        if isinstance(message, ModelRequest) and any(
            isinstance(part, UserPromptPart) for part in message.parts
        ):
            return messages[place:]
    return []


def answered(
    messages: Sequence[ModelMessage], returned: Mapping[str, Any] = MappingProxyType({})
) -> list[ModelMessage]:
    """Return the messages with a result behind each call.

    Where they have none it is what the call `returned`, or else `CUT_OFF`.
    """
    complete: list[ModelMessage] = []
    calls: list[ToolCallPart] = []
    for message in (*messages, None):
        request = message if isinstance(message, ModelRequest) else ModelRequest(parts=[])
        got = {getattr(part, "tool_call_id", None) for part in request.parts}
        missing = [
            ToolReturnPart(
                call.tool_name,
                content_of(returned.get(call.tool_call_id, CUT_OFF)),
                call.tool_call_id,
            )
            for call in calls
            if call.tool_call_id not in got
        ]
        if missing or isinstance(message, ModelRequest):
            complete.append(replace(request, parts=[*request.parts, *missing]))
        parts = message.parts if isinstance(message, ModelResponse) else ()
        calls = [part for part in parts if isinstance(part, ToolCallPart)]
        if isinstance(message, ModelResponse):
            complete.append(message)
    return [each for each in complete if each.parts]


def content_of(result: Any) -> Any:
    """Return what the model reads of a tool's result, which may bring more beside it."""
    return result.return_value if isinstance(result, ToolReturn) else result


def rebuilt(history: Sequence[Message]) -> list[ModelMessage]:
    """Return model messages that say what the history says, for an agent that was not there."""
    messages: list[ModelMessage] = []
    open_calls: dict[str, tuple[ToolCall, list[ToolReturnPart]]] = {}
    for message in history:
        if message.role == "user":
            messages.append(ModelRequest(parts=[UserPromptPart(prompt_from_history(message))]))
        elif message.role == "tool_result":
            if (of := open_calls.pop(message.call_id or "", None)) is not None:
                call, returns = of
                content = message.content
                if message.status == "cancelled" and not content:
                    content = CUT_OFF
                returns.append(ToolReturnPart(call.tool_name, content, call.call_id))
        elif message.role == "assistant" and (message.content or message.tool_calls):
            said = [TextPart(message.content)] if message.content else []
            calls = [
                ToolCallPart(
                    call.tool_name, call.args if isinstance(call.args, dict) else {}, call.call_id
                )
                for call in message.tool_calls
            ]
            messages.append(ModelResponse(parts=[*said, *calls]))
            if calls:
                results: list[ToolReturnPart] = []
                messages.append(ModelRequest(parts=results))
                open_calls.update({call.call_id: (call, results) for call in message.tool_calls})
    return bounded(answered(messages))
