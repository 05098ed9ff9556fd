"""Blueprints: the named recipes from which an operator lets clients choose.

A client names a blueprint; it can never make the gateway import something. `@blueprint` makes one
from a Python function, configuration makes them from the operator's file, `Blueprints` holds those
that are open.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from frontdesk.agents.protocol import AgentFactory, AgentFunction
from frontdesk.agents.records import AgentOption
from frontdesk.agents.restart import RestartLimit, RestartPolicy
from frontdesk.agents.task import FunctionProgram, TaskAgentFactory
from frontdesk.errors import InvalidType


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """A named recipe that builds an agent, and the rules for the sessions that run it.

    A client can never make the gateway import anything: it chooses by name from what the operator
    has opened.

    Attributes:
        name (str): What clients choose it by.
        kind (str): Where it comes from: the `kind` of its table (`python`, `acp`, ...).
        factory (AgentFactory): What makes its agents.
        isolation (Literal["task", "process"]): Where they run: in the gateway, or each in a
            process.
        models (tuple[str, ...]): Shell-style patterns of the model names that clients may ask for.
        tools (frozenset[str]): Names that clients may choose in `tools`.
        plugins (frozenset[str]): Names that clients may choose in `plugins`.
        attachments (tuple[str, ...]): Patterns of the media types that may come with a prompt
            (`image/*`). None may by default.
        options (frozenset[str] | None): The options of a session that it knows (`system_prompt`,
            `max_turns`, ...); others are refused. None knows all.
        errors_end (Literal["turn", "session"]): What an exception of the agent ends: the turn (then
            no restart policy sees it), or the session.
        restart (RestartPolicy): `never`, `on_crash` or `always`.
        restart_limit (RestartLimit): After how many restarts the session ends with its last reason.
        turn_timeout_s (float | None): The deadline of a turn; None is the session service's own.
        idle_timeout_s (float | None): How long without turn, open approval, question or stream;
            then it ends as `expired`. None never runs out.
        unused_timeout_s (float | None): The same, before the first prompt.
        max_age_s (float | None): The longest life of a session.
        max_sessions_per_tenant (int | None): How many sessions of it a tenant may have at once.
        durable (bool): Whether its conversations are stored, where conversations are.
        resume (Literal["auto", "manual"]): Whether a dormant one gets an agent with its next
            prompt, or only where that is asked for.
        retention_days (float | None): How long one is stored after it was last used; None is as
            the operator has it for all.
        complete (Callable[[], Awaitable[Blueprint]] | None): Returns the blueprint with the rules
            that its author wrote, where these are known to its process alone. None: it is complete.
        agent_options (Callable[[], tuple[AgentOption, ...] | None] | None): Returns the options
            that its agents have beside their models (modes for instance), as they were set when
            the last one was started; None before the first. None: its agents have none.
    """

    name: str
    kind: str
    factory: AgentFactory
    isolation: Literal["task", "process"] = "task"
    models: tuple[str, ...] = ("*",)
    tools: frozenset[str] = frozenset()
    plugins: frozenset[str] = frozenset()
    attachments: tuple[str, ...] = ()
    options: frozenset[str] | None = None
    errors_end: Literal["turn", "session"] = "turn"
    restart: RestartPolicy = "never"
    restart_limit: RestartLimit = field(default_factory=RestartLimit)
    turn_timeout_s: float | None = None
    idle_timeout_s: float | None = 3600.0
    unused_timeout_s: float | None = 600.0
    max_age_s: float | None = None
    max_sessions_per_tenant: int | None = None
    durable: bool = True
    resume: Literal["auto", "manual"] = "auto"
    retention_days: float | None = None
    complete: Callable[[], Awaitable[Blueprint]] | None = None
    agent_options: Callable[[], tuple[AgentOption, ...] | None] | None = None

    def allows(self, model: str) -> bool:
        """Say whether clients may ask for this model."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)


class Blueprints(Mapping[str, Blueprint]):
    """The blueprints that are open, by name.

    `default` is what a client gets that names none: the first, unless given.
    """

    def __init__(self, blueprints: Iterable[Blueprint], *, default: str | None = None) -> None:
        self._by_name = {each.name: each for each in blueprints}
        self.default: str | None = (
            default if default is not None else next(iter(self._by_name), None)
        )

    def __getitem__(self, name: str) -> Blueprint:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    async def completed(self, name: str | None) -> Blueprints:
        """Return the one of this name with all its rules, or these, where it has them.

        Raises `CreateFailed` where its process cannot be asked.
        """
        chosen = self.get(self.default or "" if name is None else name)
        if chosen is None or chosen.complete is None:
            return self
        return Blueprints([await chosen.complete()], default=chosen.name)


class AuthorRules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the author of a blueprint wrote about its sessions: the same fields, to be carried."""

    models: tuple[str, ...] = ("*",)
    tools: frozenset[str] = frozenset()
    plugins: frozenset[str] = frozenset()
    attachments: tuple[str, ...] = ()
    options: frozenset[str] | None = None
    errors_end: Literal["turn", "session"] = "turn"
    restart: RestartPolicy = "never"
    restart_limit: RestartLimit = RestartLimit()
    turn_timeout_s: float | None = None
    idle_timeout_s: float | None = 3600.0
    unused_timeout_s: float | None = 600.0
    max_age_s: float | None = None
    max_sessions_per_tenant: int | None = None
    durable: bool = True
    resume: Literal["auto", "manual"] = "auto"
    retention_days: float | None = None

    @classmethod
    def of(cls, found: object) -> AuthorRules:
        """Return the rules of a blueprint, or those that a program has as `rules`, if it has."""
        if isinstance(found, Blueprint):
            return cls(**{name: getattr(found, name) for name in cls.__struct_fields__})
        rules = getattr(found, "rules", None)
        return rules if isinstance(rules, cls) else cls()


def blueprint(name: str, **rules: Any) -> Callable[[AgentFunction], Blueprint]:
    """Make a `Blueprint` from an async generator function (or coroutine function) of a turn.

    `rules` are fields of `Blueprint`. The function stays reachable as `factory.program.function`.

    Examples:
        >>> @blueprint("parrot", models=("any",))
        ... async def parrot(turn):
        ...     yield turn.text
        >>> parrot.name, parrot.allows("any"), parrot.allows("other")
        ('parrot', True, False)
    """

    def make(function: AgentFunction) -> Blueprint:
        if not (inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function)):
            raise InvalidType(
                "a blueprint",
                expected="an async generator function or a coroutine function",
                got=type(function).__name__,
            )
        factory = TaskAgentFactory(FunctionProgram(function))
        return Blueprint(name=name, kind="python", factory=factory, **rules)

    return make
