"""The kinds of blueprints that a table can be of, and how each becomes a blueprint.

Between the tables (`blueprint_settings.py`) and the agents' layer. A kind is a row in `MAKERS`; one
whose packages are another extra's imports them in its maker, so that a gateway without that kind
does without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from frontdesk.agents.blueprints import AuthorRules, Blueprint, blueprint
from frontdesk.agents.builtin import (
    PROVIDER_VARIABLES,
    process_blueprint,
    python_process_blueprint,
)
from frontdesk.agents.process.factory import ProcessOptions
from frontdesk.agents.targets import import_target
from frontdesk.agents.task import TaskAgentFactory
from frontdesk.errors import FrontdeskError
from frontdesk.gateway.blueprint_settings import (
    A2ASettings,
    AcpSettings,
    ADKSettings,
    IsolationTable,
    LangGraphSettings,
    OpenAIAgentsSettings,
    OpenAISettings,
    ProcessSettings,
    ProcessTable,
    PydanticAISettings,
    PythonSettings,
)
from frontdesk.gateway.ssrf import AddressGuard, guarded_client
from frontdesk.keeper.client import Keeper
from frontdesk.keeper.import_problems import problem_of
from frontdesk.keeper.messages import ProcessLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class BlueprintServices:
    """What the gateway lends to the agents of every blueprint.

    `keeper` starts processes, `guard` says which addresses are called for a client, and in `homes`
    tenants have theirs.
    """

    keeper: Keeper
    guard: AddressGuard
    homes: Path | None = None


class CannotImport(Exception):
    """A target that is not there."""


def imported(target: str) -> Any:
    """Return what a target names; `CannotImport`."""
    try:
        return import_target(target)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the operator's module raises anything
        raise CannotImport(f"{target!r} cannot be imported: {problem_of(error)}") from None


def _pydantic_ai(name: str, table: PydanticAISettings, services: BlueprintServices) -> Blueprint:
    if table.target is not None:
        return _own_pydantic_ai(name, table, services)
    from frontdesk.agents.pydantic_ai import PydanticAIProgram, pydantic_ai_blueprint

    program = PydanticAIProgram(
        instructions=table.instructions,
        tools=[imported(target) for target in table.tools],
        plugins={target.partition(":")[2]: imported(target) for target in table.plugins},
        base_urls=table.base_urls,
        http_client=partial(guarded_client, services.guard),
    )
    return pydantic_ai_blueprint(name, program=program)


Maker = Callable[[str, Any, BlueprintServices], Blueprint]


def framework(kind: str, program: str, *, also: tuple[str, ...] = ()) -> Maker:
    """Return what makes blueprints of an agent of a framework, served by name.

    `program` is the adapter (`module:name`), which returns a `Program` when it is called with
    `target`, the settings of the table that `also` names, and no more: in the gateway, or in each
    session's process, which alone then imports the framework.
    """

    def make(name: str, table: IsolationTable, services: BlueprintServices) -> Blueprint:
        options = {each: getattr(table, each) for each in ("target", *also)}
        if table.isolation == "process":
            return python_process_blueprint(
                name,
                program,
                kind=kind,
                arguments=options,
                keeper=services.keeper,
                rules=process_rules(table, environment=PROVIDER_VARIABLES),
                python=table.python,
            )
        made = called(program, options)
        rules = msgspec.structs.asdict(AuthorRules.of(made))
        return Blueprint(name=name, kind=kind, factory=TaskAgentFactory(made), **rules)

    return make


def called(target: str, options: dict[str, Any]) -> Any:
    """Return what a target of ours returns, which imports one of the operator's; `CannotImport`."""
    try:
        return import_target(target)(**options)
    except FrontdeskError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the operator's module raises anything
        named = options["target"]
        raise CannotImport(f"{named!r} cannot be served: {problem_of(error)}") from None


_own_pydantic_ai = framework(
    "pydantic-ai",
    "frontdesk.agents.pydantic_ai.own_agent:OwnAgentProgram",
    also=("deps", "system_prompt"),
)


def _python(name: str, table: PythonSettings, services: BlueprintServices) -> Blueprint:
    if table.isolation == "process":
        return python_process_blueprint(
            name,
            table.target,
            keeper=services.keeper,
            rules=process_rules(table),
            python=table.python,
        )
    found = imported(table.target)
    return replace(found if isinstance(found, Blueprint) else blueprint(name)(found), name=name)


def _process(name: str, table: ProcessSettings, services: BlueprintServices) -> Blueprint:
    rules = process_rules(table, environment=PROVIDER_VARIABLES)
    return process_blueprint(name, keeper=services.keeper, rules=rules)


def _acp(name: str, table: AcpSettings, services: BlueprintServices) -> Blueprint:
    # Imported where it is asked for: the protocol's models take a second to load.
    from frontdesk.agents.acp.blueprint import AcpOptions, McpServer, acp_blueprint

    return acp_blueprint(
        name,
        table.command,
        keeper=services.keeper,
        rules=process_rules(table),
        acp=AcpOptions(
            files=table.files,
            auth_method=table.auth_method,
            start_timeout_s=table.start_timeout_s,
            home=table.home,
            homes=services.homes,
            usage=table.usage,
            settings=table.options,
            mcp_servers=[McpServer(**each.model_dump()) for each in table.mcp_servers],
        ),
        terminals=table.terminals,
    )


def process_rules(table: ProcessTable, *, environment: tuple[str, ...] = ()) -> ProcessOptions:
    """Return what a table says of the processes of its blueprint."""
    return ProcessOptions(
        limits=ProcessLimits(
            memory_mb=table.memory_mb,
            cpu_s=table.cpu_s,
            open_files=table.open_files,
        ),
        env=table.environment or environment,
        account=table.account,
    )


MAKERS: Mapping[type, Maker] = MappingProxyType(
    {
        PydanticAISettings: _pydantic_ai,
        PythonSettings: _python,
        ProcessSettings: _process,
        AcpSettings: _acp,
        OpenAIAgentsSettings: framework(
            "openai-agents",
            "frontdesk.agents.openai_agents:OpenAIAgentsProgram",
            also=("context", "tracing"),
        ),
        OpenAISettings: framework(
            "openai",
            "frontdesk.agents.openai:OpenAIProgram",
            also=("credential", "api", "model", "timeout_s"),
        ),
        A2ASettings: framework(
            "a2a",
            "frontdesk.agents.a2a:A2AProgram",
            also=("credential", "timeout_s"),
        ),
        ADKSettings: framework("adk", "frontdesk.agents.adk:ADKProgram"),
        LangGraphSettings: framework(
            "langgraph",
            "frontdesk.agents.langgraph:LangGraphProgram",
            also=("context", "input", "output"),
        ),
    }
)
"""What makes the blueprint of a table, as its kind and its author have it."""
