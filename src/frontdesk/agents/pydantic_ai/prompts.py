"""Prompts with what comes with them, as Pydantic AI has them, and how much of that is remembered.

A file of text is text to every model; everything else is handed on as its bytes, which not every
model takes. What a session remembers of the bytes is bounded: of older files only their names are
left, as they are all that is known of them to an agent that was not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    UserContent,
    UserPromptPart,
)

from frontdesk.agents.attachments import TEXTS, Attachment
from frontdesk.agents.records import Message

ATTACHMENTS = ("image/*", "audio/*", "application/pdf", *TEXTS)
"""Patterns of the types that may come with a prompt, unless the operator says others."""

MAX_REMEMBERED_BYTES = 8 * 1024 * 1024
"""Bytes of files that a session remembers; older ones are forgotten."""

FORGOTTEN = "[it is gone]"
"""What a model reads in place of a file that is forgotten, behind the file's name."""

Prompt = str | Sequence[UserContent]


def prompt_of(text: str, attachments: Iterable[Attachment]) -> Prompt:
    """Return a prompt for a model: each file behind its name."""
    content: list[UserContent] = [text]
    for each in attachments:
        if each.text is not None:
            content.append(f"{each.name}:\n{each.text}")
        else:
            data = BinaryContent(data=each.content, media_type=each.media_type)
            content += [f"{each.name}:", data]
    return text if len(content) == 1 else content


def prompt_from_history(message: Message) -> str:
    """Return a prompt of the history, for an agent that was not there."""
    gone = [
        f"[{each.name} ({each.media_type}, {each.size} bytes) came with this; it is gone]"
        for each in message.attachments
    ]
    return "\n\n".join([message.content, *gone])


class FileBudget:
    """Keep the files of prompts, newest first, as long as there is room for their bytes."""

    __slots__ = ("_left",)

    def __init__(self, max_bytes: int = MAX_REMEMBERED_BYTES) -> None:
        self._left = max_bytes

    def within(self, messages: Sequence[ModelMessage]) -> list[ModelMessage]:
        """Return messages with the files that there is room for, and a word for each other."""
        return [self._message(each) for each in reversed(messages)][::-1]

    def _message(self, message: ModelMessage) -> ModelMessage:
        if not isinstance(message, ModelRequest) or not any(map(_has_files, message.parts)):
            return message
        parts = [
            replace(part, content=[self._content(each) for each in part.content])
            if isinstance(part, UserPromptPart) and _has_files(part)
            else part
            for part in message.parts
        ]
        return replace(message, parts=parts)

    def _content(self, content: UserContent) -> UserContent:
        if not isinstance(content, BinaryContent):
            return content
        self._left -= len(content.data)
        return content if self._left >= 0 else FORGOTTEN


def _has_files(part: object) -> bool:
    return isinstance(part, UserPromptPart) and any(
        isinstance(each, BinaryContent) for each in part.content
    )
