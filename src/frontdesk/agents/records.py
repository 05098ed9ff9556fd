"""The records of the agents layer: what goes into a session and into a turn, frozen.

All are msgspec structs, so that they travel to an agent's process unchanged. They hold no agent and
no task.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from frontdesk.agents.attachments import AttachedFile, Attachment
from frontdesk.errors import InvalidArgument

TOOL_NAME = r"[A-Za-z_][A-Za-z0-9_-]{0,63}"
"""What a callback tool may be called: what every model provider takes."""

MAX_TOOL_DESCRIPTION_CHARACTERS = 4096

Role = Literal["user", "assistant", "system", "tool_result"]

ApprovalStatus = Literal["approved", "rejected", "expired", "cancelled"]

ToolStatus = Literal["ok", "error", "rejected", "expired", "cancelled"]
"""How a tool's call ended: it ran, it failed, its approval was refused or came too late, or it was
broken off."""

State = Literal["idle", "working", "waiting_approval", "waiting_input", "restarting"]


MemoryOutcome = Literal["kept", "rebuilt", "none"]
"""What a new agent knows of its session's former turns: what the former one knew, what the history
says, or nothing. Where there was nothing to know it is `kept`."""

MAX_MEMORY_BYTES = 2 * 1024 * 1024
"""Bytes of one `Memory`."""

MAX_TURN_MEMORY_BYTES = 16 * 1024 * 1024
"""Bytes of what one turn leaves to be remembered."""

REFERENCE = r"(?:apr|ask)_[0-9a-f]{16}"
"""What an approval or a question may be called that outlives its agent."""

MAX_USED_TOKENS = 2**53
"""The greatest number of tokens that JSON carries to everybody unchanged; sums stop there."""

MAX_COST_USD = 1e12


class TokenUsage(msgspec.Struct, frozen=True):
    """Tokens and USD that model calls used; of the `prompt` tokens, `cached` came from a cache.

    `+` adds two of them. Raises `InvalidArgument` for what cannot have been used: a negative
    number, a fraction of a token, more than 2**53 tokens or 10**12 USD.
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    cost_usd: float = 0.0

    def __post_init__(self) -> None:
        for name in ("prompt", "completion", "cached"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= MAX_USED_TOKENS:
                raise InvalidArgument(name, expected="a number of tokens", got=repr(value)[:40])
        cost = self.cost_usd
        if type(cost) not in (int, float) or not 0 <= cost <= MAX_COST_USD:
            raise InvalidArgument("cost", expected="an amount of USD", got=repr(cost)[:40])

    @property
    def total(self) -> int:
        """Return prompt and completion tokens together; cached ones are prompt tokens already."""
        return self.prompt + self.completion

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            min(self.prompt + other.prompt, MAX_USED_TOKENS),
            min(self.completion + other.completion, MAX_USED_TOKENS),
            min(self.cached + other.cached, MAX_USED_TOKENS),
            min(self.cost_usd + other.cost_usd, MAX_COST_USD),
        )


NO_USAGE = TokenUsage()


class ForkPoint(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where a session is forked: at the end of a turn, by its request id or a checkpoint's name.

    Without `after`, at the end of the last turn that has ended.
    """

    session_id: str
    after: str | None = None


class CreateSession(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a client asks for: the body of `POST /v1/sessions`.

    `ephemeral` has nothing of it stored, `label` is what lists can be asked for. With `fork`,
    options are those of the other session, and so is the model where it is "". The repr leaves out
    what may hold a client's secrets.
    """

    model: str
    session_id: str | None = None
    label: str | None = None
    ephemeral: bool = False
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
    fork: ForkPoint | None = None

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
    """One message of a conversation's history.

    `call_id` and `status` are those of a `tool_result`: which call it belongs to, and how that
    ended. A call without one was cut off. `attachments` are what came with a user's prompt.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None
    status: ToolStatus | None = None
    attachments: tuple[AttachedFile, ...] = ()


class CallbackTool(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A tool that the gateway runs by posting to its owner's URL."""

    name: str
    callback_url: str
    description: str = ""
    parameters: dict[str, Any] = {}
    timeout_ms: int = 30_000


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A callback tool as an agent sees it: what the model reads of it, not where it is answered."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


class Approval(msgspec.Struct, frozen=True):
    """How an approval was answered; `option_id` is which of the agent's options, if it has some."""

    status: ApprovalStatus
    reason: str | None = None
    option_id: str | None = None

    @property
    def approved(self) -> bool:
        """Say whether the tool may run."""
        return self.status == "approved"

    def __bool__(self) -> bool:
        return self.approved


class ApprovalOption(msgspec.Struct, frozen=True, rename="camel"):
    """One answer that an agent offers. `kind` begins with `allow` or `reject` where it says so."""

    option_id: str
    name: str
    kind: str


class ApprovalLocation(msgspec.Struct, frozen=True, rename="camel"):
    """A file that a tool is about to touch."""

    path: str
    line: int | None = None


class ApprovalDetails(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What an approval is about, beside the tool's name and arguments.

    `kind` is what the tool does in one word (`edit`, `execute`, ...); `content` shows it: texts,
    diffs (`path`, `oldText`, `newText`), terminals. `options` are the answers that the agent
    offers, where it offers some.
    """

    title: str | None = None
    kind: str | None = None
    content: tuple[dict[str, Any], ...] = ()
    locations: tuple[ApprovalLocation, ...] = ()
    options: tuple[ApprovalOption, ...] = ()


class AgentOptionValue(msgspec.Struct, frozen=True, rename="camel"):
    """One value that an option of an agent can have."""

    value: str
    name: str


class AgentOption(msgspec.Struct, frozen=True, rename="camel"):
    """An option that an agent has beside its model, its mode for instance, and how it is set.

    `values` are those that it can have; none where it is true or false.
    """

    option_id: str
    name: str
    value: str | bool | None
    values: tuple[AgentOptionValue, ...] = ()


class Accepted(msgspec.Struct, frozen=True, rename="camel"):
    """A prompt was accepted. `queued` where it waits for another turn to end.

    The events of its turn come after that of the id `since`.
    """

    request_id: str
    session_id: str
    queued: bool
    since: str


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent leaves for the next one of its session; it alone understands `content`.

    `kind` says what wrote it, `version` in which form: whoever cannot read that rebuilds what it
    can from the history, and says so. One that `replaces` takes the place of every earlier one of
    its kind; others are added, so that a turn leaves only what is new. Raises `InvalidArgument`
    for more than 2 MiB.
    """

    kind: str
    version: int
    content: bytes
    replaces: bool = False

    def __post_init__(self) -> None:
        if len(self.content) > MAX_MEMORY_BYTES:
            got = f"{len(self.content)} bytes"
            raise InvalidArgument("memory", expected=f"{MAX_MEMORY_BYTES} bytes at most", got=got)


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of a session for an agent that takes it over: its first turn is not its first.

    `memories` are what its agents left, oldest first. The last `unremembered` messages of `history`
    are of turns that left no memory, as they were cut off. A turn that is suspended is in neither.
    """

    history: tuple[Message, ...] = ()
    memories: tuple[Memory, ...] = ()
    unremembered: int = 0

    @property
    def is_empty(self) -> bool:
        """Say whether there is nothing to know."""
        return not self.history and not self.memories


class Suspended(msgspec.Struct, frozen=True, kw_only=True):
    """Where a turn goes on that another agent began: what that left, and the answers since.

    Both by reference. What has no answer was not answered in time.
    """

    memory: Memory
    approvals: dict[str, Approval] = {}
    responses: dict[str, Any] = {}


class TurnContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn begins with, or goes on with where it was `suspended`."""

    text: str
    request_id: str
    session: SessionContext
    model: str
    history: tuple[Message, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    fence: int = 0
    traceparent: str | None = None
    suspended: Suspended | None = None
