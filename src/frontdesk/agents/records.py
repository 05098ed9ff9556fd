"""The records of the agents layer: what goes into a session and into a turn, frozen.

All are msgspec structs, so that they travel to an agent's process unchanged. They hold no agent and
no task.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

TOOL_NAME = r"[A-Za-z_][A-Za-z0-9_-]{0,63}"
"""What a callback tool may be called: what every model provider takes."""

MAX_TOOL_DESCRIPTION_CHARACTERS = 4096

Role = Literal["user", "assistant", "system", "tool_result"]

ApprovalStatus = Literal["approved", "rejected", "expired", "cancelled"]

State = Literal["idle", "working", "waiting_approval", "waiting_input", "restarting"]


class CreateSession(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a client asks for: the body of `POST /v1/sessions`.

    The repr leaves out what may hold a client's secrets.
    """

    model: str
    session_id: str | None = None
    system_prompt: str | None = None
    working_dir: str | None = None
    tools: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    blueprint: str | None = None
    max_turns: int | None = None
    max_tokens: int | None = None
    skills_dirs: tuple[str, ...] = ()
    provider_opts: dict[str, Any] = {}
    user_data: Any = None
    prompt_mode: str | None = None

    def __repr__(self) -> str:
        return f"CreateSession(model={self.model!r}, session_id={self.session_id!r}, ...)"


class SessionContext(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent knows of its session. Directories are resolved, names are checked.

    `model` is the one that the session was created with; `TurnPort.model` follows switches.
    Callback tools come with the turn. The repr leaves out what may hold a client's secrets.
    """

    session_id: str
    tenant_id: str
    blueprint: str
    model: str
    system_prompt: str | None = None
    working_dir: str | None = None
    tools: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    max_turns: int | None = None
    max_tokens: int | None = None
    skills_dirs: tuple[str, ...] = ()
    provider_opts: dict[str, Any] = {}
    user_data: Any = None
    prompt_mode: str | None = None

    def __repr__(self) -> str:
        return f"SessionContext(session_id={self.session_id!r}, tenant_id={self.tenant_id!r}, ...)"


class ToolCall(msgspec.Struct, frozen=True, rename="camel"):
    """A call of a tool as a message of the history shows it."""

    call_id: str
    tool_name: str
    args: Any = None


class Message(msgspec.Struct, frozen=True, rename="camel"):
    """One message of a conversation's history."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()


class CallbackTool(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A tool that the gateway runs by posting to its owner's URL."""

    name: str
    callback_url: str
    description: str = ""
    parameters: dict[str, Any] = {}
    timeout_ms: int = 30_000


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A callback tool as an agent sees it: what to tell the model, not where it is answered."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


class Approval(msgspec.Struct, frozen=True):
    """How an approval was answered."""

    status: ApprovalStatus
    reason: str | None = None

    @property
    def approved(self) -> bool:
        """Say whether the tool may run."""
        return self.status == "approved"

    def __bool__(self) -> bool:
        return self.approved


class Accepted(msgspec.Struct, frozen=True, rename="camel"):
    """A prompt was accepted. `queued` where it waits for another turn to end."""

    request_id: str
    session_id: str
    queued: bool


class TurnContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn begins with."""

    text: str
    request_id: str
    session: SessionContext
    model: str
    history: tuple[Message, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
