"""What an operator can set about a blueprint: a `[blueprints.<name>]` table of each kind.

Beside `settings.py`, the rest of the configuration. A new kind is a class here, in
`BlueprintSettings`, and a row in `blueprint_kinds.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PlainValidator, model_validator

from frontdesk.agents.ids import NAME
from frontdesk.agents.remote_address import ADDRESS, VARIABLE
from frontdesk.gateway.setting_types import Positive, Seconds, Table, Target, matching

BlueprintName = Annotated[str, matching(NAME, "a blueprint's name is 1 to 64 of A-Z a-z 0-9 _ . -")]


MediaTypes = tuple[
    Annotated[
        str,
        matching(r"(\*|[a-z0-9][a-z0-9!#$&^_.+-]*)/[a-z0-9!#$&^_.+*-]+", 'must be like "image/*"'),
    ],
    ...,
]
"""Patterns of the types that may come with a prompt, where a kind can hand those on."""
VariableName = Annotated[
    str, matching(r"[A-Za-z_][A-Za-z0-9_]*", "must be the name of an environment variable")
]
HeaderName = Annotated[str, matching(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", "must be a header's name")]
OptionName = Annotated[
    str, matching(r"(?!model$).+", "is no option: a session's model is what its client asks for")
]


def _text_or_switch(value: object) -> str | bool:
    if isinstance(value, str | bool):
        return value
    raise ValueError("must be a text, or true or false")


OptionValue = Annotated[str | bool, PlainValidator(_text_or_switch)]


class BlueprintTable(Table):
    """What all kinds of blueprints have: who may ask for what, and how long sessions live.

    A reload changes blueprints for the sessions that are opened after it.
    """

    models: tuple[str, ...] = ("*",)
    restart: Literal["never", "on_crash", "always"] = "never"
    restart_limit: Positive = 3
    restart_within_s: Seconds = 60.0
    turn_timeout_s: Seconds | None = None
    idle_timeout_s: Seconds | None = 3600.0
    unused_timeout_s: Seconds | None = 600.0
    max_age_s: Seconds | None = None
    max_sessions_per_tenant: Positive | None = None
    durable: bool = True
    resume: Literal["auto", "manual"] = "auto"
    retention_days: Annotated[float, Field(gt=0, le=36_500)] | None = None


class ProcessTable(BlueprintTable):
    """What a blueprint has whose sessions may each run in a process of their own."""

    OF_PROCESSES: ClassVar = frozenset(
        {"environment", "memory_mb", "cpu_s", "open_files", "account"}
    )

    environment: tuple[str, ...] = ()
    memory_mb: Positive | None = None
    cpu_s: Positive | None = None
    open_files: Positive | None = None
    account: str | None = None


class IsolationTable(ProcessTable):
    """What a kind has whose agents are in the gateway, or each in a process: as its table says.

    `python` is the interpreter of its processes, with packages of its own.
    """

    OF_PROCESSES: ClassVar = ProcessTable.OF_PROCESSES | {"python"}

    target: Target | None = None
    isolation: Literal["task", "process"] = "task"
    python: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _only_what_can_be_enforced(self) -> Self:
        """Refuse limits of a process where there is none: they would be ignored."""
        ignored = sorted(self.model_fields_set & self.OF_PROCESSES)
        if self.isolation == "task" and ignored:
            names = ", ".join(ignored)
            raise ValueError(f'{names}: only with isolation = "process"; a task has no such limits')
        return self


class TargetTable(IsolationTable):
    """What a kind has whose `target` is an object of the operator's."""

    target: Target


class PydanticAISettings(IsolationTable):
    """A Pydantic AI agent: the operator's, `target`, or without that the one that comes built in.

    `tools` and `plugins` are the built-in's; `module:name`, of which clients use the name. `deps`
    is a factory of a turn, of what the tools of a `target` get; `system_prompt` says whether
    clients may add instructions to that agent's own.
    """

    OF_TARGETS: ClassVar = frozenset({"deps", "system_prompt"})
    OF_BUILT_IN: ClassVar = frozenset({"instructions", "tools", "plugins", "base_urls"})

    kind: Literal["pydantic-ai"]
    deps: Target | None = None
    system_prompt: bool = False
    instructions: str | None = None
    attachments: MediaTypes | None = None
    tools: tuple[Target, ...] = ()
    plugins: tuple[Target, ...] = ()
    base_urls: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _of_one_agent(self) -> Self:
        """Refuse what the agent would not have: it would be ignored."""
        said = self.model_fields_set
        if self.target is None and self.isolation == "process":
            raise ValueError(
                'isolation: "process" is for a target; the agent that comes built in has a process '
                'of its own as kind = "process"'
            )
        if self.target is None and (wrong := sorted(said & self.OF_TARGETS)):
            raise ValueError(f"{', '.join(wrong)}: only with a target, the agent that it is for")
        if self.target is not None and (wrong := sorted(said & self.OF_BUILT_IN)):
            raise ValueError(f"{', '.join(wrong)}: not with a target: that agent has its own")
        return self


class PythonSettings(TargetTable):
    """An agent of the operator's own: `target` is a blueprint, `module:name`."""

    kind: Literal["python"]
    attachments: MediaTypes | None = None


class OpenAIAgentsSettings(TargetTable):
    """An agent on the OpenAI Agents SDK: an `agents.Agent`, or a function that returns one.

    `context` is a function of the turn (`module:name`) that returns the run's context. `tracing`
    lets the framework trace, and upload to its vendor, as it does on its own.
    """

    kind: Literal["openai-agents"]
    context: Target | None = None
    tracing: bool = False


class RemoteTable(BlueprintTable):
    """What a kind has whose `target` is the address of a remote agent.

    `credential` is the name of the environment variable that holds what lets us in there;
    `timeout_s` is how long nothing may come.
    """

    target: Annotated[
        str, matching(ADDRESS, "must be an http or https address without user, query and fragment")
    ]
    isolation: Literal["task"] = "task"
    credential: (
        Annotated[str, matching(VARIABLE, "must be the name of a variable: A-Z 0-9 _")] | None
    ) = None
    timeout_s: Seconds = 120.0


class A2ASettings(RemoteTable):
    """A remote agent that speaks A2A 1.0."""

    kind: Literal["a2a"]


class OpenAISettings(RemoteTable):
    """A remote agent behind an OpenAI-compatible API. `model` is what `default` stands for."""

    kind: Literal["openai"]
    api: Literal["chat-completions", "responses"] = "chat-completions"
    model: str = "default"


class ADKSettings(TargetTable):
    """An agent of Google's Agent Development Kit: an agent, a workflow, an `App` or a `Runner`."""

    kind: Literal["adk"]


class LangGraphSettings(TargetTable):
    """A graph of LangGraph's: compiled, or a function of the session that returns one.

    `context` is a function of the turn (`module:name`) that returns LangGraph's `context`. `input`
    and `output` are the keys of the state for the prompt and for the answer.
    """

    kind: Literal["langgraph"]
    context: Target | None = None
    input: Annotated[str, Field(min_length=1)] = "messages"
    output: Annotated[str, Field(min_length=1)] = "messages"


class ProcessSettings(ProcessTable):
    """The agent that comes built in, in a process of its own for each session."""

    kind: Literal["process"]
    attachments: MediaTypes | None = None
    isolation: Literal["process"] = "process"


class McpServerSettings(Table):
    """An MCP server: a program (`command`), or an address (`url`). Secrets are named, not written.

    `environment` are the names of the variables that the program gets, the values of `headers` are
    those of variables that have the header's text.
    """

    name: Annotated[str, Field(min_length=1, max_length=64)]
    command: tuple[str, ...] = ()
    environment: tuple[VariableName, ...] = ()
    url: Annotated[str, matching(r"(https?://[^\s@]+)?", "must be an http address")] = ""
    transport: Literal["http", "sse"] = "http"
    headers: Mapping[HeaderName, VariableName] = Field({})

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        """Refuse what is neither a program nor an address, and what belongs to the other one."""
        if bool(self.command) == bool(self.url):
            raise ValueError("needs command, or else url")
        other = {"url", "transport", "headers"} if self.command else {"environment"}
        if wrong := sorted(other & self.model_fields_set):
            raise ValueError(f"{', '.join(wrong)}: not with {'command' if self.command else 'url'}")
        return self


class AcpSettings(ProcessTable):
    """A program that speaks the Agent Client Protocol. `files` and `terminals` open those to it.

    `home` is whose `HOME` it has: its tenant's (beside the state directory), the session's, or the
    gateway's own, which all tenants share. `usage` is what the tokens of its answers count.
    `options` are its modes and other settings, by id.
    """

    kind: Literal["acp"]
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    attachments: MediaTypes | None = None
    isolation: Literal["process"] = "process"
    files: Literal["none", "read", "write"] = "none"
    terminals: bool = False
    auth_method: str | None = None
    home: Literal["tenant", "session", "shared"] = "tenant"
    usage: Literal["turn", "session", "last-call"] | None = None
    options: Mapping[OptionName, OptionValue] = Field({}, max_length=50)
    mcp_servers: Annotated[tuple[McpServerSettings, ...], Field(max_length=50)] = ()
    start_timeout_s: Seconds = 30.0


BlueprintSettings = Annotated[
    PydanticAISettings
    | PythonSettings
    | ProcessSettings
    | AcpSettings
    | OpenAIAgentsSettings
    | LangGraphSettings
    | ADKSettings
    | OpenAISettings
    | A2ASettings,
    Field(discriminator="kind"),
]
