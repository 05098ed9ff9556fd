"""Blueprints whose agents live in processes: any Python program, and the built-in `process`.

It imports no program of an operator's: that is done in the process alone.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import msgspec

from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.process.factory import ProcessAgentFactory, ProcessOptions
from frontdesk.agents.process.messages import ProgramSource
from frontdesk.keeper.client import Keeper
from frontdesk.keeper.environment import allowed_environment

PROVIDER_VARIABLES = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "COHERE_API_KEY",
    "CO_API_KEY",
    "DEEPSEEK_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GROQ_API_KEY",
    "MISTRAL_API_KEY",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENROUTER_API_KEY",
    "XAI_API_KEY",
)
"""What the built-in `process` gets of the environment unless its rules say otherwise."""

_MODELS = {
    "ANTHROPIC_API_KEY": ("pydantic_ai.models.anthropic", "anthropic"),
    "OPENAI_API_KEY": ("pydantic_ai.models.openai", "openai"),
}

_ASSISTANT = "frontdesk.agents.pydantic_ai:PydanticAIProgram"


def python_process_blueprint(
    name: str,
    target: str,
    *,
    keeper: Keeper,
    rules: ProcessOptions | None = None,
    arguments: dict[str, Any] | None = None,
    kind: str = "python",
    python: str | None = None,
    **fields: Any,
) -> Blueprint:
    """Make a blueprint of a Python program that runs in a process of its own for each session.

    `target` (`module:name`) is a `Blueprint` made by `@blueprint`, an agent function, or a
    `Program`; with `arguments`, what returns one of these when it is called with them. It is
    imported in the process, not here. `fields` are fields of `Blueprint`: they go before what the
    target's own `@blueprint` says, which its process tells when it is asked (`Blueprint.complete`).
    `python` is the interpreter of the processes, where that is another: see `ProcessAgentFactory`.

    Raises `LimitUnenforceable` and `InvalidArgument` for rules that this system cannot keep.
    """
    source = ProgramSource(target=target, options=arguments)
    factory = ProcessAgentFactory(keeper, source, rules=rules, python=python)
    made = Blueprint(name=name, kind=kind, factory=factory, isolation="process", **fields)

    async def complete() -> Blueprint:
        own = msgspec.structs.asdict(await factory.author_rules())
        return replace(made, **{**own, **fields})

    return replace(made, complete=complete)


def process_blueprint(
    name: str = "process",
    *,
    keeper: Keeper,
    rules: ProcessOptions | None = None,
    **fields: Any,
) -> Blueprint:
    """Make the built-in blueprint `process`: the assistant, in a process of its own a session.

    The same Pydantic AI agent as `assistant`, without tools of an operator's. `fields` are fields
    of `Blueprint`.
    """
    from frontdesk.agents.pydantic_ai import OPTIONS, PydanticAIProgram
    from frontdesk.agents.pydantic_ai.prompts import ATTACHMENTS

    program = PydanticAIProgram()
    rules = rules or ProcessOptions(env=PROVIDER_VARIABLES)
    environment = allowed_environment(rules.env)
    # Of the providers that can be called, as their imports are the slow ones.
    preload = [
        module
        for variable, (module, package) in _MODELS.items()
        if variable in environment and find_spec(package) is not None
    ]
    factory = ProcessAgentFactory(
        keeper,
        ProgramSource(target=_ASSISTANT, options={}, warm_up_model="test"),
        rules=rules,
        program=program,
        preload=preload,
    )
    own = {
        "tools": program.tool_names,
        "plugins": program.plugin_names,
        "attachments": ATTACHMENTS,
        "options": OPTIONS,
    }
    return Blueprint(
        name=name, kind="process", factory=factory, isolation="process", **{**own, **fields}
    )
