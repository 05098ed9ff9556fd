"""What a graph interrupts itself for, as approvals and questions, and the answers to resume on.

An interrupt's value is whatever its author made it. Some shapes ask for a yes or a no: the requests
of LangChain's human-in-the-loop middleware, the `HumanInterrupt` of LangGraph's prebuilt agents,
and any value whose `response_schema` is a boolean. Everything else is a question, whose answer the
graph gets as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from langchain_core.messages import ToolCall
from langgraph.types import Interrupt
from pydantic import BaseModel

from frontdesk.agents.turn import Turn
from frontdesk.agents.values import json_value

NOT_APPROVED = "The user did not approve this call"

_QUESTION_KEYS = ("question", "query", "message", "prompt", "description", "text")
_NAME_KEYS = ("tool", "tool_name", "action", "name")
_UNNAMED = "interrupt"


async def resume_values(turn: Turn, interrupts: Mapping[str, Interrupt[Any]]) -> dict[str, Any]:
    """Ask for everything that a graph waits for, at once; return the answers by interrupt."""
    answers = await asyncio.gather(*(_answer(turn, each) for each in interrupts.values()))
    return dict(zip(interrupts, answers, strict=True))


async def _answer(turn: Turn, interrupt: Interrupt[Any]) -> Any:
    value, schema = interrupt.value, interrupt.response_schema
    if isinstance(value, Mapping) and isinstance(value.get("action_requests"), list):
        configs = {each["action_name"]: each for each in value.get("review_configs") or ()}
        decisions = (
            _decision(turn, action, configs.get(action.get("name"), {}))
            for action in value["action_requests"]
        )
        return {"decisions": list(await asyncio.gather(*decisions))}
    if isinstance(value, Mapping) and value.get("type") == "tool_approval":
        return await _decision(turn, value, {"allowed_decisions": _decisions_in(schema)})
    requests = value if isinstance(value, list) else [value]
    if requests and all(isinstance(each, dict) and "action_request" in each for each in requests):
        return list(await asyncio.gather(*(_human_response(turn, each) for each in requests)))
    if isinstance(schema, Mapping) and schema.get("type") == "boolean":
        details = value if isinstance(value, Mapping) else {}
        tool = _first(details, _NAME_KEYS) or _UNNAMED
        answer = await turn.approval(tool, details.get("args"), hint=question(value))
        return answer.approved
    return await turn.ask(question(value))


async def _decision(
    turn: Turn, action: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    hint = action.get("description") or config.get("description")
    allowed = config.get("allowed_decisions") or ("approve", "reject")
    if "approve" not in allowed and "respond" in allowed:
        return {"type": "respond", "message": await turn.ask(hint or question(action))}
    args = action.get("args", action.get("arguments"))
    answer = await turn.approval(str(action.get("name")), args, hint=hint)
    if answer.approved:
        return {"type": "approve"}
    return {"type": "reject", "message": _refusal(answer.status, answer.reason)}


async def _human_response(turn: Turn, request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a `HumanInterrupt`, with what its `config` allows."""
    action, config = request["action_request"], request.get("config") or {}
    hint = request.get("description")
    if not config.get("allow_accept", True) and config.get("allow_respond"):
        return {"type": "response", "args": await turn.ask(hint or question(action))}
    answer = await turn.approval(str(action.get("action")), action.get("args"), hint=hint)
    if answer.approved:
        return {"type": "accept", "args": None}
    if config.get("allow_ignore", True):
        return {"type": "ignore", "args": None}
    return {"type": "response", "args": _refusal(answer.status, answer.reason)}


async def approved(turn: Turn, nodes: tuple[str, ...], calls: list[ToolCall]) -> str | None:
    """Ask before a breakpoint is passed: for each call that waits there, or for the nodes.

    Returns None to go on, or what the model reads in place of the results.
    """
    asked: list[tuple[str, Any]] = [(call["name"], call["args"]) for call in calls]
    asked = asked or [(node, None) for node in nodes]
    answers = await asyncio.gather(*(turn.approval(name, args) for name, args in asked))
    refused = [each for each in answers if not each.approved]
    return _refusal(refused[0].status, refused[0].reason) if refused else None


def question(value: Any) -> str:
    """Return the text of a question, from whatever the author of a graph interrupts with.

    >>> question({"question": "Which city?", "options": ["Rome", "Oslo"]})
    'Which city?\\n{"options":["Rome","Oslo"]}'
    """
    if isinstance(value, dict) and (text := _first(value, _QUESTION_KEYS)):
        rest = {name: each for name, each in value.items() if each != text}
        return f"{text}\n{text_of(rest)}" if rest else text
    return text_of(value)


def text_of(value: Any) -> str:
    """Return text as it is, and anything else as JSON."""
    if isinstance(value, str):
        return value
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else json_value(value)
    return msgspec.json.encode(plain).decode()


def _first(value: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    found = [value[key] for key in keys if isinstance(value.get(key), str) and value[key]]
    return found[0] if found else None


def _decisions_in(schema: Any) -> tuple[str, ...]:
    """Return the decisions that a schema of LangChain's lets one make about a call."""
    if not isinstance(schema, Mapping):
        return ()
    kind = schema.get("properties", {}).get("type", {})
    return tuple(schema.get("discriminator", {}).get("mapping", ())) or (str(kind.get("const")),)


def _refusal(status: str, reason: str | None) -> str:
    return f"{NOT_APPROVED} ({status}){f': {reason}' if reason else '.'}"
