"""What a session of ADK's lacks, and gets before the next prompt: the history, or a cut turn's end.

Of a turn that was cut short (abort, error, deadline) the framework has what was whole: messages,
calls, results. Added are the text that went out, and a result behind each call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.adk.events import Event
from google.genai import types

from frontdesk.agents.records import Message

MAX_EVENTS = 800
"""Events that are kept of a session in memory; they are cut where a user's prompt begins."""

CUT_OFF = "The call was cut off. Whether it took effect is not known."
"""What a model reads in place of a result that there is none of."""


def bounded(events: list[Event]) -> list[Event]:
    """Return the last events, beginning with a user's prompt."""
    first = max(0, len(events) - MAX_EVENTS)
    if not first:
        return events
    for place in range(first, len(events)):
        event = events[place]
        if event.author == "user" and not event.get_function_responses():
            return events[place:]
    return []


def missing_results(events: Sequence[Event], results: dict[str, Any]) -> Iterator[Event]:
    """Yield a result for each call of the last invocation that has none."""
    if not events:
        return
    last = [each for each in events if each.invocation_id == events[-1].invocation_id]
    answered = {each.id for event in last for each in event.get_function_responses()}
    for event in last:
        open_calls = [call for call in event.get_function_calls() if call.id not in answered]
        if open_calls:
            parts = [
                _response(call.id, call.name, results.get(call.id or "", {"error": CUT_OFF}))
                for call in open_calls
            ]
            yield Event(
                invocation_id=event.invocation_id,
                author=event.author,
                branch=event.branch,
                content=types.UserContent(parts=parts),
            )


def rebuilt(history: Sequence[Message], *, author: str) -> Iterator[Event]:
    """Yield events that say what a history says, each call with its result behind it."""
    results = {each.call_id: each for each in history if each.role == "tool_result"}
    for number, message in enumerate(history):
        invocation_id = f"history-{number}"
        if message.role == "user":
            said = types.UserContent(parts=[types.Part(text=message.content)])
            yield Event(invocation_id=invocation_id, author="user", content=said)
        elif message.role == "assistant" and (message.content or message.tool_calls):
            parts = [types.Part(text=message.content)] if message.content else []
            answers = []
            for call in message.tool_calls:
                args = call.args if isinstance(call.args, dict) else {}
                asked = types.FunctionCall(id=call.call_id, name=call.tool_name, args=args)
                parts.append(types.Part(function_call=asked))
                result = results.get(call.call_id)
                response = {"result": result.content} if result and result.content else None
                answers.append(_response(call.call_id, call.tool_name, response))
            yield Event(
                invocation_id=invocation_id,
                author=author,
                content=types.ModelContent(parts=parts),
            )
            if answers:
                yield Event(
                    invocation_id=invocation_id,
                    author=author,
                    content=types.UserContent(parts=answers),
                )


def _response(call_id: str | None, name: str | None, response: Any) -> types.Part:
    return types.Part(
        function_response=types.FunctionResponse(
            id=call_id, name=name, response=response or {"error": CUT_OFF}
        )
    )
