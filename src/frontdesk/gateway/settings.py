"""What an operator can set: the records of the configuration, their defaults and bounds.

Below `config.py`, which fills them from file, environment and command line, and everything that is
configured. Field names are those of `frontdesk.toml`; units are in the names.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from frontdesk.agents.ids import NAME, TENANT_ID

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, le=86_400 * 365)]
Network = Annotated[
    IPv4Network | IPv6Network, BeforeValidator(lambda text: ip_network(text, strict=False))
]


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


def _is_target(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", text):
        raise ValueError("must be module:name")
    return text


def _is_blueprint(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise ValueError("a blueprint's name is 1 to 64 of A-Z a-z 0-9 _ . -")
    return name


def _is_tenant(name: str) -> str:
    if not re.fullmatch(TENANT_ID, name):
        raise ValueError("a tenant is 1 to 64 of a-z 0-9 _ -")
    return name


Target = Annotated[str, AfterValidator(_is_target)]
BlueprintName = Annotated[str, AfterValidator(_is_blueprint)]
Pattern = Annotated[str, AfterValidator(_compiles)]
Tenant = Annotated[str, AfterValidator(_is_tenant)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(_Table):
    """Where the gateway listens, and how it ends."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 4000
    state_dir: Path = Path(".frontdesk")
    grace_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    tenants_root: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[Network, ...] = ()

    @model_validator(mode="after")
    def _tls_is_whole(self) -> ServerSettings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        return self


class LimitSettings(_Table):
    """How much of everything. None is no limit."""

    requests_per_minute: Positive = 600
    wrong_keys_per_minute: Positive = 120
    streams_per_key: Positive = 200
    sessions_total: Positive | None = 10_000
    sessions_per_tenant: Positive | None = 1_000
    sessions_per_key: Positive | None = 1_000
    prompt_queue: Positive = 16
    head_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024
    body_bytes: Annotated[int, Field(ge=1024)] = 1024 * 1024
    text_characters: Positive = 200_000
    head_timeout_s: Seconds = 10.0
    body_timeout_s: Seconds = 30.0
    keep_alive_s: Seconds = 75.0
    stalled_write_s: Seconds = 30.0


class StreamSettings(_Table):
    """Event streams and WebSockets, and how much of a conversation is kept for them."""

    heartbeat_s: Seconds = 30.0
    kept_events: Positive = 1024
    kept_bytes: Positive = 8 * 1024 * 1024


class TurnSettings(_Table):
    """Deadlines of a turn and of what it waits for."""

    deadline_s: Seconds = 900.0
    approval_s: Seconds = 120.0
    question_s: Seconds = 300.0
    end_grace_s: Seconds = 5.0


class CallbackSettings(_Table):
    """Callback tools. Private addresses are called only in `allow_networks`."""

    allow_networks: tuple[Network, ...] = ()
    answer_bytes: Positive = 1024 * 1024


class GuardrailSettings(_Table):
    """Filters on what comes in and what goes out. `filter` is `module:callable`."""

    max_input_characters: Positive | None = None
    max_output_characters: Positive | None = None
    denied_words: tuple[str, ...] = ()
    denied_patterns: tuple[Pattern, ...] = ()
    filter: Target | None = None


class TenantSettings(_Table):
    """What one tenant has of its own, in place of what all have."""

    guardrails: GuardrailSettings | None = None


class _BlueprintTable(_Table):
    """What all kinds of blueprints have: who may ask for what, and how long sessions live."""

    models: tuple[str, ...] = ("*",)
    restart: Literal["never", "on_crash", "always"] = "never"
    restart_limit: Positive = 3
    restart_within_s: Seconds = 60.0
    turn_timeout_s: Seconds | None = None
    idle_timeout_s: Seconds | None = 3600.0
    unused_timeout_s: Seconds | None = 600.0
    max_age_s: Seconds | None = None
    max_sessions_per_tenant: Positive | None = None


class _ProcessTable(_BlueprintTable):
    """What a blueprint has whose sessions may each run in a process of their own."""

    environment: tuple[str, ...] = ()
    memory_mb: Positive | None = None
    cpu_s: Positive | None = None
    open_files: Positive | None = None
    account: str | None = None


class PydanticAISettings(_BlueprintTable):
    """A Pydantic AI agent. `tools` and `plugins` are `module:name`; clients use the name."""

    kind: Literal["pydantic-ai"]
    isolation: Literal["task"] = "task"
    instructions: str | None = None
    tools: tuple[Target, ...] = ()
    plugins: tuple[Target, ...] = ()
    base_urls: tuple[str, ...] = ()


class PythonSettings(_ProcessTable):
    """An agent of the operator's own: `target` is a blueprint, `module:name`."""

    kind: Literal["python"]
    target: Target
    isolation: Literal["task", "process"] = "task"


class ProcessSettings(_ProcessTable):
    """The agent that comes built in, in a process of its own for each session."""

    kind: Literal["process"]
    isolation: Literal["process"] = "process"


class AcpSettings(_ProcessTable):
    """A program that speaks the Agent Client Protocol. `files` and `terminals` open those to it."""

    kind: Literal["acp"]
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    isolation: Literal["process"] = "process"
    files: Literal["none", "read", "write"] = "none"
    terminals: bool = False
    auth_method: str | None = None
    start_timeout_s: Seconds = 30.0


BlueprintSettings = Annotated[
    PydanticAISettings | PythonSettings | ProcessSettings | AcpSettings,
    Field(discriminator="kind"),
]


class LogSettings(_Table):
    """`auto` is readable on a terminal and JSON elsewhere."""

    format: Literal["auto", "json", "console"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="FRONTDESK_", env_nested_delimiter="__"
    )

    server: ServerSettings = ServerSettings()
    limits: LimitSettings = LimitSettings()
    streams: StreamSettings = StreamSettings()
    turns: TurnSettings = TurnSettings()
    callbacks: CallbackSettings = CallbackSettings()
    guardrails: GuardrailSettings = GuardrailSettings()
    log: LogSettings = LogSettings()
    tenants: dict[Tenant, TenantSettings] = {}
    blueprints: dict[BlueprintName, BlueprintSettings] = {}
    default_blueprint: str | None = None

    @model_validator(mode="after")
    def _default_is_there(self) -> Config:
        if self.default_blueprint is not None and self.default_blueprint not in self.blueprints:
            raise ValueError("default_blueprint names no table under [blueprints]")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,  # noqa: ARG003
        **named: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `config.py` merges the sources itself: it has to say where a mistake was made.
        return (init_settings,)

    def guardrails_of(self, tenant_id: str) -> GuardrailSettings:
        """Return the filters of a tenant: its own, else those of all."""
        own = self.tenants.get(tenant_id)
        return own.guardrails if own and own.guardrails else self.guardrails
