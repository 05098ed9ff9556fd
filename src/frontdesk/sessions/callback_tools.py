"""Callback tools of a session: what may be attached, and one call with its events.

Above the ports, below the turn and the conversation. The call itself (signing, addresses, limits)
is the gateway's `ToolCaller`.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

import msgspec

from frontdesk.agents.errors import UnknownTool
from frontdesk.agents.events import Event
from frontdesk.agents.records import MAX_TOOL_DESCRIPTION_CHARACTERS, TOOL_NAME, CallbackTool
from frontdesk.agents.tool_run import ToolRun
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.errors import ToolRefused

MAX_PARAMETERS_BYTES = 64 * 1024
_NAME = re.compile(TOOL_NAME)


class ToolOwner(Protocol):
    """The conversation whose tools these are."""

    house: ServiceContext
    session_id: str
    api_key: str | None
    callback_tools: dict[str, CallbackTool]


class Emitter(Protocol):
    """The turn in which a tool is called."""

    def emit(self, event: Event) -> None:
        """Emit an event of the agent."""
        ...


def check_tool(tool: CallbackTool, *, owner: ToolOwner, taken: frozenset[str]) -> None:
    """Refuse what cannot be attached: `ToolRefused` with the reason. `taken` are other tools."""
    problem = _problem_of(tool) or _place_problem(tool, owner=owner, taken=taken)
    if problem is not None:
        raise ToolRefused(tool.name, problem=problem)


def _problem_of(tool: CallbackTool) -> str | None:
    if not _NAME.fullmatch(tool.name):
        return "needs a name of [A-Za-z0-9_-], at most 64 characters, a letter or _ first"
    if len(tool.description) > MAX_TOOL_DESCRIPTION_CHARACTERS:
        return f"has a description of more than {MAX_TOOL_DESCRIPTION_CHARACTERS} characters"
    if len(msgspec.json.encode(tool.parameters)) > MAX_PARAMETERS_BYTES:
        return f"has parameters of more than {MAX_PARAMETERS_BYTES} bytes"
    if tool.parameters and tool.parameters.get("type", "object") != "object":
        return "needs parameters that are a JSON schema of type object"
    if tool.timeout_ms <= 0:
        return "needs a timeoutMs above 0"
    return None


def _place_problem(tool: CallbackTool, *, owner: ToolOwner, taken: frozenset[str]) -> str | None:
    if owner.house.call_tool is None:
        return "cannot be called: this service calls no callback tools"
    if tool.name in taken or tool.name in owner.callback_tools:
        return "is attached already"
    if len(owner.callback_tools) >= owner.house.settings.max_tools:
        return f"is one too many: {owner.house.settings.max_tools} are attached"
    return None


async def run_callback_tool(
    turn: Emitter, owner: ToolOwner, name: str, *, args: Any, call_id: str | None
) -> Any:
    """Call one tool and return its result, between `tool_execution_start` and `_end`.

    Raises `UnknownTool`, and `ToolFailed` when the tool fails.
    """
    tool, caller = owner.callback_tools.get(name), owner.house.call_tool
    if tool is None or caller is None:
        raise UnknownTool(name)
    now = owner.house.clock.monotonic
    with ToolRun(turn.emit, name, args, now=now, call_id=call_id) as run:
        run.result = await caller.call(
            tool,
            call_id=run.call_id,
            args=args,
            session_id=owner.session_id,
            api_key=owner.api_key,
        )
    return run.result
