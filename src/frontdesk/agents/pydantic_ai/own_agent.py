"""A Pydantic AI agent that a team has, served by name: `target` of a table of kind `pydantic-ai`.

Nothing of the agent is changed. It keeps its model, instructions, tools, output type, retries and
history processors; what a turn needs of it is added to each run.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from inspect import signature
from typing import Any

from pydantic_ai.agent import AbstractAgent
from pydantic_ai.capabilities import ReinjectSystemPrompt
from pydantic_ai.models import Model
from pydantic_ai.toolsets import FunctionToolset
from pydantic_ai.usage import UsageLimits

from frontdesk.agents.blueprints import AuthorRules
from frontdesk.agents.errors import CreateFailed, ModelRefused
from frontdesk.agents.protocol import AgentFunction
from frontdesk.agents.pydantic_ai import deps_of_turn
from frontdesk.agents.pydantic_ai.memory import SessionMemory
from frontdesk.agents.pydantic_ai.models import Models, ProviderOptions
from frontdesk.agents.pydantic_ai.prompts import ATTACHMENTS
from frontdesk.agents.pydantic_ai.session import PydanticAISession, SessionAgent
from frontdesk.agents.pydantic_ai.stored_messages import KIND
from frontdesk.agents.pydantic_ai.tools import TurnDeps
from frontdesk.agents.records import MemoryOutcome, Restored, SessionContext
from frontdesk.agents.targets import import_target
from frontdesk.agents.turn import Turn
from frontdesk.errors import InvalidArgument, InvalidType

OWN_MODEL = "default"
"""The name by which clients ask for the model that the agent was made with."""

OPTIONS = frozenset(
    {"working_dir", "tools", "max_turns", "max_tokens", "provider_opts", "user_data"}
)
"""The options of a session that it knows, beside `system_prompt`, which its table opens."""

DepsFactory = Callable[[Turn], Any]
"""Makes an agent's deps for a turn: a function, a coroutine function, or an async generator
function, which yields them once and cleans up behind the turn."""

_log = logging.getLogger("frontdesk.agents")


class OwnAgentProgram:
    """Answer with the agent that `target` names, or that the function it names returns.

    Such a function is called when a session is opened, with its `SessionContext` if it takes one.
    `deps` names a `DepsFactory`; without one an agent of `deps_type=TurnDeps` gets those.
    `system_prompt`: clients may add instructions to the agent's own.
    """

    suspends = KIND

    def __init__(
        self, *, target: str, deps: str | None = None, system_prompt: bool = False
    ) -> None:
        self._target, self._found = target, agent_named(target)
        found: Any = self._found
        if deps is None and isinstance(found, AbstractAgent):
            require_no_deps(found, target=target)
        self._deps = None if deps is None else deps_factory(deps)
        self._models = Models()
        self.rules: AuthorRules = AuthorRules(
            models=(OWN_MODEL,),
            attachments=ATTACHMENTS,
            tools=tool_names(found) if isinstance(found, AbstractAgent) else frozenset(),
            options=OPTIONS | {"system_prompt"} if system_prompt else OPTIONS,
        )

    def check(self, context: SessionContext) -> None:
        """Refuse an unknown model, one whose key is missing, and options that are wrong."""
        options = ProviderOptions.of(context)
        if options.base_url is not None or options.api_key is not None:
            raise CreateFailed("providerOpts: this agent takes no baseUrl and no apiKey")
        if context.model != OWN_MODEL:
            self._models.find(context.model, options, tenant_id=context.tenant_id)
        elif isinstance(self._found, AbstractAgent):
            own_model_of(self._found)

    def ready(self, context: SessionContext) -> bool:
        """Say whether `check` is quick; it is not for a provider that was never used before."""
        options = ProviderOptions.of(context)
        return context.model == OWN_MODEL or self._models.ready(context.model, options)

    def open(self, context: SessionContext) -> AgentFunction:
        """Return a session's own part: a memory, and the agent, which may be its own too."""
        return PydanticAISession(self._agent_of(context)).answer

    def reopen(
        self, context: SessionContext, restored: Restored
    ) -> tuple[AgentFunction, MemoryOutcome]:
        """Return it for a session that is not new, with the memory that its last agent left."""
        memory, outcome = SessionMemory.restored(restored)
        return PydanticAISession(self._agent_of(context), memory).answer, outcome

    def _agent_of(self, context: SessionContext) -> SessionAgent:
        agent = self._found if isinstance(self._found, AbstractAgent) else self._made_for(context)
        options = ProviderOptions.of(context)

        def find_model(name: str) -> Model | None:
            return None if name == OWN_MODEL else self._models.find(name, options)

        limits = UsageLimits(request_limit=context.max_turns) if context.max_turns else None
        return SessionAgent(
            agent=agent,
            deps=self._deps or (deps_of_turn if agent.deps_type is TurnDeps else _no_deps),
            find_model=find_model,
            own_model=agent.root_capability.get_model(),
            instructions=context.system_prompt,
            settings=options.settings(context.max_tokens),
            limits=limits,
            chosen=frozenset(context.tools),
            # A history that was rebuilt for a new agent has no system prompt in it.
            capabilities=[ReinjectSystemPrompt(id=None)],
        )

    def _made_for(self, context: SessionContext) -> AbstractAgent[Any, Any]:
        try:
            agent = self._found(context) if signature(self._found).parameters else self._found()
        except CreateFailed:
            raise
        except Exception as error:
            _log.exception("%s made no agent", self._target)
            raise CreateFailed(f"the agent could not be made ({type(error).__name__})") from error
        if not isinstance(agent, AbstractAgent):
            _log.error(
                "%s returned %s, not a pydantic_ai.Agent", self._target, type(agent).__name__
            )
            raise CreateFailed("the agent could not be made (no agent was returned)")
        if context.model == OWN_MODEL:
            own_model_of(agent)
        return agent


def agent_named(target: str) -> Any:
    """Return the agent that is named, or the function that makes one; `InvalidType`."""
    found = import_target(target)
    if isinstance(found, AbstractAgent):
        return found
    if not callable(found) or inspect.iscoroutinefunction(found):
        expected = "a pydantic_ai.Agent, or a plain function that returns one"
        raise InvalidType(target, expected=expected, got=type(found).__name__)
    return found


def require_no_deps(agent: AbstractAgent[Any, Any], *, target: str) -> None:
    """Refuse an agent whose tools would find None where they look for deps of their own."""
    kind: Any = agent.deps_type
    if kind not in (type(None), object, Any, TurnDeps):
        name = getattr(kind, "__name__", kind)
        expected = f'"module:name" of a function of the turn that returns {name}, as {target} wants'
        raise InvalidArgument("deps", expected=expected, got="none")


def own_model_of(agent: AbstractAgent[Any, Any]) -> None:
    """Raise `ModelRefused` where an agent has no model of its own."""
    if agent.model is None and agent.root_capability.get_model() is None:
        raise ModelRefused(OWN_MODEL, problem="this agent has no model of its own: name one")


def tool_names(agent: AbstractAgent[Any, Any]) -> frozenset[str]:
    """Return the tools of an agent that are known before it runs, which clients may narrow."""
    sets = [each for each in agent.toolsets if isinstance(each, FunctionToolset)]
    return frozenset(name for each in sets for name in each.tools)


def deps_factory(target: str) -> Callable[[Turn], AbstractAsyncContextManager[Any]]:
    """Return what gives an agent's deps for the length of a turn, by the name of a function."""
    found = import_target(target)
    if not callable(found):
        raise InvalidType(target, expected="a function of the turn", got=type(found).__name__)

    @asynccontextmanager
    async def made(turn: Turn) -> AsyncGenerator[Any]:
        deps = found(turn)
        if inspect.isasyncgen(deps):
            async with asynccontextmanager(lambda: deps)() as yielded:
                yield yielded
        else:
            yield await deps if inspect.isawaitable(deps) else deps

    return made


@asynccontextmanager
async def _no_deps(turn: Turn) -> AsyncGenerator[None]:  # noqa: ARG001 - it is no use here
    yield None
