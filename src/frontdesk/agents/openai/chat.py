"""The chat completions API: the conversation is sent along, so that nothing is kept elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from frontdesk.agents.errors import AgentFailed
from frontdesk.agents.events import Event
from frontdesk.agents.openai.turn import (
    NO_PARAMETERS,
    Asked,
    Call,
    RemoteAnswer,
    text_delta,
    thought_delta,
    usage_of,
)
from frontdesk.agents.records import Message

_THOUGHTS = ("reasoning_content", "reasoning")
"""Where servers put what a model thinks; the API itself has no place for it."""


class ChatCompletions:
    """Chat completions for one session (`Dialect`)."""

    path = "chat/completions"

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []

    def begin(self, history: Sequence[Message], prompt: str) -> None:
        """Begin with the whole conversation."""
        self._messages = [*messages_of(history), {"role": "user", "content": prompt}]

    def body(self, asked: Asked) -> dict[str, Any]:
        """Return the request."""
        system = [{"role": "system", "content": asked.instructions}] if asked.instructions else []
        tools = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters or NO_PARAMETERS,
                },
            }
            for tool in asked.tools
        ]
        return {
            "model": asked.model,
            "messages": [*system, *self._messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **({"tools": tools} if tools else {}),
            **({"max_tokens": asked.max_tokens} if asked.max_tokens else {}),
        }

    def read(self, event: Any, answer: RemoteAnswer) -> Iterator[Event]:
        """Yield what a chunk says; a server that does not stream sends the message at once."""
        if not isinstance(event, dict) or event.get("error"):
            raise AgentFailed("the remote agent's answer is an error")
        answer.usage = (
            usage_of(event.get("usage"), prompt="prompt_tokens", completion="completion_tokens")
            or answer.usage
        )
        answer.whole = answer.whole or event == {}  # what `[DONE]` is read as
        for choice in event.get("choices") or ():
            answer.whole = answer.whole or choice.get("finish_reason") is not None
            said = choice.get("delta") or choice.get("message") or {}
            for name in _THOUGHTS:
                yield from thought_delta(said.get(name))
            yield from text_delta(said.get("content") or said.get("refusal"))
            for number, piece in enumerate(said.get("tool_calls") or ()):
                function = piece.get("function") or {}
                call = answer.call(piece.get("index", number))
                call.call_id = call.call_id or str(piece.get("id") or f"call_{number}")
                call.name = call.name or str(function.get("name") or "")
                call.arguments.append(str(function.get("arguments") or ""))

    def go_on(self, answer: RemoteAnswer, results: Sequence[str], steering: Sequence[str]) -> None:
        """Add the answer, the results of its calls, and what the user said meanwhile."""
        calls = [answer.calls[place] for place in sorted(answer.calls)]
        said = "".join(answer.sent) or None
        self._messages += [
            {"role": "assistant", "content": said, "tool_calls": [_asked_for(c) for c in calls]},
            *(
                {"role": "tool", "tool_call_id": call.call_id, "content": result}
                for call, result in zip(calls, results, strict=True)
            ),
            *({"role": "user", "content": text} for text in steering),
        ]


def _asked_for(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.text or "{}"}
    return {"id": call.call_id, "type": "function", "function": function}


def messages_of(history: Sequence[Message]) -> list[dict[str, Any]]:
    """Return what was said before; of tools, those calls whose result is there."""
    results = {each.call_id: each for each in history if each.role == "tool_result"}
    messages: list[dict[str, Any]] = []
    for message in history:
        if message.role == "user":
            messages.append({"role": "user", "content": message.content})
        elif message.role == "assistant":
            calls = [
                Call(call.call_id, call.tool_name, [json.dumps(call.args or {})])
                for call in message.tool_calls
                if call.call_id in results
            ]
            if message.content or calls:
                asked = {"tool_calls": [_asked_for(call) for call in calls]} if calls else {}
                said = {"role": "assistant", "content": message.content or None, **asked}
                messages.append(said)
            messages.extend(
                {"role": "tool", "tool_call_id": c.call_id, "content": results[c.call_id].content}
                for c in calls
            )
    return messages
