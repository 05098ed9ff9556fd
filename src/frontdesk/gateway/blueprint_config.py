"""Which blueprints are open: the operator's `[blueprints]` tables, or the ones that come built in.

Between the configuration and the agents' layer. The operator names what is imported; clients
choose by name from what is here. What cannot be imported is found now, not at the first session.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from frontdesk.agents.blueprints import Blueprint, Blueprints, blueprint
from frontdesk.agents.builtin import (
    PROVIDER_VARIABLES,
    process_blueprint,
    python_process_blueprint,
)
from frontdesk.agents.process.factory import ProcessOptions
from frontdesk.agents.pydantic_ai import PydanticAIProgram, pydantic_ai_blueprint
from frontdesk.agents.targets import import_target
from frontdesk.errors import FrontdeskError
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.settings import (
    AcpSettings,
    BlueprintSettings,
    Config,
    ProcessSettings,
    PydanticAISettings,
    PythonSettings,
)
from frontdesk.gateway.ssrf import AddressGuard, guarded_client
from frontdesk.gateway.state_dir import StateDir
from frontdesk.keeper.client import Keeper
from frontdesk.keeper.messages import ProcessLimits
from frontdesk.keeper.platform_needs import lacking

BUILT_IN: dict[str, BlueprintSettings] = {
    "assistant": PydanticAISettings(kind="pydantic-ai"),
    "process": ProcessSettings(kind="process"),
}
RULES = (
    "models",
    "restart",
    "turn_timeout_s",
    "idle_timeout_s",
    "unused_timeout_s",
    "max_age_s",
    "max_sessions_per_tenant",
)


def blueprints_of(config: Config, keeper: Keeper) -> Blueprints:
    """Return the blueprints of a configuration; `ConfigurationWrong` with every mistake.

    The first table is the default, unless `default_blueprint` names another.
    """
    made: list[Blueprint] = []
    homes = StateDir(config.server.state_dir).homes
    guard = AddressGuard(config.callbacks.allow_networks)
    mistakes: list[str] = []
    for name, settings in tables_of(config).items():
        try:
            made.append(blueprint_of(name, settings, keeper, guard, homes=homes))
        except (FrontdeskError, _CannotImport) as error:
            mistakes.append(f"blueprints.{name}: {error}")
    if mistakes:
        raise ConfigurationWrong("the configuration", mistakes=tuple(mistakes))
    return Blueprints(made, default=config.default_blueprint)


def tables_of(config: Config) -> dict[str, BlueprintSettings]:
    """Return the tables of a configuration; without any, those that come with it and work here."""
    if config.blueprints:
        return config.blueprints
    return {n: each for n, each in BUILT_IN.items() if each.isolation == "task" or not lacking()}


def blueprint_of(
    name: str,
    settings: BlueprintSettings,
    keeper: Keeper,
    guard: AddressGuard,
    *,
    homes: Path | None = None,
) -> Blueprint:
    """Return the blueprint of one table. `homes` is where tenants have theirs.

    The rules that its author wrote hold, but for those that the table says.
    """
    made = _without_table(name, settings, keeper, guard, homes=homes)
    ruled, complete = _ruled(made, settings), made.complete
    if complete is None:
        return ruled

    async def completed() -> Blueprint:
        return _ruled(await complete(), settings)

    return replace(ruled, complete=completed)


def _ruled(made: Blueprint, settings: BlueprintSettings) -> Blueprint:
    """Return a blueprint with the rules that a table says; its defaults say nothing."""
    said = settings.model_fields_set
    limit = made.restart_limit
    if "restart_limit" in said:
        limit = replace(limit, max_restarts=settings.restart_limit)
    if "restart_within_s" in said:
        limit = replace(limit, within_s=settings.restart_within_s)
    rules = {rule: getattr(settings, rule) for rule in said & set(RULES)}
    return replace(made, **rules, restart_limit=limit)


def _without_table(
    name: str,
    settings: BlueprintSettings,
    keeper: Keeper,
    guard: AddressGuard,
    *,
    homes: Path | None,
) -> Blueprint:
    """Return a blueprint as its kind and its author have it."""
    if isinstance(settings, PydanticAISettings):
        program = PydanticAIProgram(
            instructions=settings.instructions,
            tools=[imported(target) for target in settings.tools],
            plugins={target.partition(":")[2]: imported(target) for target in settings.plugins},
            base_urls=settings.base_urls,
            http_client=partial(guarded_client, guard),
        )
        return pydantic_ai_blueprint(name, program=program)
    if isinstance(settings, ProcessSettings):
        rules = _process_rules(settings, environment=PROVIDER_VARIABLES)
        return process_blueprint(name, keeper=keeper, rules=rules)
    if isinstance(settings, AcpSettings):
        return _acp(name, settings, keeper, homes=homes)
    if settings.isolation == "process":
        return python_process_blueprint(
            name,
            settings.target,
            keeper=keeper,
            rules=_process_rules(settings),
        )
    found = imported(settings.target)
    return replace(found if isinstance(found, Blueprint) else blueprint(name)(found), name=name)


def _acp(name: str, settings: AcpSettings, keeper: Keeper, *, homes: Path | None) -> Blueprint:
    # Imported where it is asked for: the protocol's models take a second to load.
    from frontdesk.agents.acp.blueprint import AcpOptions, acp_blueprint

    return acp_blueprint(
        name,
        settings.command,
        keeper=keeper,
        rules=_process_rules(settings),
        acp=AcpOptions(
            files=settings.files,
            auth_method=settings.auth_method,
            start_timeout_s=settings.start_timeout_s,
            home=settings.home,
            homes=homes,
            usage=settings.usage,
        ),
        terminals=settings.terminals,
    )


def _process_rules(
    settings: PythonSettings | ProcessSettings | AcpSettings, *, environment: tuple[str, ...] = ()
) -> ProcessOptions:
    return ProcessOptions(
        limits=ProcessLimits(
            memory_mb=settings.memory_mb,
            cpu_s=settings.cpu_s,
            open_files=settings.open_files,
        ),
        env=settings.environment or environment,
        account=settings.account,
    )


class _CannotImport(Exception):
    """A target that is not there."""


def imported(target: str) -> Any:
    """Return what a target names."""
    try:
        return import_target(target)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the operator's module raises anything
        problem = f"{type(error).__name__}: {error}"
        raise _CannotImport(f"{target!r} cannot be imported: {problem}") from None
