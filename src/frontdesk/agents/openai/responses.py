"""The Responses API: each request names the answer before it, which the remote agent has kept.

For an agent that was not there before (the first turn, after a restart, or where the answer before
was cut short), the conversation is sent along once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from frontdesk.agents.errors import AgentFailed
from frontdesk.agents.events import Event
from frontdesk.agents.openai.turn import (
    NO_PARAMETERS,
    Asked,
    RemoteAnswer,
    text_delta,
    thought_delta,
    usage_of,
)
from frontdesk.agents.records import Message

_TEXT = ("response.output_text.delta", "response.refusal.delta")
_THOUGHTS = ("response.reasoning_text.delta", "response.reasoning_summary_text.delta")


class Responses:
    """The Responses API for one session (`Dialect`)."""

    path = "responses"

    def __init__(self) -> None:
        self._input: list[dict[str, Any]] = []
        self._before: str | None = None

    def begin(self, history: Sequence[Message], prompt: str) -> None:
        """Begin with the prompt, and with what was said before where there is no answer to name."""
        said = [] if self._before else items_of(history)
        self._input = [*said, {"role": "user", "content": prompt}]

    def body(self, asked: Asked) -> dict[str, Any]:
        """Return the request. Until its answer is whole, there is none to name."""
        before, self._before = self._before, None
        tools = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters or NO_PARAMETERS,
                "strict": False,
            }
            for tool in asked.tools
        ]
        return {
            "model": asked.model,
            "input": self._input,
            "stream": True,
            **({"previous_response_id": before} if before else {}),
            **({"instructions": asked.instructions} if asked.instructions else {}),
            **({"tools": tools} if tools else {}),
            **({"max_output_tokens": asked.max_tokens} if asked.max_tokens else {}),
        }

    def read(self, event: Any, answer: RemoteAnswer) -> Iterator[Event]:
        """Yield what an event says; a server that does not stream sends the response at once."""
        if not isinstance(event, dict):
            raise AgentFailed("the remote agent's answer is an error")
        kind = event.get("type")
        if kind in _TEXT:
            yield from text_delta(event.get("delta"))
        elif kind in _THOUGHTS:
            yield from thought_delta(event.get("delta"))
        elif kind in ("response.completed", "response.incomplete"):
            yield from self._end(event.get("response"), answer)
        elif event.get("object") == "response":
            yield from self._end(event, answer)
        elif kind in ("error", "response.failed") or event.get("error"):
            raise AgentFailed("the remote agent's answer is an error")

    def _end(self, response: Any, answer: RemoteAnswer) -> Iterator[Event]:
        response = response if isinstance(response, dict) else {}
        answer.usage = usage_of(
            response.get("usage"), prompt="input_tokens", completion="output_tokens"
        )
        if response.get("status") == "failed":
            raise AgentFailed("the remote agent's answer is an error")
        for item in response.get("output") or ():
            if item.get("type") == "function_call":
                call = answer.call(len(answer.calls))
                call.call_id, call.name = str(item.get("call_id")), str(item.get("name"))
                call.arguments.append(str(item.get("arguments") or ""))
            elif item.get("type") == "message" and not answer.sent:
                for part in item.get("content") or ():
                    yield from text_delta(part.get("text"))
        answer.whole = True
        identifier = response.get("id")
        self._before = identifier if isinstance(identifier, str) else None

    def go_on(self, answer: RemoteAnswer, results: Sequence[str], steering: Sequence[str]) -> None:
        """Add the results of the answer's calls, and what the user said meanwhile."""
        calls = [answer.calls[place] for place in sorted(answer.calls)]
        asked = [_call_item(call.call_id, call.name, call.text or "{}") for call in calls]
        said = {"role": "assistant", "content": "".join(answer.sent)}
        kept = [] if self._before else [*self._input, *([said] if answer.sent else []), *asked]
        self._input = [
            *kept,
            *(
                _output_item(call.call_id, result)
                for call, result in zip(calls, results, strict=True)
            ),
            *({"role": "user", "content": text} for text in steering),
        ]


def _call_item(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def _output_item(call_id: str, result: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": result}


def items_of(history: Sequence[Message]) -> list[dict[str, Any]]:
    """Return what was said before; of tools, those calls whose result is there."""
    results = {each.call_id: each for each in history if each.role == "tool_result"}
    items: list[dict[str, Any]] = []
    for message in history:
        if message.role in ("user", "assistant") and message.content:
            items.append({"role": message.role, "content": message.content})
        for call in message.tool_calls:
            if call.call_id in results:
                arguments = json.dumps(call.args or {})
                items.append(_call_item(call.call_id, call.tool_name, arguments))
                items.append(_output_item(call.call_id, results[call.call_id].content))
    return items
