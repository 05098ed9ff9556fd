"""The messages of a WebSocket: each is one action, and gets one answer.

Below the WebSocket, above the deeds. What is malformed is answered as well; nothing that a client
can write here ends its connection. It knows nothing of sockets.
"""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import ValidationError

from frontdesk.errors import FrontdeskError
from frontdesk.gateway.actions import ACTIONS, check_text
from frontdesk.gateway.errors import MalformedRequest
from frontdesk.gateway.problems import problem_of
from frontdesk.sessions.conversation import Conversation

Message = dict[str, Any]


def parsed(text: str | bytes) -> Message:
    """Return a message as the object that it has to be."""
    try:
        message = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise MalformedRequest("the message is not valid JSON") from None
    if not isinstance(message, dict):
        raise MalformedRequest("the message must be a JSON object")
    return message


def act(conversation: Conversation, message: Message, *, most_text: int) -> Message:
    """Carry out one action and return what becomes of it; every error is one of ours."""
    name = message.get("action")
    deed = ACTIONS.get(name) if isinstance(name, str) else None
    if deed is None:
        raise MalformedRequest(f"must be one of {', '.join(ACTIONS)}", field="action")
    try:
        body = deed.body.model_validate(message)
    except ValidationError as error:
        raise _named(error) from None
    check_text(getattr(body, "text", None), most=most_text)
    return deed.do(conversation, body)


def refusal(error: FrontdeskError) -> Message:
    """Return an error as the fields of an answer."""
    return problem_of(error).content


def shown_action(message: Message | None) -> str | None:
    """Return the name that an answer repeats, None where a message has none."""
    name = (message or {}).get("action")
    return name[:64] if isinstance(name, str) else None


def _named(error: ValidationError) -> MalformedRequest:
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return MalformedRequest(first["msg"][:200], field=field or "the message")
