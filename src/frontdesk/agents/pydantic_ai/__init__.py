"""Agents on Pydantic AI: the blueprint kind `pydantic-ai`, and the default blueprint `assistant`.

One Pydantic AI agent serves all sessions of a blueprint; a session of its own has a memory and
nothing else. It works the same in the gateway and in a process, as it knows only its `Turn`.

Here is the agent that comes built in; `own_agent.py` serves one that a team has. Both are run by
`session.py`: `turn_capability.py` is a turn's part of a run, `run.py` walks one, `tools.py` has the
tools' events, approvals and the client's tools, `models.py` finds which model answers, `prompts.py`
has what comes with a prompt, `memory.py` is what a session remembers between turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from frontdesk.agents.errors import CreateFailed
from frontdesk.errors import MissingExtra

try:
    from pydantic_ai import Agent, Tool
    from pydantic_ai.models import Model
    from pydantic_ai.toolsets import AbstractToolset, FunctionToolset
    from pydantic_ai.usage import UsageLimits

    from frontdesk.agents.pydantic_ai.memory import SessionMemory
    from frontdesk.agents.pydantic_ai.models import (
        HTTPClient,
        Models,
        ProviderOptions,
        SessionModels,
    )
    from frontdesk.agents.pydantic_ai.prompts import ATTACHMENTS
    from frontdesk.agents.pydantic_ai.session import PydanticAISession, SessionAgent
    from frontdesk.agents.pydantic_ai.stored_messages import KIND
    from frontdesk.agents.pydantic_ai.tools import TurnDeps, ask_user
except ImportError as _missing:
    raise MissingExtra(
        "pydantic-ai", part="the blueprint kind pydantic-ai", missing="pydantic-ai-slim"
    ) from _missing

from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.protocol import AgentFunction
from frontdesk.agents.records import MemoryOutcome, Restored, SessionContext
from frontdesk.agents.task import TaskAgentFactory
from frontdesk.agents.turn import Turn

OPTIONS = frozenset(
    {
        "system_prompt",
        "working_dir",
        "tools",
        "plugins",
        "max_turns",
        "max_tokens",
        "provider_opts",
        "user_data",
        "prompt_mode",
    }
)
"""The options of a session that it knows; it has no use for skills directories."""

PROMPT_MODES = ("full", "minimal", "none")
"""`full`: the operator's instructions and the client's `systemPrompt`; `minimal`: the client's
alone; `none`: neither."""

DEFAULT_MAX_TURNS = 50
"""Model calls in a turn, where the client says nothing."""


class PydanticAIProgram:
    """Answer with a Pydantic AI agent: any provider it knows, by its usual environment variable.

    `instructions` are the operator's own part of the system prompt. `tools` are the operator's
    (functions, or `Tool`s, which may require approval; their `RunContext.deps.turn` is the turn): a
    client that names some has only those, and may name `ask_user` as well. `plugins` are toolsets
    that clients may choose. `named` are models of the operator's own. `base_urls` are patterns of
    the addresses that clients may name in `providerOpts.baseUrl`, none by default, and
    `http_client` makes the HTTP client that calls those for a tenant.
    """

    suspends = KIND

    def __init__(
        self,
        *,
        instructions: str | None = None,
        tools: Sequence[Tool[TurnDeps] | Callable[..., Any]] = (),
        plugins: Mapping[str, AbstractToolset[TurnDeps]] | None = None,
        named: Mapping[str, Model] | None = None,
        base_urls: tuple[str, ...] = (),
        http_client: Callable[[str], HTTPClient] | None = None,
    ) -> None:
        made = [each if isinstance(each, Tool) else Tool(each) for each in (*tools, ask_user)]
        self._tools = {each.name: each for each in made}
        self._plugins = dict(plugins or {})
        self._instructions = instructions
        self.models: Models = Models(named=named, base_urls=base_urls, http_client=http_client)
        self.agent: Agent[TurnDeps, str] = Agent(deps_type=TurnDeps)

    @property
    def tool_names(self) -> frozenset[str]:
        """Return the tools that clients may choose."""
        return frozenset(self._tools)

    @property
    def plugin_names(self) -> frozenset[str]:
        """Return the plugins that clients may choose."""
        return frozenset(self._plugins)

    def check(self, context: SessionContext) -> None:
        """Refuse an unknown model, one whose key is missing, and options that are wrong."""
        if context.prompt_mode not in (None, *PROMPT_MODES):
            raise CreateFailed(f"promptMode must be one of {', '.join(PROMPT_MODES)}")
        self.models.find(context.model, ProviderOptions.of(context), tenant_id=context.tenant_id)

    def ready(self, context: SessionContext) -> bool:
        """Say whether `check` is quick; it is not for a provider that was never used before."""
        return self.models.ready(context.model, ProviderOptions.of(context))

    def open(self, context: SessionContext) -> AgentFunction:
        """Return a session's own part: a memory, and how it calls models."""
        return PydanticAISession(self._agent_of(context)).answer

    def reopen(
        self, context: SessionContext, restored: Restored
    ) -> tuple[AgentFunction, MemoryOutcome]:
        """Return it for a session that is not new, with the memory that its last agent left."""
        memory, outcome = SessionMemory.restored(restored)
        return PydanticAISession(self._agent_of(context), memory).answer, outcome

    def _agent_of(self, context: SessionContext) -> SessionAgent:
        options = ProviderOptions.of(context)
        return SessionAgent(
            agent=self.agent,
            deps=deps_of_turn,
            find_model=SessionModels(self.models, options, tenant_id=context.tenant_id).find,
            instructions=self.instructions(context),
            settings=options.settings(context.max_tokens),
            limits=UsageLimits(request_limit=context.max_turns or DEFAULT_MAX_TURNS),
            toolsets=self.toolsets(context),
        )

    def instructions(self, context: SessionContext) -> str | None:
        """Return the system prompt of a session."""
        mode = context.prompt_mode or "full"
        parts = {
            "full": (self._instructions, context.system_prompt),
            "minimal": (context.system_prompt,),
            "none": (),
        }[mode]
        return "\n\n".join(part for part in parts if part) or None

    def toolsets(self, context: SessionContext) -> list[AbstractToolset[TurnDeps]]:
        """Return the operator's tools, or those that a session chose, and the plugins it chose."""
        names = context.tools or [name for name in self._tools if name != ask_user.__name__]
        chosen = [self._tools[name] for name in names]
        own = [FunctionToolset(chosen)] if chosen else []
        return [*own, *(self._plugins[name] for name in context.plugins)]


def deps_of_turn(turn: Turn) -> nullcontext[TurnDeps]:
    """Return the deps of a tool that knows of turns."""
    return nullcontext(TurnDeps(turn))


def pydantic_ai_blueprint(
    name: str = "assistant", *, program: PydanticAIProgram | None = None, **rules: Any
) -> Blueprint:
    """Make a blueprint of kind `pydantic-ai`; `rules` are fields of `Blueprint`.

    >>> pydantic_ai_blueprint(models=("test",)).name
    'assistant'
    """
    program = program or PydanticAIProgram()
    return Blueprint(
        name=name,
        kind=KIND,
        factory=TaskAgentFactory(program),
        **{
            "tools": program.tool_names,
            "plugins": program.plugin_names,
            "attachments": ATTACHMENTS,
            "options": OPTIONS,
            **rules,
        },
    )
