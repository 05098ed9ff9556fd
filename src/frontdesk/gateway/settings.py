"""What an operator can set: the records of the configuration.

Below `config.py`, which fills them from file, environment and command line, and everything that is
configured; `blueprint_settings.py` has the tables of blueprints. Field names are those of
`frontdesk.toml`; units are in the names. A setting is defined once: its bounds, its default, what
it means, whether a reload changes it, and which option of a layer below it sets. The tables in the
documents are made from that (`make format`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from frontdesk.agents.ids import TENANT_ID
from frontdesk.errors import MissingExtra
from frontdesk.gateway import patterns
from frontdesk.gateway.auth_settings import AuthSettings
from frontdesk.gateway.blueprint_settings import BlueprintName, BlueprintSettings
from frontdesk.gateway.cluster_settings import ClusterSettings
from frontdesk.gateway.conversation_settings import MEMORY, SQLITE, ConversationSettings
from frontdesk.gateway.metering import STORED_DAYS
from frontdesk.gateway.setting_types import (
    Money,
    Network,
    Positive,
    Seconds,
    Setting,
    Table,
    Target,
    matching,
    setting_of,
)
from frontdesk.sessions.attachment_room import MAX_PROMPT_BYTES
from frontdesk.sessions.context import SessionSettings
from frontdesk.store import Limits


def _compiles(pattern: str) -> str:
    try:
        patterns.compiled(pattern)
    except MissingExtra as error:
        raise ValueError(str(error)) from None
    return pattern


def _is_a_word(text: str) -> str:
    if not text.strip():
        raise ValueError("a denied word has at least one character")
    _compiles("")
    return text.strip()


Pattern = Annotated[str, AfterValidator(_compiles)]
Word = Annotated[str, AfterValidator(_is_a_word)]
Origin = Annotated[
    str,
    matching(r"https?://[^/?#\s@A-Z]+", "an origin is https://host: lower case, no path"),
]
Tenant = Annotated[str, matching(TENANT_ID, "a tenant is 1 to 64 of a-z 0-9 _ -")]


SESSIONS = SessionSettings()
"""Where the defaults of a session's settings come from."""

R = TypeVar("R")


class ServerSettings(Table):
    """Where the gateway listens, and how it ends."""

    host: Annotated[str, Setting("the address to listen on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535), Setting("0 takes a free one")] = 4000
    workers: Annotated[
        int,
        Field(ge=1, le=256),
        Setting("how many processes serve, with one registry between them"),
    ] = 1
    state_dir: Annotated[
        Path,
        Setting("where keys, the meter and the master secret are kept; readable by its owner only"),
    ] = Path(".frontdesk")
    grace_s: Annotated[
        float,
        Field(ge=0, le=3600),
        Setting("how long turns may go on after a SIGTERM", reload=True),
    ] = 10.0
    tenants_root: Annotated[
        Path | None,
        Setting(
            "each tenant's directories resolve under `<tenants_root>/<tenant>`; without it, "
            "sessions have none",
            sets=(SessionSettings, "tenants_root"),
        ),
    ] = SESSIONS.tenants_root
    tls_certificate: Annotated[
        Path | None, Setting("a PEM file; with `tls_key`. Read again at a reload", reload=True)
    ] = None
    tls_key: Annotated[Path | None, Setting("a PEM file", reload=True)] = None
    trusted_proxies: Annotated[
        tuple[Network, ...],
        Setting(
            "networks whose `Forwarded` or `X-Forwarded-For`, `-Proto`, `-Host`, `-Prefix` count"
        ),
    ] = ()
    public_url: Annotated[
        str | None,
        Field(pattern=r"^https?://[^/?#\s@]+(/[^?#\s]*)?$", max_length=2048),
        Setting(
            "where clients reach the gateway, for links in answers (the agent card); else by the "
            "request and the trusted proxies",
            reload=True,
        ),
    ] = None

    allowed_origins: Annotated[
        tuple[Origin, ...],
        Setting(
            "origins whose pages may read answers of `/v1` and open WebSockets; none listed: every "
            "one",
            reload=True,
        ),
    ] = ()

    operators_read_text: Annotated[
        bool,
        Setting(
            "whether operators may read what is said in sessions; each time is logged", reload=True
        ),
    ] = False

    trace_text: Annotated[
        bool,
        Setting("whether traces have what is said in sessions: prompts, answers, tools' arguments"),
    ] = False

    @model_validator(mode="after")
    def _tls_is_whole(self) -> ServerSettings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        return self


class LimitSettings(Table):
    """How much of everything. None is no limit."""

    requests_per_minute: Annotated[
        Positive, Setting("of one key, in any 60 seconds", reload=True)
    ] = 600
    wrong_keys_per_minute: Annotated[Positive, Setting("from one address", reload=True)] = 120
    streams_per_key: Annotated[
        Positive, Setting("open event streams and WebSockets", reload=True)
    ] = 200
    sessions_total: Annotated[
        Positive | None,
        Setting("live sessions; one more is 503", reload=True, sets=(Limits, "total")),
    ] = 10_000
    sessions_per_tenant: Annotated[
        Positive | None,
        Setting("live sessions; one more is 429", reload=True, sets=(Limits, "per_tenant")),
    ] = 1_000
    sessions_per_key: Annotated[
        Positive | None,
        Setting("live sessions; one more is 429", reload=True, sets=(Limits, "per_api_key")),
    ] = 1_000
    usage_days: Annotated[
        int,
        Field(ge=62, le=36_500),
        Setting("for how long use is stored by day, model and key; the sums of a key stay"),
    ] = STORED_DAYS
    prompt_queue: Annotated[
        Positive,
        Setting("prompts that wait in one session", sets=(SessionSettings, "max_queued_prompts")),
    ] = SESSIONS.max_queued_prompts
    keyless_connections: Annotated[
        Positive,
        Setting(
            "open connections that have shown no key, and at most a quarter of the descriptors; "
            "one more closes the oldest"
        ),
    ] = 1024
    keyless_connections_per_address: Annotated[
        Positive, Setting("of these, from one address; one more closes its oldest")
    ] = 512
    unread_bytes_per_key: Annotated[
        int,
        Field(ge=1024 * 1024),
        Setting(
            "answers of one key that are written and not read yet; beyond it, the connection that "
            "is behind for longest is closed"
        ),
    ] = 32 * 1024 * 1024
    body_bytes_per_key: Annotated[
        Positive,
        Setting("announced bodies of one key's requests that have no answer yet; one more is 429"),
    ] = 32 * 1024 * 1024
    head_bytes: Annotated[int, Field(ge=1024), Setting("request line and headers")] = 32 * 1024
    body_bytes: Annotated[
        int,
        Field(ge=1024),
        Setting("a body; for WebSocket messages at the start", reload=True),
    ] = 1024 * 1024
    text_characters: Annotated[
        Positive, Setting("a prompt, a steering text, a system prompt", reload=True)
    ] = 200_000
    head_timeout_s: Annotated[Seconds, Setting("for a head, or a TLS handshake")] = 10.0
    body_timeout_s: Annotated[Seconds, Setting("for a body to arrive")] = 30.0
    keep_alive_s: Annotated[Seconds, Setting("an idle connection")] = 75.0
    stalled_write_s: Annotated[Seconds, Setting("a client that reads nothing of what is sent")] = (
        30.0
    )


class StreamSettings(Table):
    """Event streams and WebSockets, and how much of a conversation is kept for them."""

    heartbeat_s: Annotated[
        Seconds,
        Setting("comment lines in event streams; pings of WebSockets at the start", reload=True),
    ] = 30.0
    kept_events: Annotated[
        Positive,
        Setting(
            "last events of a conversation; the latest turn is kept whole beyond that",
            sets=(SessionSettings, "min_events"),
        ),
    ] = SESSIONS.min_events
    kept_bytes: Annotated[
        Positive,
        Setting(
            "the memory that both may take, their frames for streams included",
            sets=(SessionSettings, "max_log_bytes"),
        ),
    ] = SESSIONS.max_log_bytes


class TurnSettings(Table):
    """Deadlines of a turn and of what it waits for."""

    deadline_s: Annotated[
        Seconds, Setting("of a turn", sets=(SessionSettings, "turn_timeout_s"))
    ] = SESSIONS.turn_timeout_s
    approval_s: Annotated[
        Seconds,
        Setting(
            "until an approval is rejected as `expired`",
            sets=(SessionSettings, "approval_timeout_s"),
        ),
    ] = SESSIONS.approval_timeout_s
    question_s: Annotated[
        Seconds,
        Setting("until a question has no answer", sets=(SessionSettings, "question_timeout_s")),
    ] = SESSIONS.question_timeout_s
    end_grace_s: Annotated[
        Seconds, Setting("for an agent to end", sets=(SessionSettings, "end_grace_s"))
    ] = SESSIONS.end_grace_s


class CallbackSettings(Table):
    """Callback tools. Private addresses are called only in `allow_networks`."""

    allow_networks: Annotated[
        tuple[Network, ...], Setting("networks that are called though they are not public")
    ] = ()
    answer_bytes: Annotated[Positive, Setting("the longest answer of a callback tool")] = (
        1024 * 1024
    )


class AttachmentSettings(Table):
    """What may come with a prompt. Which types an agent takes, its blueprint says."""

    count: Annotated[int, Field(ge=0, le=64), Setting("with one prompt", reload=True)] = 8
    bytes: Annotated[
        int, Field(ge=1, le=MAX_PROMPT_BYTES), Setting("of one of them", reload=True)
    ] = 4 * 1024 * 1024
    total_bytes: Annotated[
        int,
        Field(ge=1, le=MAX_PROMPT_BYTES),
        Setting("of all that come with one prompt", reload=True),
    ] = 8 * 1024 * 1024
    bytes_per_tenant: Annotated[
        int,
        Field(ge=MAX_PROMPT_BYTES),
        Setting(
            "of a tenant's prompts that wait or run; one more is 429",
            sets=(SessionSettings, "max_attachment_bytes"),
        ),
    ] = SESSIONS.max_attachment_bytes
    fetch_s: Annotated[
        Seconds, Setting("for the gateway to fetch those that come as URLs", reload=True)
    ] = 10.0


class GuardrailSettings(Table):
    """Filters on what comes in and what goes out. `filter` is `module:callable`."""

    max_input_characters: Annotated[
        Positive | None, Setting("of a prompt, steering text or answer", reload=True)
    ] = None
    max_output_characters: Annotated[
        Positive | None,
        Setting("of a message, or of a thought", reload=True),
    ] = None
    denied_words: Annotated[
        tuple[Word, ...], Setting("whole words, or several in a row, in any case", reload=True)
    ] = ()
    denied_patterns: Annotated[
        tuple[Pattern, ...], Setting("regular expressions of RE2, in any case", reload=True)
    ] = ()
    filter: Annotated[
        Target | None,
        Setting(
            "`module:callable`, called with tenant, text and `input` or `output`; what it "
            "returns is why the text is refused, `None` lets it pass",
            reload=True,
        ),
    ] = None


class BudgetSettings(Table):
    """What may be used. None is no limit; days and months are those of UTC."""

    tokens_per_day: Annotated[
        Positive | None, Setting("prompt and completion tokens of a tenant", reload=True)
    ] = None
    tokens_per_month: Annotated[Positive | None, Setting("the same, in a month", reload=True)] = (
        None
    )
    cost_usd_per_day: Annotated[
        Money | None, Setting("what a tenant's model calls cost", reload=True)
    ] = None
    cost_usd_per_month: Annotated[Money | None, Setting("the same, in a month", reload=True)] = None
    key_tokens_per_day: Annotated[
        Positive | None, Setting("tokens of each key of a tenant", reload=True)
    ] = None
    key_tokens_per_month: Annotated[
        Positive | None, Setting("the same, in a month", reload=True)
    ] = None
    key_cost_usd_per_day: Annotated[
        Money | None, Setting("what the calls for each key cost", reload=True)
    ] = None
    key_cost_usd_per_month: Annotated[
        Money | None, Setting("the same, in a month", reload=True)
    ] = None


class TenantSettings(Table):
    """What one tenant has of its own, in place of what all have."""

    guardrails: GuardrailSettings | None = None
    budgets: BudgetSettings | None = None
    retention_days: Annotated[float, Field(gt=0, le=36_500)] | None = None


class LogSettings(Table):
    """`auto` is readable on a terminal and JSON elsewhere."""

    format: Annotated[
        Literal["auto", "json", "console"],
        Setting("`json`, `console`, or `auto`: readable on a terminal, JSON elsewhere"),
    ] = "auto"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Setting("`debug`, `info`, `warning`, `error`")
    ] = "info"


class Config(BaseSettings):
    """The whole configuration."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="FRONTDESK_", env_nested_delimiter="__"
    )

    server: ServerSettings = ServerSettings()
    limits: LimitSettings = LimitSettings()
    streams: StreamSettings = StreamSettings()
    turns: TurnSettings = TurnSettings()
    auth: AuthSettings = AuthSettings()
    callbacks: CallbackSettings = CallbackSettings()
    attachments: AttachmentSettings = AttachmentSettings()
    guardrails: GuardrailSettings = GuardrailSettings()
    budgets: BudgetSettings = BudgetSettings()
    log: LogSettings = LogSettings()
    conversations: ConversationSettings = ConversationSettings()
    cluster: ClusterSettings = ClusterSettings()
    tenants: dict[Tenant, TenantSettings] = {}
    blueprints: dict[BlueprintName, BlueprintSettings] = {}
    default_blueprint: str | None = None

    @field_validator("default_blueprint")
    @classmethod
    def _default_is_there(cls, name: str | None, info: ValidationInfo) -> str | None:
        # Where the tables are wrong themselves, that is the mistake to tell.
        if name is not None and name not in info.data.get("blueprints", {name}):
            raise ValueError("there is no table of this name under [blueprints]")
        return name

    @field_validator("cluster")
    @classmethod
    def _agents_are_gone_in_time(
        cls, cluster: ClusterSettings, info: ValidationInfo
    ) -> ClusterSettings:
        turns = info.data.get("turns", TurnSettings())
        if cluster.url is not None and turns.end_grace_s > cluster.kill_grace_s:
            raise ValueError(
                f"kill_grace_s must be at least turns.end_grace_s ({turns.end_grace_s:g}): before "
                "an id is given away, its agent has to be gone"
            )
        return cluster

    @field_validator("cluster")
    @classmethod
    def _all_machines_reach_conversations(
        cls, cluster: ClusterSettings, info: ValidationInfo
    ) -> ClusterSettings:
        conversations = info.data.get("conversations", ConversationSettings(store=MEMORY))
        if cluster.url is not None and conversations.store == SQLITE:
            raise ValueError(
                "with url, conversations.store has to be postgresql://…, for all machines, or "
                "memory, where conversations end with their node: sqlite is a file of one machine"
            )
        return cluster

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

    def options(self, kind: type[R]) -> R:
        """Return a layer's record of options, with all that is set of it."""
        found: dict[str, Any] = {}
        for table in (self.server, self.limits, self.streams, self.turns, self.attachments):
            for name, field in type(table).model_fields.items():
                about = setting_of(field)
                if about is not None and about.sets is not None and about.sets[0] is kind:
                    found[about.sets[1]] = getattr(table, name)
        return kind(**found)

    def guardrails_of(self, tenant_id: str) -> GuardrailSettings:
        """Return the filters of a tenant: its own, else those of all."""
        own = self.tenants.get(tenant_id)
        return own.guardrails if own and own.guardrails else self.guardrails

    def budgets_of(self, tenant_id: str) -> BudgetSettings:
        """Return the budgets of a tenant: its own, else those of all."""
        own = self.tenants.get(tenant_id)
        return own.budgets if own and own.budgets else self.budgets


def needing_restart(running: Config, wanted: Config) -> list[str]:
    """Return the settings that a reload does not change, of those that differ."""
    names = []
    for table_name in Config.model_fields:
        table, other = getattr(running, table_name), getattr(wanted, table_name)
        if not isinstance(table, Table):
            continue
        for name, field in type(table).model_fields.items():
            about = setting_of(field)
            follows = about is None or about.reload
            if not follows and getattr(table, name) != getattr(other, name):
                names.append(f"{table_name}.{name}")
    if (running.server.tls_certificate is None) != (wanted.server.tls_certificate is None):
        names.append("server.tls_certificate")
    return names
