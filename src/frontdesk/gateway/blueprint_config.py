"""Which blueprints are open: the operator's `[blueprints]` tables, or the ones that come built in.

Between the configuration and the agents' layer. The operator names what is imported; clients
choose by name from what is here. What cannot be imported is found now, not at the first session.
"""

from __future__ import annotations

from dataclasses import replace

from frontdesk.agents.blueprints import Blueprint, Blueprints
from frontdesk.errors import FrontdeskError
from frontdesk.gateway.blueprint_kinds import MAKERS, BlueprintServices, CannotImport
from frontdesk.gateway.blueprint_settings import (
    BlueprintSettings,
    ProcessSettings,
    PydanticAISettings,
)
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.settings import Config
from frontdesk.gateway.ssrf import AddressGuard
from frontdesk.gateway.state_dir import StateDir
from frontdesk.keeper.client import Keeper
from frontdesk.keeper.platform_needs import lacking

BUILT_IN: dict[str, BlueprintSettings] = {
    "assistant": PydanticAISettings(kind="pydantic-ai"),
    "process": ProcessSettings(kind="process"),
}
RULES = (
    "attachments",
    "models",
    "restart",
    "turn_timeout_s",
    "idle_timeout_s",
    "unused_timeout_s",
    "max_age_s",
    "max_sessions_per_tenant",
    "durable",
    "resume",
    "retention_days",
)


def blueprints_of(config: Config, keeper: Keeper) -> Blueprints:
    """Return the blueprints of a configuration; `ConfigurationWrong` with every mistake.

    The first table is the default, unless `default_blueprint` names another.
    """
    made: list[Blueprint] = []
    services = BlueprintServices(
        keeper=keeper,
        guard=AddressGuard(config.callbacks.allow_networks),
        homes=StateDir(config.server.state_dir).homes,
    )
    mistakes: list[str] = []
    for name, settings in tables_of(config).items():
        try:
            made.append(blueprint_of(name, settings, services))
        except (FrontdeskError, CannotImport) as error:
            mistakes.append(f"blueprints.{name}: {error}")
    if mistakes:
        raise ConfigurationWrong("the configuration", mistakes=tuple(mistakes))
    return Blueprints(made, default=config.default_blueprint)


def tables_of(config: Config) -> dict[str, BlueprintSettings]:
    """Return the tables of a configuration; without any, those that come with it and work here."""
    if config.blueprints:
        return config.blueprints
    return {n: each for n, each in BUILT_IN.items() if each.isolation == "task" or not lacking()}


def blueprint_of(name: str, settings: BlueprintSettings, services: BlueprintServices) -> Blueprint:
    """Return the blueprint of one table.

    The rules that its author wrote hold, but for those that the table says.
    """
    made = MAKERS[type(settings)](name, settings, services)
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
