"""Callback tools of a session: what may be attached, and one call with its events.

The call itself (signing, addresses, limits) is the gateway's `ToolCaller`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from frontdesk.agents.errors import UnknownTool
from frontdesk.agents.events import Event
from frontdesk.agents.records import (
    MAX_TOOL_DESCRIPTION_CHARACTERS,
    TOOL_NAME,
    CallbackTool,
    SessionContext,
    ToolSpec,
)
from frontdesk.agents.tool_run import ToolRun
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.errors import ToolRefused

MAX_PARAMETERS_BYTES = 64 * 1024
_NAME = re.compile(TOOL_NAME)


class CallbackTools:
    """The callback tools that are attached to one session, by name. All on one event loop."""

    __slots__ = ("_api_key", "_by_name", "_service", "_session")

    def __init__(
        self, session: SessionContext, *, service: ServiceContext, api_key: str | None
    ) -> None:
        self._session, self._service, self._api_key = session, service, api_key
        self._by_name: dict[str, CallbackTool] = {}

    def specs(self) -> tuple[ToolSpec, ...]:
        """Return the tools as agents see them."""
        return tuple(
            ToolSpec(name=each.name, description=each.description, parameters=each.parameters)
            for each in self._by_name.values()
        )

    def attach(self, tool: CallbackTool) -> None:
        """Attach a tool; `ToolRefused` with the reason where it cannot be."""
        problem = _problem_of(tool) or self._problem_with(tool.name)
        if problem is not None:
            raise ToolRefused(tool.name, problem=problem)
        self._by_name[tool.name] = tool

    def detach(self, name: str) -> None:
        """Detach a tool; `UnknownTool` where there is none of this name."""
        if self._by_name.pop(name, None) is None:
            raise UnknownTool(name)

    def clear(self) -> None:
        """Detach every tool."""
        self._by_name.clear()

    async def call(
        self, name: str, args: Any, *, emit: Callable[[Event], None], call_id: str | None
    ) -> Any:
        """Call one tool and return its result, between `tool_execution_start` and `_end`.

        Raises `UnknownTool`, and `ToolFailed` when the tool fails.
        """
        tool, caller = self._by_name.get(name), self._service.call_tool
        if tool is None or caller is None:
            raise UnknownTool(name)
        now = self._service.clock.monotonic
        with ToolRun(emit, name, args, now=now, call_id=call_id) as run:
            run.result = await caller.call(
                tool,
                call_id=run.call_id,
                args=args,
                session_id=self._session.session_id,
                api_key=self._api_key,
            )
        return run.result

    def _problem_with(self, name: str) -> str | None:
        limit = self._service.settings.max_tools
        if self._service.call_tool is None:
            return "cannot be called: this service calls no callback tools"
        if name in self._session.tools or name in self._by_name:
            return "is attached already"
        if len(self._by_name) >= limit:
            return f"is one too many: {limit} are attached"
        return None


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
