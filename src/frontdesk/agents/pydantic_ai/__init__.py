"""Agents on Pydantic AI: the blueprint kind `pydantic-ai`, and the default blueprint `assistant`.

One Pydantic AI agent serves all sessions of a blueprint; a session of its own has a memory and
nothing else. It works the same in the gateway and in a process, as it knows only its `Turn`.

`models.py` finds which model answers, `run.py` walks one run, `tools.py` has the operator's tools
and the client's, `memory.py` is what a session remembers between turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from frontdesk.agents.errors import CreateFailed
from frontdesk.errors import MissingExtra

try:
    from pydantic_ai import Agent, Tool
    from pydantic_ai.capabilities import HandleDeferredToolCalls, SelectModel
    from pydantic_ai.models import Model
    from pydantic_ai.toolsets import AbstractToolset, FunctionToolset
    from pydantic_ai.usage import UsageLimits

    from frontdesk.agents.pydantic_ai.memory import Memory
    from frontdesk.agents.pydantic_ai.models import HTTPClient, Models, ProviderOptions
    from frontdesk.agents.pydantic_ai.run import RunTranslator
    from frontdesk.agents.pydantic_ai.tools import (
        CallbackToolset,
        TracedToolset,
        TurnDeps,
        ask_user,
        resolve_deferred,
    )
except ImportError as _missing:
    raise MissingExtra(
        "pydantic-ai", part="the blueprint kind pydantic-ai", missing="pydantic-ai-slim"
    ) from _missing

from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.protocol import AgentFunction
from frontdesk.agents.records import SessionContext
from frontdesk.agents.task import TaskAgentFactory
from frontdesk.agents.turn import Turn
from frontdesk.background import OwnThreads

KIND = "pydantic-ai"

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

THREADS_PER_SESSION = 8
"""Tools of one session's that are plain functions and run at a time; further calls wait."""


class PydanticAIProgram:
    """Answer with a Pydantic AI agent: any provider it knows, by its usual environment variable.

    `instructions` are the operator's own part of the system prompt. `tools` are the operator's
    tools that clients may choose by name (functions, or `Tool`s, which may require approval; their
    `RunContext.deps.turn` is the turn); `ask_user` is always among them. `plugins` are toolsets
    that clients may choose. `named` are models of the operator's own. `base_urls` are patterns of
    the addresses that clients may name in `providerOpts.baseUrl`, none by default, and
    `http_client` makes the HTTP client that calls those for a tenant.
    """

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
        self.models = Models(named=named, base_urls=base_urls, http_client=http_client)
        self.agent: Agent[TurnDeps, str] = Agent(
            deps_type=TurnDeps,
            capabilities=[SelectModel(_selected), HandleDeferredToolCalls(resolve_deferred)],
        )

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
        return PydanticAISession(self, context).answer

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
        """Return the tools of a session: those that it chose, and the client's callbacks."""
        chosen = [self._tools[name] for name in context.tools]
        plugins = [TracedToolset(self._plugins[name]) for name in context.plugins]
        own = [TracedToolset(FunctionToolset(chosen))] if chosen else []
        return [*own, *plugins, CallbackToolset()]


class PydanticAISession:
    """What one session keeps between turns."""

    __slots__ = ("_context", "_memory", "_models", "_options", "_program", "_threads")

    def __init__(self, program: PydanticAIProgram, context: SessionContext) -> None:
        self._program, self._context = program, context
        self._memory = Memory()
        # The library's are forty for the whole loop: slow tools of one session would be all of it.
        self._threads = OwnThreads(THREADS_PER_SESSION, name="tools")
        self._options = ProviderOptions.of(context)
        self._models: dict[str, Model] = {}

    async def answer(self, turn: Turn) -> None:
        """Run one turn. What cuts it short leaves what it has said and done to be remembered."""
        context, remembered = self._context, self._memory.begin(turn.text, turn.history)
        try:
            with Agent.using_thread_executor(self._threads):
                async with self._program.agent.iter(
                    turn.text,
                    message_history=self._memory.messages,
                    deps=TurnDeps(turn, self._model),
                    instructions=self._program.instructions(context),
                    model_settings=self._options.settings(context.max_tokens),
                    usage_limits=UsageLimits(request_limit=context.max_turns or DEFAULT_MAX_TURNS),
                    toolsets=self._program.toolsets(context),
                ) as run:
                    remembered.run = RunTranslator(run, turn)
                    await remembered.run.go()
                    remembered.finished = True
        finally:
            self._memory.end(remembered)

    def _model(self, name: str) -> Model:
        """Return the model to call; a client's own server keeps one client for the session."""
        if self._options.base_url is None:
            return self._program.models.find(name, self._options)
        if name not in self._models:
            tenant_id = self._context.tenant_id
            found = self._program.models.find(name, self._options, tenant_id=tenant_id)
            self._models = {name: found}
        return self._models[name]


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
            "options": OPTIONS,
            **rules,
        },
    )


def _selected(ctx: Any) -> Model:
    deps: TurnDeps = ctx.deps
    return deps.find_model(deps.turn.model)
