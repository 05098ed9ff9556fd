"""What `frontdesk agents check` does: try each blueprint, and print in plain words what is wrong.

Clients see little of what fails in an agent; here an operator sees all: causes, the names of
variables, what a program wrote last.
"""

from __future__ import annotations

import logging
import os
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.errors import CreateFailed, ModelRefused
from frontdesk.cli.options import beside, loaded
from frontdesk.errors import FrontdeskError
from frontdesk.gateway.blueprint_config import blueprints_of, tables_of
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.settings import Config
from frontdesk.keeper.client import Keeper
from frontdesk.keeper.modules_behind import find_behind
from frontdesk.sessions.dry_run import allow, dry_run

Echo = Callable[[str], object]

ANY = "default"
"""The model to name where any name will do."""

NO_NETWORK = "test"
"""The model that answers without key and network, where models are providers'."""

PROVIDERS = ("pydantic-ai", "process")
"""The kinds whose models are providers'."""

_WILD = re.compile(r"[*?\[]")
_PROVIDER = re.compile(r"^([a-z][a-z0-9_-]*):\*$")
_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
_LAST_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be tried; `name` and `model` of None are all, and what the blueprint suggests."""

    name: str | None
    model: str | None
    prompt: str
    timeout_s: float


async def check_all(file: Path | None, wanted: Wanted, *, echo: Echo) -> bool:
    """Try the blueprints of a configuration; print how each did, and return whether all is well."""
    find_behind([beside(file)])
    try:
        config = loaded(file)
    except FrontdeskError as error:
        echo(str(error))
        return False
    tables = tables_of(config)
    if wanted.name is not None and wanted.name not in tables:
        echo(f"there is no blueprint {wanted.name!r}; there are: {', '.join(tables)}")
        return False
    names = tables if wanted.name is None else [wanted.name]
    async with Keeper() as keeper:
        return all([await _Check(config, name, keeper, echo).well(wanted) for name in names])


class _Check:
    """The check of one blueprint."""

    def __init__(self, config: Config, name: str, keeper: Keeper, echo: Echo) -> None:
        tables = {name: tables_of(config)[name]}
        self._config = config.model_copy(update={"blueprints": tables, "default_blueprint": None})
        self._name, self._kind, self._keeper = name, tables[name].kind, keeper
        self._echo = echo

    async def well(self, wanted: Wanted) -> bool:
        try:
            blueprints = blueprints_of(self._config, self._keeper)
            blueprint = (await blueprints.completed(self._name))[self._name]
        except ConfigurationWrong as error:
            return self._wrong(
                *(m.removeprefix(f"blueprints.{self._name}: ") for m in error.mistakes)
            )
        except FrontdeskError as error:
            return self._wrong(*sentences(error))
        if wanted.model is not None:
            return await self._run(blueprint, wanted.model, wanted)
        # Every model that is listed is checked, and a turn is run with the first that is one.
        refused = set()
        if self._kind in PROVIDERS:
            refused = {
                each for each in blueprint.models if not await self._allowed(blueprint, each)
            }
        model = model_for(blueprint)
        if model is None or model in refused:
            if not refused:
                self._print("nothing wrong was found; name a model with --model to run a turn")
            return not refused
        return await self._run(blueprint, model, wanted) and not refused

    async def _allowed(self, blueprint: Blueprint, pattern: str) -> bool:
        provider = _PROVIDER.match(pattern)
        if _WILD.search(pattern) and not provider:
            return True
        model = f"{provider[1]}:check" if provider else pattern
        try:
            await allow(blueprint, model=model)
        except CreateFailed as error:
            problem = error.problem.removeprefix(f"model {model!r}: ")
            return self._wrong(f"models {pattern!r}: {problem}")
        return True

    async def _run(self, blueprint: Blueprint, model: str, wanted: Wanted) -> bool:
        async with _overheard() as lines:
            try:
                tried = await dry_run(
                    blueprint, model=model, prompt=wanted.prompt, turn_timeout_s=wanted.timeout_s
                )
            except TimeoutError:
                return self._wrong(f"no answer within {wanted.timeout_s:g} s", *_quoted(lines))
            except Exception as error:  # noqa: BLE001 - whatever it is, the operator sees it
                reasons = [*sentences(error), *hints(error, blueprint)]
                return self._wrong(*reasons, *_quoted(lines))
        if tried.errors:
            return self._wrong(*(f"the turn had an error: {each}" for each in tried.errors))
        answer = " ".join(tried.text.split())
        excerpt = answer if len(answer) <= 70 else f"{answer[:70]}..."
        self._print(f"ok, {model} answered in {tried.took_s:.1f} s: {excerpt!r}")
        return True

    def _wrong(self, *sentences: str) -> bool:
        self._print("\n  ".join(sentences))
        return False

    def _print(self, text: str) -> None:
        self._echo(f"{self._name} ({self._kind}): {text}")


def of_providers(blueprint: Blueprint) -> bool:
    """Say whether its models are providers'; an agent of the operator's has one of its own."""
    # The Pydantic AI agent that comes built in is a task, or of kind `process`.
    own = blueprint.kind == "pydantic-ai" and (
        blueprint.isolation == "process" or ANY in blueprint.models
    )
    return blueprint.kind in PROVIDERS and not own


def model_for(blueprint: Blueprint) -> str | None:
    """Return a model to run a turn with: the first that the operator named, else one that is free.

    None where only patterns of providers' models are named.
    """
    named = [model for model in blueprint.models if not _WILD.search(model)]
    free = NO_NETWORK if of_providers(blueprint) else ANY
    if named or not blueprint.allows(free):
        return named[0] if named else None
    return free


def sentences(error: BaseException) -> list[str]:
    """Return what went wrong, and then what that came of."""
    if isinstance(error, ModelRefused):
        return [str(error)]  # it names what is missing; its cause says how to write programs
    texts: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(texts) < 5:
        text = str(cause) or "no more is known"
        texts.append(
            text if isinstance(cause, FrontdeskError) else f"{type(cause).__name__}: {text}"
        )
        cause = cause.__cause__
    return texts


def hints(error: BaseException, blueprint: Blueprint) -> list[str]:
    """Return what helps beyond the error: a variable that is set here, and does not get there."""
    if blueprint.isolation != "process":
        return []
    here = [name for name in dict.fromkeys(_VARIABLE.findall(str(error))) if name in os.environ]
    return [
        f"{name} is set here, but `environment` of the blueprint does not name it" for name in here
    ]


@asynccontextmanager
async def _overheard() -> AsyncIterator[deque[str]]:
    """Keep what agents' processes say on standard error, and let nothing else be logged."""
    root = logging.getLogger()
    handler = _Overheard()
    former = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    try:
        yield handler.lines
    finally:
        root.handlers[:], _ = former
        root.setLevel(former[1])


class _Overheard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=_LAST_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "frontdesk.agents.stderr":
            self.lines.append(record.getMessage().partition(": ")[2])


def _quoted(lines: deque[str]) -> list[str]:
    return ["it said on standard error:", *(f"  {line}" for line in lines)] if lines else []
