"""What can be done to a conversation, in the words of the wire.

Below the routes and the WebSocket, which do the same actions with the same bodies; above the
conversation. Each takes a checked body and the key that acts, and returns the answer. It knows
neither statuses nor sockets. The messages of a WebSocket are read and answered here: each is one
action, and gets one answer. What is malformed is answered as well; nothing that a client can write
ends its connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec
from pydantic import BaseModel, ValidationError

from frontdesk.agents.attachments import Attachment
from frontdesk.agents.values import MAX_VALUES, TooManyValues, read_json
from frontdesk.gateway.attachment_reader import AttachmentReader, types_of
from frontdesk.gateway.body_schemas import (
    AbortBody,
    ApprovalBody,
    PromptBody,
    RespondBody,
    SteerBody,
)
from frontdesk.gateway.callers import Caller
from frontdesk.gateway.errors import MalformedRequest, TooLarge
from frontdesk.gateway.paths import scope_of_action
from frontdesk.gateway.problems import mistakes_of
from frontdesk.schemas.answer_schemas import Answer, PromptAccepted, Status
from frontdesk.schemas.refusal import Refusal
from frontdesk.sessions.conversation import Conversation

Message = dict[str, Any]
MAX_SHOWN_ACTION = 64


@dataclass(frozen=True, slots=True)
class Action:
    """An action: the body that it takes, and what does it."""

    body: type[BaseModel]
    do: Callable[[Conversation, Any, Caller], Answer]


def check_text(text: str | None, *, limit: int) -> None:
    """Raise `TooLarge` for a text of more characters than are taken."""
    if text is not None and len(text) > limit:
        raise TooLarge("text", limit=limit, unit="characters")


def prompt(
    conversation: Conversation,
    body: PromptBody,
    key: Caller,
    attachments: Sequence[Attachment] = (),
) -> PromptAccepted:
    """Accept a prompt, with what came with it; it runs when those before it have."""
    accepted = conversation.prompt(body.text, attachments=attachments, api_key=key.key_id)
    return PromptAccepted.of(accepted)


async def attachments_of(
    conversation: Conversation, body: PromptBody, reader: AttachmentReader
) -> tuple[Attachment, ...]:
    """Return what comes with a prompt, fetched if need be; not for who does not take it."""
    if not body.attachments:
        return ()
    conversation.require_types(types_of(body.attachments))
    return await reader.read(body.attachments, tenant_id=conversation.tenant_id)


def approve(conversation: Conversation, body: ApprovalBody, key: Caller) -> Answer:
    """Let a tool run."""
    conversation.approve(
        body.approval_id, body.reason, option_id=body.option_id, api_key=key.key_id
    )
    return Status(status="approved")


def reject(conversation: Conversation, body: ApprovalBody, key: Caller) -> Answer:
    """Tell the agent that a tool may not run."""
    conversation.reject(body.approval_id, body.reason, option_id=body.option_id, api_key=key.key_id)
    return Status(status="rejected")


def respond(conversation: Conversation, body: RespondBody, key: Caller) -> Answer:
    """Answer the agent's question."""
    conversation.respond(body.ref, body.response, api_key=key.key_id)
    return Status(status="answered")


def abort(conversation: Conversation, body: AbortBody, _: Caller) -> Answer:
    """End the turn under way, where there is one; the session lives on."""
    conversation.abort(body.reason, kill_tools=body.kill_tools)
    return Status(status="aborting")


def steer(conversation: Conversation, body: SteerBody, key: Caller) -> Answer:
    """Give the turn a text for its next step."""
    conversation.steer(body.text, api_key=key.key_id)
    return Status(status="accepted")


ACTIONS: Mapping[str, Action] = MappingProxyType(
    {
        "prompt": Action(PromptBody, prompt),
        "approve": Action(ApprovalBody, approve),
        "reject": Action(ApprovalBody, reject),
        "respond": Action(RespondBody, respond),
        "abort": Action(AbortBody, abort),
        "steer": Action(SteerBody, steer),
    }
)
"""The actions of a WebSocket by their names; the routes of the same names do the same."""


# -- on a WebSocket ------------------------------------------------------------------------------


def parsed(text: str | bytes) -> Message:
    """Return a message as the object that it has to be."""
    try:
        message = read_json(text if isinstance(text, bytes) else text.encode())
    except TooManyValues:
        raise TooLarge("message", limit=MAX_VALUES, unit="values") from None
    except (ValueError, RecursionError):
        raise MalformedRequest("the message is not valid JSON") from None
    if not isinstance(message, dict):
        raise MalformedRequest("the message must be a JSON object")
    return message


async def understood(
    conversation: Conversation,
    message: Message,
    *,
    key: Caller,
    max_text_characters: int,
    reader: AttachmentReader,
) -> Callable[[], Answer]:
    """Return what carries out one action of a key at once; every error is one of ours.

    What comes with a prompt is fetched before: nothing waits between an action and its answer.
    """
    name = message.get("action")
    action = ACTIONS.get(name) if isinstance(name, str) else None
    if action is None or not isinstance(name, str):
        raise MalformedRequest(f"must be one of {', '.join(ACTIONS)}", field="action")
    key.require(scope_of_action(name))
    try:
        fields = {field: value for field, value in message.items() if field != "action"}
        body = action.body.model_validate(fields)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise MalformedRequest(mistakes_of(found, whole="the message")) from None
    check_text(getattr(body, "text", None), limit=max_text_characters)
    if isinstance(body, PromptBody):
        attachments = await attachments_of(conversation, body, reader)
        return partial(prompt, conversation, body, key, attachments)
    return partial(action.do, conversation, body, key)


def socket_answer(message: Message | None, answer: Answer | Refusal) -> bytes:
    """Return the answer to a message, with the name of the action that the message has."""
    name = (message or {}).get("action")
    shown = name[:MAX_SHOWN_ACTION] if isinstance(name, str) else None
    return msgspec.json.encode({"action": shown, **msgspec.to_builtins(answer)})
