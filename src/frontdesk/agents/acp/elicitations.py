"""What an ACP agent asks its user (an elicitation), as one question, and the answer as it takes it.

A form's fields are in the question's text, as a client may know no more of it than that. The answer
is an object by the fields' names, or, where there is one field, its value alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from frontdesk.agents.acp.agent_answers import ElicitationAsked
from frontdesk.agents.acp.permissions import line_of
from frontdesk.agents.values import read_json

MAX_FIELDS = 50
"""Fields of a form, and choices of a field, that a question names."""

MAX_QUESTION_CHARACTERS = 16 * 1024

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def question_of(asked: ElicitationAsked) -> str:
    """Return what is asked as one text: the message, then the fields, or the address to open.

    >>> print(question_of(ElicitationAsked.model_validate({
    ...     "sessionId": "s", "message": "Who?", "requestedSchema": {
    ...         "properties": {"name": {"type": "string", "description": "Your name"}}}})))
    Who?
    - name (string): Your name
    """
    lines = [asked.message, *([asked.url] if asked.url else []), *_fields(asked)]
    return "\n".join(lines)[:MAX_QUESTION_CHARACTERS]


def answer_to(asked: ElicitationAsked, response: Any) -> dict[str, Any]:
    """Return what the agent is answered; null, and what is no answer to a form, is a no.

    >>> asked = ElicitationAsked.model_validate({
    ...     "sessionId": "s", "message": "How many?", "requestedSchema": {
    ...         "properties": {"number": {"type": "integer"}}}})
    >>> answer_to(asked, "3")
    {'action': 'accept', 'content': {'number': 3}}
    >>> answer_to(asked, "many"), answer_to(asked, None)
    ({'action': 'decline'}, {'action': 'decline'})
    """
    if response is None:
        return {"action": "decline"}
    properties = _properties(asked)
    if not properties:
        return {"action": "accept"}
    if not isinstance(response, dict):
        if len(properties) > 1:
            return {"action": "decline"}
        response = dict.fromkeys(properties, response)
    content = {
        name: _value(schema, response[name])
        for name, schema in properties.items()
        if response.get(name) is not None
    }
    schema = asked.requested_schema
    required = schema.get("required") or ()
    missing = [name for name in required if content.get(str(name)) is None]
    if missing or None in content.values():
        return {"action": "decline"}
    return {"action": "accept", "content": content}


def _properties(asked: ElicitationAsked) -> dict[str, dict[str, Any]]:
    schema = asked.requested_schema
    found = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(found, dict):
        return {}
    return {name: each for name, each in found.items() if isinstance(each, dict)}


def _fields(asked: ElicitationAsked) -> Iterator[str]:
    for name, schema in list(_properties(asked).items())[:MAX_FIELDS]:
        text = line_of(str(schema.get("description") or schema.get("title") or ""))
        choices = ", ".join(str(each)[:200] for each in _choices(schema)[:MAX_FIELDS])
        kind = f"one of {choices}" if choices else str(schema.get("type") or "string")
        if schema.get("type") == "array":
            kind = f"any of {choices}"
        yield f"- {line_of(name)} ({kind})" + (f": {text}" if text else "")


def _choices(schema: dict[str, Any]) -> list[Any]:
    items = schema.get("items")
    place = items if isinstance(items, dict) else schema
    titled = place.get("oneOf") or place.get("anyOf") or ()
    named = place.get("enum") or [
        each.get("const") for each in titled if isinstance(each, dict) and "const" in each
    ]
    return named if isinstance(named, list) else []


def _value(schema: dict[str, Any], value: Any) -> Any:
    """Return a value as its field takes it, read from a text if need be; None for none."""
    kind, choices = schema.get("type"), _choices(schema)
    if kind == "array":
        values = value if isinstance(value, list) else [value]
        fits = all(isinstance(each, str) and each in (choices or values) for each in values)
        return values if fits else None
    types = _TYPES.get(str(kind), (str,))
    if isinstance(value, str) and str not in types:
        try:
            value = read_json(value.strip().encode())
        except ValueError:
            return None
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        return None
    return value if not choices or value in choices else None
