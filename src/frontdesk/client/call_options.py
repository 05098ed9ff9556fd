"""What calls take by name, and what callbacks give back: typed once for both clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

from frontdesk.agents.events import ApprovalRequired, AskUser
from frontdesk.agents.records import Approval

ApprovalAnswer: TypeAlias = bool | Approval | None
"""True lets the tool run, False refuses it, None leaves it to somebody else. An `Approval` says
also why, and by which of the agent's options."""

OnApproval: TypeAlias = Callable[[ApprovalRequired], ApprovalAnswer]
OnQuestion: TypeAlias = Callable[[AskUser], Any]
"""Gives the answer, anything that JSON can say; None leaves the question to somebody else."""

OnApprovalAsync: TypeAlias = Callable[
    [ApprovalRequired], ApprovalAnswer | Awaitable[ApprovalAnswer]
]
OnQuestionAsync: TypeAlias = Callable[[AskUser], Any]
"""As `OnQuestion`; what it gives is awaited where it can be."""


class FileToAttach(TypedDict, total=False):
    """A file that comes with a prompt: `data` (bytes), or a `url` that the gateway fetches."""

    name: str
    media_type: str
    data: bytes
    url: str


class SessionOptions(TypedDict, total=False):
    """What may be said of a session that is opened, beside its model. What is left out, or None, is
    as the blueprint has it.
    """

    session_id: str | None
    blueprint: str | None
    system_prompt: str | None
    working_dir: str | None
    tools: Sequence[str] | None
    plugins: Sequence[str] | None
    max_turns: int | None
    max_tokens: int | None
    skills_dirs: Sequence[str] | None
    provider_opts: Mapping[str, Any] | None
    user_data: Any
    prompt_mode: str | None
    label: str | None
    ephemeral: bool | None


class ForkOptions(TypedDict, total=False):
    """What may be said of a session that begins as a copy of another: the rest is the other's."""

    session_id: str | None
    model: str | None
    label: str | None
    ephemeral: bool | None


class SessionsFilter(TypedDict, total=False):
    """Which of a tenant's sessions: with `ended` those that have ended as well, as long as they are
    stored; opened on which days or at which moments, both included.
    """

    ended: bool | None
    state: Sequence[str] | None
    blueprint: str | None
    label: str | None
    first: str | None
    last: str | None


class ToolOptions(TypedDict, total=False):
    """What may be said of a callback tool: for whom, with what, and how long it may take."""

    description: str
    parameters: Mapping[str, Any]
    timeout_ms: int


class RowFilter(TypedDict, total=False):
    """Which sessions a feed or list has: those that are as each of the fields says."""

    key_id: str | None
    blueprint: str | None
    model: str | None
    state: str | None
    node: str | None
    older_than_s: int | None
    prefix: str | None


class OperatorFilter(RowFilter, total=False):
    """Which sessions of all tenants."""

    tenant: str | None


class UsageFilter(TypedDict, total=False):
    """Which sums of the meter: `by` what they are apart, of which days (YYYY-MM-DD, UTC)."""

    by: Sequence[Literal["day", "model", "key", "tenant"]] | None
    first: str | None
    last: str | None
    limit: int | None
    after: str | None


SortOrder: TypeAlias = Literal[
    "created", "-created", "activity", "-activity", "tokens", "-tokens", "cost", "-cost"
]


class OperatorPage(OperatorFilter, total=False):
    """Which sessions of all tenants, in which order, and which page of them."""

    sort: SortOrder | None
    limit: int | None
    after: str | None
