"""What clients send in JSON bodies: checked on the way in, described for the API document.

Below the routes and the WebSocket, which check the same bodies by the same models. Names are
camelCase on the wire. Fields that a client sends and we do not know are refused by name: dropped in
silence, a misspelt one would be missed by nobody but the user.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Self

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from frontdesk.agents.attachments import MEDIA_TYPE
from frontdesk.agents.ids import NAME, SESSION_ID
from frontdesk.agents.records import MAX_TOOL_DESCRIPTION_CHARACTERS, TOOL_NAME
from frontdesk.gateway.scopes import KeyScope

MAX_DEPTH = 64
MAX_WAIT_S = 86_400
MEDIA_TYPE_ON_THE_WIRE = f"^{MEDIA_TYPE} *(;[ -~]*)?$"
"""With parameters, as browsers have them: `audio/webm;codecs=opus`."""


def _unicode(text: str) -> str:
    """Refuse lone surrogates: JSON can write them, UTF-8 cannot."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("is not valid Unicode") from None
    return text


Str = Annotated[str, AfterValidator(_unicode)]
SessionId = Annotated[str, Field(pattern=f"^{SESSION_ID}$", examples=["support-42"])]
Name = Annotated[Str, Field(min_length=1, max_length=256)]
Reference = Annotated[Str, Field(min_length=1, max_length=256)]
Text = Annotated[Str, Field(min_length=1)]
CheckpointName = Annotated[
    str, Field(pattern=f"^{NAME}$", description="not beginning with req_, neither . nor ..")
]
Label = Annotated[Str, Field(min_length=1, max_length=256, examples=["support"])]
Wait = Annotated[
    float,
    Field(
        ge=0,
        le=MAX_WAIT_S,
        allow_inf_nan=False,
        description="seconds; never longer than the deadline of a turn",
    ),
]
MediaType = Annotated[
    str,
    Field(max_length=255, pattern=MEDIA_TYPE_ON_THE_WIRE, examples=["image/png"]),
]
# A pattern on top of `Str` would be checked, and missing in the description.
Reason = Annotated[Str, Field(max_length=2000)]


def _not_too_deep(value: Any) -> Any:
    """Refuse free-form JSON that is too deep, or that could not be written as JSON again."""
    try:
        msgspec.json.encode(value)
        # NaN and the infinities are read by the framework, and are no JSON.
        json.dumps(value, allow_nan=False)
    except (RecursionError, OverflowError, ValueError):
        raise ValueError("cannot be written as JSON again") from None
    level, depth = [value], 0
    while level := [
        inner
        for outer in level
        if isinstance(outer, dict | list)
        for inner in (outer.values() if isinstance(outer, dict) else outer)
    ]:
        depth += 1
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
    return value


FreeForm = Annotated[Any, AfterValidator(_not_too_deep)]
FreeObject = Annotated[dict[str, Any], AfterValidator(_not_too_deep)]


class _Body(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        alias_generator=to_camel, strict=True, frozen=True, validate_by_name=False, extra="forbid"
    )


class AttachmentBody(_Body):
    """A file that comes with a prompt: its content in base64, or where the gateway fetches it."""

    name: Annotated[Str, Field(min_length=1, max_length=255, examples=["receipt.png"])]
    media_type: MediaType
    data: Annotated[str, Field(min_length=1, examples=["iVBORw0KGgo="])] | None = None
    url: Annotated[Str, Field(min_length=1, max_length=2048)] | None = None

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if (self.data is None) == (self.url is None):
            raise ValueError("needs either data or url")
        return self


Attachments = Annotated[list[AttachmentBody], Field(max_length=64)]


class ForkBody(_Body):
    """Which session is copied, up to the end of which turn: its request id, or a checkpoint."""

    session_id: SessionId
    after: Reference | None = None


class CreateSessionBody(_Body):
    """A session to open. One that is a `fork` has the options of the other, if none are given."""

    fork: ForkBody | None = None
    model: Annotated[
        Annotated[Str, Field(min_length=1, max_length=256, examples=["test"])] | None,
        Field(validate_default=True, description="needed but for a fork"),
    ] = None
    session_id: SessionId | None = None
    system_prompt: Str | None = None
    working_dir: Annotated[Str, Field(max_length=4096)] | None = None
    tools: Annotated[list[Name], Field(max_length=256)] | None = None
    plugins: Annotated[list[Name], Field(max_length=256)] | None = None
    blueprint: Name | None = None
    max_turns: Annotated[int, Field(gt=0, lt=2**31)] | None = None
    max_tokens: Annotated[int, Field(gt=0, lt=2**31)] | None = None
    skills_dirs: Annotated[list[Str], Field(max_length=64)] | None = None
    provider_opts: FreeObject | None = None
    user_data: FreeForm = None
    prompt_mode: Name | None = None
    label: Annotated[Str, Field(min_length=1, max_length=200)] | None = None
    ephemeral: Annotated[bool, Field(description="nothing of it is stored")] | None = None
    prompt: Annotated[Text, Field(examples=["What is the weather in Paris?"])] | None = None
    attachments: Attachments | None = None
    wait: Wait | None = None

    @field_validator("model")
    @classmethod
    def _is_needed(cls, model: str | None, info: ValidationInfo) -> str | None:
        if model is None and info.data.get("fork") is None:
            raise PydanticCustomError("missing", "Field required")
        return model

    @model_validator(mode="after")
    def _waits_for_something(self) -> Self:
        if self.wait is not None and self.prompt is None:
            raise ValueError("wait needs a prompt")
        if self.attachments and self.prompt is None:
            raise ValueError("attachments need a prompt")
        return self


class CheckpointBody(_Body):
    """A name for the end of the last turn."""

    name: Annotated[CheckpointName, Field(examples=["before-the-refund"])]


class ResumeCheckpointBody(_Body):
    """How the session is called that begins at a checkpoint, and which model answers in it."""

    session_id: SessionId | None = None
    model: Annotated[Str, Field(min_length=1, max_length=256)] | None = None
    label: Label | None = None
    ephemeral: bool | None = None


class LoginBody(_Body):
    """A key, or the code of a development run's link."""

    key: Annotated[Str, Field(min_length=1, max_length=512, examples=["fd_…"])] | None = None
    code: Annotated[Str, Field(min_length=1, max_length=512)] | None = None

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if (self.key is None) == (self.code is None):
            raise ValueError("needs either key or code")
        return self

    def __repr__(self) -> str:
        return "LoginBody(...)"


class PromptBody(_Body):
    """A prompt."""

    text: Annotated[Text, Field(examples=["What is the weather in Paris?"])]
    attachments: Attachments | None = None


class PromptAndWaitBody(PromptBody):
    """A prompt, and how long its answer may wait for the end of the turn."""

    wait: Wait | None = None


class SteerBody(_Body):
    """A text for the turn under way."""

    text: Annotated[Text, Field(examples=["in one sentence, please"])]


class ApprovalBody(_Body):
    """An answer to an `approval_required`."""

    approval_id: Annotated[Reference, Field(examples=["9f3c2a1b0d4e5f67"])]
    reason: Reason | None = None
    option_id: Annotated[Str, Field(max_length=2000)] | None = None


class RespondBody(_Body):
    """An answer to an `ask_user`."""

    ref: Annotated[Reference, Field(examples=["9f3c2a1b0d4e5f67"])]
    response: Annotated[FreeForm, Field(examples=["the blue one"])]


class AbortBody(_Body):
    """Why the turn under way ends, and whether running tools are killed as well."""

    reason: Reason | None = None
    kill_tools: bool = False


class SwitchModelBody(_Body):
    """Another model."""

    model: Annotated[Str, Field(min_length=1, max_length=256, examples=["test"])]


class ToolBody(_Body):
    """A callback tool."""

    name: Annotated[str, Field(pattern=f"^{TOOL_NAME}$", examples=["lookup_order"])]
    description: Annotated[Str, Field(max_length=MAX_TOOL_DESCRIPTION_CHARACTERS)]
    parameters: Annotated[
        FreeObject,
        Field(examples=[{"type": "object", "properties": {"order": {"type": "string"}}}]),
    ]
    callback_url: Annotated[
        str, Field(min_length=1, max_length=2048, examples=["https://tools.example.com/orders"])
    ]
    timeout_ms: Annotated[int, Field(gt=0, le=600_000)] = 30_000


class TokenBody(_Body):
    """What a session token may do, and for how many seconds."""

    scopes: Annotated[
        list[Annotated[KeyScope, Field(strict=False)]],
        Field(min_length=1, max_length=len(KeyScope), examples=[["read", "prompt"]]),
    ]
    ttl_s: Annotated[int, Field(gt=0, lt=2**31, examples=[900])] | None = None
