"""What a configuration needs of the machine: modules, programs, accounts, certificates, keys.

Above `config.py`, which reads and validates it; the command that serves asks this in the same go,
so that whoever wrote the file hears of all that is wrong with it at once.
"""

from __future__ import annotations

import pwd
import shutil
from collections.abc import Iterator

from frontdesk.agents.remote_address import problem_with_variable
from frontdesk.agents.targets import import_target, require_module
from frontdesk.errors import FrontdeskError, InvalidArgument, MissingExtra
from frontdesk.gateway.blueprint_config import blueprint_of
from frontdesk.gateway.blueprint_kinds import BlueprintServices, CannotImport
from frontdesk.gateway.blueprint_settings import (
    AcpSettings,
    BlueprintSettings,
    IsolationTable,
    ProcessTable,
    RemoteTable,
)
from frontdesk.gateway.config_mistakes import Location
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.interpreter_checks import problems_of
from frontdesk.gateway.keys import KEYS_VARIABLE, keys_from_environment
from frontdesk.gateway.secret_file import wrong
from frontdesk.gateway.settings import Config
from frontdesk.gateway.ssrf import AddressGuard
from frontdesk.gateway.tls import tls_context
from frontdesk.keeper.client import Keeper
from frontdesk.keeper.import_problems import problem_of
from frontdesk.keeper.platform_needs import lacking


def mistakes_around(config: Config) -> Iterator[tuple[Location, str]]:
    """Yield each setting that the machine does not bear out, and why.

    Imports what the gateway itself would import.
    """
    wrong: set[str | int] = set()
    for location, problem in mistakes_of_blueprints(config):
        wrong.add(location[1])
        yield location, problem
    for name, table in config.blueprints.items():
        if name not in wrong and (reason := why_not_made(name, table)) is not None:
            yield ("blueprints", name), reason
    for location, target in _filters(config):
        if (reason := _import_problem(target, alone=False)) is not None:
            yield location, reason
    for check in (_check_certificate, _check_signing_keys, _check_cluster, _check_database):
        try:
            check(config)
        except ConfigurationWrong as error:
            for mistake in error.mistakes:
                names, _, problem = mistake.partition(": ")
                yield tuple(names.partition(", ")[0].split(".")), problem
    try:
        keys_from_environment()
    except ConfigurationWrong as error:
        for mistake in error.mistakes:
            yield (KEYS_VARIABLE,), mistake


def _check_certificate(config: Config) -> None:
    tls_context(config.server)


def _check_signing_keys(config: Config) -> None:
    if config.auth.jwt is not None and config.auth.jwt.keys_file is not None:
        # Late: it comes with an extra.
        from frontdesk.gateway.identity_provider import keys_of_file

        keys_of_file(config.auth.jwt.keys_file)


def _check_cluster(config: Config) -> None:
    if config.cluster.url is not None:
        # Late: it comes with a cluster.
        from frontdesk.gateway.cluster_files import check_files

        check_files(config.cluster)


def _check_database(config: Config) -> None:
    if "://" not in config.conversations.store:
        return
    try:
        # Late: it comes with an extra.
        from frontdesk.gateway.conversation_database import database_address

        database_address(config.conversations)
    except (InvalidArgument, MissingExtra) as error:
        raise wrong("conversations.store", str(error)) from None


def mistakes_of_blueprints(config: Config) -> Iterator[tuple[Location, str]]:
    """Yield what is wrong with single settings of blueprints, and why."""
    for location, target, alone in _targets(config):
        if (problem := _import_problem(target, alone=alone)) is not None:
            yield location, problem
    for name, table in config.blueprints.items():
        for setting, problem in _mistakes_of(table):
            yield ("blueprints", name, setting), problem
    for name, problem in _interpreter_problems(config):
        yield ("blueprints", name, "python"), problem


def why_not_made(name: str, table: BlueprintSettings) -> str | None:
    """Return why no blueprint can be made of a table whose settings are right by themselves."""
    services = BlueprintServices(keeper=Keeper(), guard=AddressGuard(()))
    try:
        blueprint_of(name, table, services)
    except (FrontdeskError, CannotImport) as error:
        return str(error)
    return None


def _mistakes_of(table: BlueprintSettings) -> Iterator[tuple[str, str]]:
    if table.isolation == "process" and (missing := lacking()) is not None:
        yield "isolation", f"agents cannot be in processes here: {missing}"
    if isinstance(table, RemoteTable) and table.credential is not None:
        problem = problem_with_variable(table.credential)
        if problem is not None:
            yield "credential", problem
    if isinstance(table, ProcessTable) and table.account:
        try:
            pwd.getpwnam(table.account)
        except KeyError:
            yield "account", f"this system has no account {table.account!r}"
    if isinstance(table, AcpSettings) and shutil.which(table.command[0]) is None:
        yield "command", f"there is no program {table.command[0]!r} that could be run"


def _interpreter_problems(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the name of each blueprint whose interpreter cannot serve it, and why."""
    tables = {}
    for name, table in config.blueprints.items():
        if not isinstance(table, IsolationTable) or table.python is None:
            continue
        if shutil.which(table.python) is None:
            yield name, f"there is no program {table.python!r} that could be run"
        elif next(_mistakes_of(table), None) is None:
            tables[name] = table
    yield from problems_of(tables).items()


def _targets(config: Config) -> Iterator[tuple[Location, str, bool]]:
    """Yield what is named as `module:name`, and whether a process of its own imports it."""
    for name, table in config.blueprints.items():
        if isinstance(table, IsolationTable) and table.python is None:
            for setting in ("target", "deps", "context"):
                if (target := getattr(table, setting, None)) is not None:
                    yield ("blueprints", name, setting), target, table.isolation == "process"
        for kind in ("tools", "plugins"):
            for number, target in enumerate(getattr(table, kind, ())):
                yield ("blueprints", name, kind, number), target, False


def _filters(config: Config) -> Iterator[tuple[Location, str]]:
    if config.guardrails.filter:
        yield ("guardrails", "filter"), config.guardrails.filter
    for tenant, own in config.tenants.items():
        if own.guardrails and own.guardrails.filter:
            yield ("tenants", tenant, "guardrails", "filter"), own.guardrails.filter


def _import_problem(target: str, *, alone: bool) -> str | None:
    """Return why a target cannot be imported; one that only a process imports is looked for."""
    try:
        (require_module if alone else import_target)(target)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the operator's module raises anything
        return f"{target!r} cannot be imported: {problem_of(error)}"
    return None
