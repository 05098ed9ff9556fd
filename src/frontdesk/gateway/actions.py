"""What can be done to a conversation, in the words of the wire.

Below the routes and the WebSocket, which do the same deeds with the same bodies; above the
conversation. Each takes a checked body and returns the answer's fields. It knows neither statuses
nor sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec
from pydantic import BaseModel

from frontdesk.gateway.errors import TooLarge
from frontdesk.gateway.schemas import AbortBody, ApprovalBody, PromptBody, RespondBody, SteerBody
from frontdesk.sessions.conversation import Conversation

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Action:
    """A deed: the body that it takes, and what does it."""

    body: type[BaseModel]
    do: Callable[[Conversation, Any], Answer]


def check_text(text: str | None, *, most: int) -> None:
    """Raise `TooLarge` for a text of more characters than are taken."""
    if text is not None and len(text) > most:
        raise TooLarge("text", limit=most, unit="characters")


def prompt(conversation: Conversation, body: PromptBody) -> Answer:
    """Accept a prompt; it runs when those before it have."""
    accepted = msgspec.to_builtins(conversation.prompt(body.text))
    return {**accepted, "status": "queued" if accepted["queued"] else "accepted"}


def approve(conversation: Conversation, body: ApprovalBody) -> Answer:
    """Let a tool run."""
    conversation.approve(body.approval_id, body.reason)
    return {"status": "approved"}


def reject(conversation: Conversation, body: ApprovalBody) -> Answer:
    """Tell the agent that a tool may not run."""
    conversation.reject(body.approval_id, body.reason)
    return {"status": "rejected"}


def respond(conversation: Conversation, body: RespondBody) -> Answer:
    """Answer the agent's question."""
    conversation.respond(body.ref, body.response)
    return {"status": "answered"}


def abort(conversation: Conversation, body: AbortBody) -> Answer:
    """End the turn under way, where there is one; the session lives on."""
    conversation.abort(body.reason, kill_tools=body.kill_tools)
    return {"status": "aborting"}


def steer(conversation: Conversation, body: SteerBody) -> Answer:
    """Give the turn a text for its next step."""
    conversation.steer(body.text)
    return {"status": "accepted"}


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
