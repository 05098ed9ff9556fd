"""Callback tools of a session: what may be attached, and one call with its events.

The call itself (signing, addresses, limits) is the gateway's `ToolCaller`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec

from frontdesk.agents.errors import ToolFailed, UnknownTool
from frontdesk.agents.events import Event
from frontdesk.agents.records import (
    MAX_TOOL_DESCRIPTION_CHARACTERS,
    TOOL_NAME,
    CallbackTool,
    SessionContext,
    ToolSpec,
)
from frontdesk.agents.tool_run import ToolRun
from frontdesk.agents.values import json_value
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.errors import ToolRefused
from frontdesk.sessions.hooks import refusal_in_pieces

MAX_PARAMETERS_BYTES = 64 * 1024

MAX_SMALLEST_ARGUMENTS = 64 * 1024
"""How long the shortest arguments may be that fit a tool's schema.

A model that makes arguments up from the schema, as `test` does, makes what the schema asks for.
"""

_NAME = re.compile(TOOL_NAME)


class CallbackTools:
    """The callback tools that are attached to one session, by name. All on one event loop."""

    __slots__ = ("_by_name", "_keys", "_service", "_session")

    def __init__(self, session: SessionContext, *, service: ServiceContext) -> None:
        self._session, self._service = session, service
        self._by_name: dict[str, CallbackTool] = {}
        self._keys: dict[str, str | None] = {}
        """The key that attached each: its secret is the one that the tool's server knows."""

    def specs(self) -> tuple[ToolSpec, ...]:
        """Return the tools as agents see them."""
        return tuple(
            ToolSpec(name=each.name, description=each.description, parameters=each.parameters)
            for each in self._by_name.values()
        )

    def attach(self, tool: CallbackTool, *, api_key: str | None) -> None:
        """Attach a tool, whose calls this key signs; `ToolRefused` where it cannot be."""
        try:
            problem = _problem_of(tool) or self._problem_with(tool.name)
        except RecursionError:
            problem = "has parameters that are nested too deeply"
        if problem is not None:
            raise ToolRefused(tool.name, problem=problem)
        self._by_name[tool.name], self._keys[tool.name] = tool, api_key

    def detach(self, name: str) -> None:
        """Detach a tool; `UnknownTool` where there is none of this name."""
        if self._by_name.pop(name, None) is None:
            raise UnknownTool(name)
        del self._keys[name]

    def clear(self) -> None:
        """Detach every tool."""
        self._by_name.clear()
        self._keys.clear()

    def restore(self, tools: Iterable[CallbackTool], *, keys: Mapping[str, str | None]) -> None:
        """Attach what was attached in an earlier life; it was checked then."""
        for tool in tools:
            self._by_name[tool.name], self._keys[tool.name] = tool, keys.get(tool.name)

    def attached(self) -> tuple[CallbackTool, ...]:
        """Return the tools as they were attached."""
        return tuple(self._by_name.values())

    def keys(self) -> dict[str, str | None]:
        """Return which key attached which tool."""
        return dict(self._keys)

    async def call(
        self,
        name: str,
        args: Any,
        *,
        emit: Callable[[Event], None],
        call_id: str | None,
        committed: Callable[[], Awaitable[None]],
    ) -> Any:
        """Call one tool and return its result, between `tool_execution_start` and `_end`.

        It is called once its start is `committed`. Raises `UnknownTool`, and `ToolFailed` when the
        tool fails.
        """
        tool, caller = self._by_name.get(name), self._service.call_tool
        if tool is None or caller is None:
            raise UnknownTool(name)
        now = self._service.clock.monotonic
        with ToolRun(emit, name, args, now=now, call_id=call_id) as run:
            await committed()
            result = await caller.call(
                tool,
                call_id=run.call_id,
                args=args,
                session_id=self._session.session_id,
                tenant_id=self._session.tenant_id,
                api_key=self._keys[name],
            )
            run.result = json_value(result)
            guardrails, tenant_id = self._service.guardrails, self._session.tenant_id
            if guardrails and await refusal_in_pieces(
                guardrails.refuse_tool_result, tenant_id, run.result
            ):
                raise ToolFailed(name, problem="its result was refused by a guardrail")
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
    if _Smallest(tool.parameters).size(tool.parameters) > MAX_SMALLEST_ARGUMENTS:
        return f"needs arguments of more than {MAX_SMALLEST_ARGUMENTS} characters: none is so long"
    if tool.timeout_ms <= 0:
        return "needs a timeoutMs above 0"
    return None


class _Smallest:
    """Estimate how large the smallest value is that fits a JSON schema, in characters.

    Every property counts, and of alternatives the largest. It stops at the bound, looks at each
    part of the schema once, and takes a part that contains itself for small.
    """

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._sizes: dict[int, int] = {}

    def size(self, schema: Any) -> int:
        if not isinstance(schema, dict):
            return 1
        known = self._sizes.get(id(schema))
        if known is None:
            self._sizes[id(schema)] = 1
            known = self._sizes[id(schema)] = min(self._sum(schema), MAX_SMALLEST_ARGUMENTS + 1)
        return known

    def _sum(self, schema: dict[str, Any]) -> int:
        prefix = _list(schema.get("prefixItems"))
        total = 1 + _count(schema, "minLength") + sum(map(self.size, prefix))
        total += _count(schema, "minItems") * self.size(schema.get("items"))
        total += _count(schema, "minProperties") * self.size(schema.get("additionalProperties"))
        properties = schema.get("properties")
        if isinstance(properties, dict):
            total += sum(map(self.size, properties.values()))
        total += sum(map(self.size, _list(schema.get("allOf"))))
        for alternatives in ("anyOf", "oneOf"):
            total += max(map(self.size, _list(schema.get(alternatives))), default=0)
        return total + self.size(self._referred(schema.get("$ref")))

    def _referred(self, reference: Any) -> Any:
        """Return what `#/a/b` names in the schema, None where there is nothing."""
        if not (isinstance(reference, str) and reference.startswith("#/")):
            return None
        found: Any = self._root
        for part in reference[2:].split("/"):
            found = found.get(part) if isinstance(found, dict) else None
        return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _count(schema: dict[str, Any], name: str) -> int:
    value = schema.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return 0
    return int(max(0, min(value, MAX_SMALLEST_ARGUMENTS + 1)))
