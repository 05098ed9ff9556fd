"""Agents on the OpenAI Agents SDK: the blueprint kind `openai-agents`.

The operator's `agents.Agent` answers as it is: its tools, handoffs, guardrails and models are its
own. `run.py` walks the runs of one turn, `tools.py` puts the session's callback tools beside the
agent's own and traces both, `memory.py` is what a session remembers between turns.

The framework uploads traces to its vendor by default; here nothing leaves unless the operator says
so (`tracing = true`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from frontdesk.errors import InvalidType, MissingExtra

try:
    from agents import Agent, Model, MultiProvider
except ImportError as _missing:
    raise MissingExtra(
        "openai-agents", part="the blueprint kind openai-agents", missing="openai-agents"
    ) from _missing

from frontdesk.agents.blueprints import AuthorRules
from frontdesk.agents.errors import ModelRefused
from frontdesk.agents.openai_agents.memory import Memory
from frontdesk.agents.openai_agents.run import RunSettings, TurnRun
from frontdesk.agents.protocol import AgentFunction
from frontdesk.agents.records import SessionContext
from frontdesk.agents.targets import building, import_target
from frontdesk.agents.turn import Turn

KIND = "openai-agents"

OWN_MODEL = "default"
"""The name of a session's model by which its agents answer with models of their own."""

OPTIONS = frozenset({"system_prompt", "working_dir", "max_turns", "max_tokens", "user_data"})
"""The options of a session that it knows."""

_MAX_KNOWN = 256
"""Names of models that are remembered to be there: clients choose them."""

_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")


class OpenAIAgentsProgram:
    """Answer with an `agents.Agent`, or with what a function of the session returns.

    `target` and `context` are `module:name`. `context` names a function of the turn; what it
    returns is the context that the agent's tools, guardrails and instructions see; without it, that
    is the `Turn`. Raises what importing them raises, and `InvalidType` for what is no agent.
    """

    rules: AuthorRules = AuthorRules(options=OPTIONS)

    def __init__(self, target: str, *, context: str | None = None, tracing: bool = False) -> None:
        self._found: Agent[Any] | Callable[[SessionContext], Agent[Any]] = import_target(target)
        if not (isinstance(self._found, Agent) or callable(self._found)):
            raise _no_agent(target, self._found)
        self._target, self._tracing = target, tracing
        self._context = None if context is None else import_target(context)
        # After the target: its module may say which client and which API are the default.
        self._provider = MultiProvider()
        self._known: set[str] = set()

    def ready(self, context: SessionContext) -> bool:
        """Say whether `check` is quick; a provider that was never used may be imported for it."""
        return context.model in self._known

    def check(self, context: SessionContext) -> None:
        """Refuse a model that no provider has, or whose key is missing."""
        name: str | None = context.model
        if name == OWN_MODEL:
            if not isinstance(self._found, Agent) or isinstance(self._found.model, Model):
                self._known.add(OWN_MODEL)
                return
            name = self._found.model
        try:
            self._provider.get_model(name)
        except Exception as error:
            # A provider's own client complains in its own way about what it misses.
            raise ModelRefused(context.model, problem=_problem(str(error))) from error
        if len(self._known) < _MAX_KNOWN:
            self._known.add(context.model)

    def open(self, context: SessionContext) -> AgentFunction:
        """Return a session's own part: its agent, and a memory. Raises `CreateFailed`."""
        found = self._found
        if not isinstance(found, Agent):
            with building("agent", target=self._target):
                found = found(context)
        if not isinstance(found, Agent):
            raise _no_agent(self._target, found)
        settings = RunSettings(
            provider=self._provider,
            context=self._context,
            tracing=self._tracing,
            own_model=OWN_MODEL,
        )
        return OpenAIAgentsSession(found, settings).answer


class OpenAIAgentsSession:
    """What one session keeps between turns: what was said, and which agent has the word."""

    __slots__ = ("_agent", "_memory", "_settings")

    def __init__(self, agent: Agent[Any], settings: RunSettings) -> None:
        self._agent, self._settings = agent, settings
        self._memory = Memory()

    async def answer(self, turn: Turn) -> None:
        """Run one turn. After a handoff, the agent that took over answers the next one as well."""
        record = self._memory.begin(turn.text, turn.history)
        run = TurnRun(turn, self._settings, record)
        try:
            self._agent = await run.go(self._agent, self._memory.items)
        finally:
            self._memory.end(record)


def _no_agent(target: str, found: object) -> InvalidType:
    return InvalidType(
        target,
        expected="an agents.Agent, or a function of the session that returns one",
        got=type(found).__name__,
    )


def _problem(text: str) -> str:
    variables = list(dict.fromkeys(_VARIABLE.findall(text)))
    if variables:
        return f"the server needs the environment variable {' or '.join(variables[:3])}"
    return "no provider knows it"
