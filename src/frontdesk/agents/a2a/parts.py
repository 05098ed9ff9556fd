"""What messages, artifacts and their metadata say, in this project's words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from a2a.types import Artifact
from google.protobuf.json_format import MessageToDict

from frontdesk.agents.records import MAX_USED_TOKENS, TokenUsage
from frontdesk.agents.values import ENCODER, encodable, json_value

_USAGE = ("usage", "adk_usage_metadata")
"""Where agents put what they used; the protocol has no place of its own for it."""

_PROMPT = ("promptTokens", "prompt_tokens", "inputTokens", "input_tokens", "promptTokenCount")
_COMPLETION = (
    "completionTokens",
    "completion_tokens",
    "outputTokens",
    "output_tokens",
    "candidatesTokenCount",
)
_CACHED = ("cachedTokens", "cached_tokens", "cachedContentTokenCount")


def text_of(parts: Iterable[Any]) -> str:
    """Return what parts say: text as it is, data as JSON, a file by its address or its name."""
    return "".join(map(_text_of_part, parts))


def _text_of_part(part: Any) -> str:
    match part.WhichOneof("content"):
        case "text":
            return encodable(part.text)
        case "data":
            return ENCODER.encode(json_value(MessageToDict(part.data))).decode()
        case "url":
            return encodable(part.url)
        case "raw":
            return f"[{encodable(part.filename) or 'a file'}: {len(part.raw)} bytes]"
    return ""


def usage_of(metadata: Any) -> TokenUsage | None:
    """Return what metadata say that was used; None where they say nothing of it."""
    told = MessageToDict(metadata)
    usage = next((told[name] for name in _USAGE if isinstance(told.get(name), dict)), None)
    if usage is None:
        return None
    return TokenUsage(*(_first(usage, names) for names in (_PROMPT, _COMPLETION, _CACHED)))


def _first(usage: dict[str, Any], names: Iterable[str]) -> int:
    for name in names:
        value = usage.get(name)
        # A number in metadata is a double, whatever it was.
        if isinstance(value, int | float) and 0 <= value <= MAX_USED_TOKENS:
            return int(value)
    return 0


class Artifacts:
    """The artifacts of a task, as they come in pieces, or again as a whole."""

    __slots__ = ("_sent",)

    def __init__(self) -> None:
        self._sent: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._sent)

    def new_text(self, artifact: Artifact, *, append: bool) -> str:
        """Return what an artifact says beyond what it said before."""
        text, before = text_of(artifact.parts), self._sent.get(artifact.artifact_id, "")
        if append:
            self._sent[artifact.artifact_id] = before + text
            return text
        self._sent[artifact.artifact_id] = text
        return text.removeprefix(before) if text.startswith(before) else text

    def begins(self, artifact: Artifact) -> bool:
        """Say whether an artifact is a new one."""
        return artifact.artifact_id not in self._sent
