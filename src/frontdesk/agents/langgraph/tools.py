"""A session's callback tools as tools of LangChain, for graphs that are built for their session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException

from frontdesk.agents.errors import ToolFailed
from frontdesk.agents.records import ToolSpec
from frontdesk.agents.turn import Turn

_NO_PARAMETERS = {"type": "object", "properties": {}}


def callback_tool(spec: ToolSpec, *, turn: Callable[[], Turn]) -> BaseTool:
    """Return a tool that the gateway calls, in the turn that is under way then."""

    async def call(**args: Any) -> Any:
        try:
            return await turn().call_tool(spec.name, args)
        except ToolFailed as error:
            # The model reads it, and may do something else.
            raise ToolException(error.problem) from error

    return StructuredTool(
        name=spec.name,
        description=spec.description or spec.name,
        args_schema=spec.parameters or _NO_PARAMETERS,
        coroutine=call,
        handle_tool_error=True,
    )
