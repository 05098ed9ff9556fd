"""What an ACP agent answers, read leniently: what is missing or unknown ends no session.

The SDK's models refuse an answer whole where one word of it is not in the protocol's version that
they were made of. Agents are newer and older than that, and some leave out what they have nothing
to say about.
"""

from __future__ import annotations

from typing import Any

from acp.schema import (
    BaseModel,
    InitializeResponse,
    SessionConfigOptionBoolean,
    SessionConfigOptionSelect,
    ToolCallUpdate,
    Usage,
)
from pydantic import Field, ValidationError, field_validator

from frontdesk.agents.acp.permissions import offered_options
from frontdesk.agents.records import ApprovalOption

__all__ = [
    "Done",
    "ElicitationAsked",
    "InitializeResponse",
    "OpenedSession",
    "PermissionAsked",
    "PromptAnswer",
    "ReopenedSession",
    "SetModel",
    "options_in",
]

Option = SessionConfigOptionSelect | SessionConfigOptionBoolean


class ElicitationAsked(BaseModel):
    """A question of the agent: a form, whose fields `requested_schema` has, or an address."""

    session_id: str = Field(alias="sessionId")
    message: str
    mode: str = "form"
    url: str = ""
    requested_schema: Any = Field(None, alias="requestedSchema")


class Done(BaseModel):
    """An answer of which only that it is none of an error matters."""

    config_options: Any = Field(None, alias="configOptions")


class SetModel(BaseModel):
    """Ask for a model where it is no option; no answer says more than that it was done."""

    session_id: str = Field(serialization_alias="sessionId")
    model_id: str = Field(serialization_alias="modelId")


class ReopenedSession(BaseModel):
    """A session that an agent has given back, and how it is set.

    `models` and `modes` are how agents offer these that have no options for it.
    """

    config_options: Any = Field(None, alias="configOptions")
    models: Any = None
    modes: Any = None


class OpenedSession(ReopenedSession):
    """A new session."""

    session_id: str = Field(alias="sessionId")


class PromptAnswer(BaseModel):
    """How a prompt ended; `reason` is None where the agent does not say."""

    stop_reason: Any = Field(None, alias="stopReason")
    usage: Any = None
    field_meta: Any = Field(None, alias="_meta")

    @field_validator("usage", mode="before")
    @classmethod
    def _usage(cls, value: Any) -> Usage | None:
        try:
            return None if value is None else Usage.model_validate(value)
        except ValidationError:
            return None

    @property
    def reason(self) -> str | None:
        """Return why the agent stopped, by a word that may not be the protocol's."""
        reason = self.stop_reason
        return reason if isinstance(reason, str) or reason is None else "unknown"


class PermissionAsked(BaseModel):
    """A request for permission, whose options may be of kinds that are not known."""

    session_id: str = Field(alias="sessionId")
    tool_call: ToolCallUpdate = Field(alias="toolCall")
    options: Any = None

    @property
    def offered(self) -> tuple[ApprovalOption, ...]:
        """Return the options that can be chosen."""
        return offered_options(self.options)


def options_in(value: Any) -> list[Option] | None:
    """Return the options among what should be a list of them; None where it is no list."""
    if not isinstance(value, list):
        return None
    found: list[Option] = []
    for each in value:
        for model in (SessionConfigOptionSelect, SessionConfigOptionBoolean):
            try:
                found.append(model.model_validate(each))
            except ValidationError:
                continue
            break
    return found
