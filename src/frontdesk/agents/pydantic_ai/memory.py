"""What a Pydantic AI session remembers between turns: its model messages, bounded.

After a turn that was cut short only the text that certainly went out is kept, so that no model ever
sees a tool call without its result.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    UserPromptPart,
)

from frontdesk.agents.records import Message

MAX_MESSAGES = 400
"""Model messages that are kept; they are cut where a user's prompt begins."""


class Memory:
    """The model messages of one session, oldest first."""

    __slots__ = ("messages",)

    def __init__(self) -> None:
        self.messages: list[ModelMessage] = []

    def begin(self, history: Sequence[Message]) -> list[ModelMessage]:
        """Return what the next turn begins with: rebuilt from the history for a new agent."""
        if not self.messages and history:
            self.messages = rebuilt(history)
        return self.messages

    def keep(self, messages: list[ModelMessage]) -> None:
        """Keep all messages of a finished turn, as far as there is room."""
        self.messages = bounded(messages)

    def keep_cut_short(self, prompt: str, text: str) -> None:
        """Keep the prompt of a turn that was cut short, and the text that had gone out."""
        begun: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart(prompt)])]
        if text:
            begun.append(ModelResponse(parts=[TextPart(text)]))
        self.keep([*self.messages, *begun])


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


def rebuilt(history: Sequence[Message]) -> list[ModelMessage]:
    """Return model messages that say what the history says; tool calls are left out."""
    messages: list[ModelMessage] = []
    for message in history:
        if message.role == "user":
            messages.append(ModelRequest(parts=[UserPromptPart(message.content)]))
        elif message.role == "assistant" and message.content:
            messages.append(ModelResponse(parts=[TextPart(message.content)]))
    return bounded(messages)
