"""The one session that an ACP agent has for us: opened, or given back to a new process.

Its id, its model and its settings are here. Turns are in `agent.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acp.exceptions import RequestError
from acp.meta import AGENT_METHODS, PROTOCOL_VERSION
from acp.schema import (
    AgentCapabilities,
    AuthenticateRequest,
    ClientCapabilities,
    ConfigOptionUpdate,
    CurrentModeUpdate,
    Implementation,
    InitializeRequest,
    InitializeResponse,
    LoadSessionRequest,
    NewSessionRequest,
    ResumeSessionRequest,
)

from frontdesk._version import __version__
from frontdesk.agents.acp.agent_answers import Done, OpenedSession, ReopenedSession, options_in
from frontdesk.agents.acp.agent_settings import AgentSettings, OptionValue
from frontdesk.agents.acp.client_methods import FileAccess
from frontdesk.agents.acp.connection import AcpConnection
from frontdesk.agents.acp.home import HomeKind
from frontdesk.agents.acp.mcp_servers import AgentsServer, McpServer, servers_for_agent
from frontdesk.agents.acp.model_choice import DEFAULT, ModelChoice
from frontdesk.agents.acp.prompt_blocks import takes
from frontdesk.agents.acp.session_memory import SessionLeft
from frontdesk.agents.acp.token_counts import UsageCount
from frontdesk.agents.errors import AgentFailed, CreateFailed, ModelRefused
from frontdesk.agents.protocol import AgentListener

_log = logging.getLogger("frontdesk.agents.acp")

LATE_QUIET_S = 0.05
"""What comes late is waited for until an agent has been quiet for so long."""

LATE_GRACE_S = 1.0
"""How long what comes late is waited for at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcpOptions:
    """What an operator sets for an agent. Durations are in seconds.

    `start_timeout_s` bounds everything up to its first prompt; `cancel_patience_s` is how long the
    next turn waits for one that was aborted and has not ended. `auth_method` is the id of the
    method that it is to log in by, where one has to be named. `home` says whose `HOME` it has: its
    tenant's, under `homes` (without which it is the session's), the session's own, or the
    operator's, shared by all tenants. `usage` is what the tokens of its answers count; None goes
    by what is known of agents of its name. `settings` are its modes and other options, by id;
    `mcp_servers` are those that it is told of.
    """

    files: FileAccess = "none"
    auth_method: str | None = None
    start_timeout_s: float = 30.0
    cancel_patience_s: float = 30.0
    home: HomeKind = "tenant"
    homes: Path | None = None
    usage: UsageCount | None = None
    settings: Mapping[str, OptionValue] = field(default_factory=dict)
    mcp_servers: Sequence[McpServer] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerSession:
    """A session that an agent may give back: what is known of it.

    `wanted` are options as they were set last, which are set again.
    """

    id: str
    models: ModelChoice
    settings: AgentSettings
    wanted: Mapping[str, OptionValue] = field(default_factory=dict)

    @classmethod
    def left(cls, left: SessionLeft) -> FormerSession:
        """Return the session that an agent of an earlier life left."""
        opened, settings = ReopenedSession.model_validate(left.opened), AgentSettings()
        settings.on_opened(opened)
        return cls(
            id=left.session_id,
            models=ModelChoice.of(opened),
            settings=settings,
            wanted=left.options,
        )


class AgentSession:
    """Open the session of one agent, and keep what it says of it.

    `listener` hears of what the agent changes by itself.
    """

    settings: AgentSettings
    id: str

    def __init__(
        self, connection: AcpConnection, *, options: AcpOptions, cwd: str, label: str
    ) -> None:
        self._connection, self._options = connection, options
        self._cwd, self._label = cwd, label
        self._capabilities = AgentCapabilities()
        self._models = ModelChoice({})
        self.settings = AgentSettings()
        self._choosing: str | None = None
        self._setting = False
        self.agent_name: str | None = None
        self.id = ""
        self.opened: dict[str, Any] = {}
        """What the agent said of the session as it was opened."""
        self.listener: AgentListener | None = None

    async def initialize(self, client: ClientCapabilities) -> None:
        """Begin to talk: who is there, what each can do, and the login."""
        answer = await self._connection.request(
            AGENT_METHODS["initialize"],
            InitializeRequest(
                protocol_version=PROTOCOL_VERSION,
                client_capabilities=client,
                client_info=Implementation(name="frontdesk", version=__version__),
            ),
            InitializeResponse,
        )
        self._capabilities = answer.agent_capabilities or self._capabilities
        self.agent_name = answer.agent_info.name if answer.agent_info else None
        if answer.protocol_version != PROTOCOL_VERSION:
            raise CreateFailed(
                f"the agent speaks version {answer.protocol_version} of the Agent Client Protocol, "
                f"this server speaks {PROTOCOL_VERSION}"
            )
        if self._options.auth_method is not None:
            request = AuthenticateRequest(method_id=self._options.auth_method)
            await self._connection.request(AGENT_METHODS["authenticate"], request, Done)

    @property
    def as_former(self) -> FormerSession:
        """Return what the next agent of the session goes on with."""
        return FormerSession(id=self.id, models=self._models, settings=self.settings)

    async def open(self, former: FormerSession | None, *, path: str | None) -> bool:
        """Open a session: the former one, where the agent gives that back, else a new one.

        Returns whether it is the former one. `path` is where programs of MCP servers are looked up.
        """
        capabilities = self._capabilities.mcp_capabilities
        servers = servers_for_agent(self._options.mcp_servers, capabilities=capabilities, path=path)
        reopened = former is not None and await self._reopen(former, servers)
        if not reopened:
            request = NewSessionRequest(cwd=self._cwd, mcp_servers=servers)
            answer = await self._connection.request(
                AGENT_METHODS["session_new"], request, OpenedSession
            )
            self._take(answer.session_id, answer)
        if former is not None:
            await self._set_again(former.wanted)
        for name, wanted in self._options.settings.items():
            await self._set(name, wanted)
        return reopened

    def takes(self, media_type: str) -> bool:
        """Say whether the agent has announced that it takes attachments of a type."""
        return takes(self._capabilities.prompt_capabilities, media_type)

    async def select_model(self, model: str) -> None:
        """Have the agent answer with a model; `ModelRefused` where it does not."""
        choice = self._models
        if model == DEFAULT and not choice.offered:
            return
        value = choice.value_of(model)
        if value is None:
            raise ModelRefused(model, problem=f"the agent has {choice}")
        if value == choice.current:
            return
        self._choosing = value
        try:
            method, request = choice.request(self.id, value)
            answer = await self._connection.request(method, request, Done)
        except (RequestError, AgentFailed) as error:
            _log.warning(
                "session %s: the model %s is refused: %s", self._label, value, refusal(error)
            )
            raise ModelRefused(model, problem="the agent does not change to it") from error
        finally:
            self._choosing = None
        options = options_in(answer.config_options) or []
        now = choice.current_in(options)
        if now not in (None, value):
            raise ModelRefused(model, problem=f"the agent goes on with {now}")
        choice.current = value
        if options:
            self.settings.on_options(options)

    def on_update(self, update: Any) -> None:
        """Hear what the agent says of its session, where it does."""
        match update:
            case ConfigOptionUpdate():
                self._on_model(self._models.current_in(update.config_options))
                self._on_changes(self.settings.on_options(update.config_options))
            case CurrentModeUpdate():
                self._on_changes(self.settings.on_mode(update.current_mode_id))
            case {"sessionUpdate": "current_model_update"}:
                self._on_model(update.get("currentModelId") or update.get("modelId"))
            case _:
                pass

    async def until_quiet(self) -> None:
        """Wait for what still comes late, for a short grace."""
        transport = self._connection.transport
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LATE_GRACE_S):
                received = -1
                while received != transport.received and not transport.ended.is_set():
                    received = transport.received
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LATE_QUIET_S):
                            await transport.ended.wait()

    # -- within --------------------------------------------------------------------------------

    def _take(self, session_id: str, answer: ReopenedSession) -> None:
        self.id = session_id
        if answer.config_options is not None or answer.models is not None:
            self.opened = answer.model_dump(mode="json", by_alias=True, exclude_none=True)
        self._models = ModelChoice.of(answer)
        self.settings.on_opened(answer)

    async def _set_again(self, wanted: Mapping[str, OptionValue]) -> None:
        """Set options as they were, those that there still are."""
        for name, value in wanted.items():
            if name in self.settings.current and name not in self._options.settings:
                with contextlib.suppress(CreateFailed):  # the log has why
                    await self._set(name, value)

    async def _reopen(self, former: FormerSession, servers: list[AgentsServer]) -> bool:
        """Have the agent give a session back: without its history, else with it.

        That is heard by nobody, as the session has no id yet: it is with clients already.
        """
        capabilities = self._capabilities
        fields: dict[str, Any] = {"session_id": former.id, "cwd": self._cwd, "mcp_servers": servers}
        ways: list[tuple[str, Any]] = []
        if capabilities.session_capabilities and capabilities.session_capabilities.resume:
            ways.append(("session_resume", ResumeSessionRequest(**fields)))
        if capabilities.load_session:
            ways.append(("session_load", LoadSessionRequest(**fields)))
        transport = self._connection.transport
        for way, request in ways:
            transport.set_turn_running(True)
            try:
                method = AGENT_METHODS[way]
                answer = await self._connection.request(method, request, ReopenedSession)
                await self.until_quiet()
            except (RequestError, AgentFailed) as error:
                _log.warning(
                    "session %s: its agent does not give it back: %s", self._label, refusal(error)
                )
            else:
                self._take(former.id, answer)
                if answer.config_options is None and answer.models is None:
                    # It offers what it did, and does not say how that is set now.
                    self._models, self.settings = former.models, former.settings
                    self._models.current = None
                    self.settings.current.clear()
                return True
            finally:
                transport.set_turn_running(False)
        return False

    async def _set(self, name: str, wanted: OptionValue) -> None:
        """Set an option as the operator wants it; `CreateFailed` where the agent does not."""
        option_id, value = self.settings.value_of(name, wanted)
        if self.settings.current.get(option_id) == value:
            return
        method, request = self.settings.request(self.id, option_id, value)
        self._setting = True
        try:
            answer = await self._connection.request(method, request, Done)
        except (RequestError, AgentFailed) as error:
            _log.warning("session %s: option %s: %s", self._label, name, refusal(error))
            raise CreateFailed(f"the agent does not set its option {name!r}") from error
        finally:
            self._setting = False
        self.settings.current[option_id] = value
        options = options_in(answer.config_options)
        if options:
            self.settings.on_options(options)
        if (now := self.settings.current[option_id]) != value:
            raise CreateFailed(f"the agent's option {name!r} stays {now!r}")

    def _on_model(self, model: Any) -> None:
        """Handle that another model answers from now on, by the agent's own choice."""
        if not isinstance(model, str) or model in (self._models.current, self._choosing):
            return
        self._models.current = model
        if self.listener is not None:
            self.listener.on_model_changed(model)

    def _on_changes(self, changes: Mapping[str, OptionValue]) -> None:
        """Handle that options were set otherwise, by the agent's own choice."""
        if self.listener is not None and not self._setting and self._choosing is None:
            for name, value in changes.items():
                self.listener.on_option_changed(name, value)


def refusal(error: RequestError | AgentFailed) -> str:
    """Return what an agent answered when it refused, for operators."""
    if isinstance(error, AgentFailed):
        return str(error)
    more = f": {str(error.data)[:1000]}" if error.data else ""
    return f"the agent answered {error.code} ({str(error)[:1000]}){more}"
