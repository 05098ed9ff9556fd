"""The tools of a Pydantic AI session: the operator's, with events, and the client's callbacks.

Every tool that runs is between `tool_execution_start` and `_end`; one that needs approval waits for
it first, and the model reads of a rejection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic_ai.exceptions import ApprovalRequired
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.models import Model
from pydantic_ai.tools import (
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
    ToolApproved,
    ToolDefinition,
    ToolDenied,
)
from pydantic_ai.toolsets import AbstractToolset, WrapperToolset
from pydantic_ai.toolsets.abstract import ToolsetTool
from pydantic_core import SchemaValidator, core_schema

from frontdesk.agents.errors import QuestionExpired, ToolFailed
from frontdesk.agents.tool_run import ToolRun
from frontdesk.agents.turn import Turn

_ANY_ARGUMENTS = SchemaValidator(core_schema.any_schema())
_NO_PARAMETERS = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class TurnDeps:
    """What an operator's tools find in `RunContext.deps`: the turn that they run in."""

    turn: Turn
    find_model: Callable[[str], Model]


class TracedToolset(WrapperToolset[TurnDeps]):
    """Emit the beginning and the end of every call of the tools inside."""

    async def call_tool(
        self,
        name: str,
        tool_args: dict[str, Any],
        ctx: RunContext[TurnDeps],
        tool: ToolsetTool[TurnDeps],
    ) -> Any:
        """Run a tool between its two events."""
        with ToolRun(ctx.deps.turn.emit, name, tool_args, now=time.monotonic) as run:
            try:
                run.result = await super().call_tool(name, tool_args, ctx, tool)
            except ApprovalRequired:
                # The tool broke off to be asked about; once approved, it is a call of its own.
                run.status = "cancelled"
                raise
        return run.result


class CallbackToolset(AbstractToolset[TurnDeps]):
    """The callback tools of the session, as they are at each step of the model."""

    @property
    def id(self) -> str:
        """Return the toolset's name."""
        return "frontdesk-callbacks"

    async def get_tools(self, ctx: RunContext[TurnDeps]) -> dict[str, ToolsetTool[TurnDeps]]:
        """Return what is attached now."""
        return {
            spec.name: ToolsetTool(
                toolset=self,
                tool_def=ToolDefinition(
                    name=spec.name,
                    description=spec.description or None,
                    parameters_json_schema=spec.parameters or _NO_PARAMETERS,
                ),
                max_retries=1,
                args_validator=_ANY_ARGUMENTS,
            )
            for spec in ctx.deps.turn.tools
        }

    async def call_tool(
        self,
        name: str,
        tool_args: dict[str, Any],
        ctx: RunContext[TurnDeps],
        tool: ToolsetTool[TurnDeps],  # noqa: ARG002 - Pydantic AI's signature
    ) -> Any:
        """Let the gateway call the tool; a failure is an answer for the model."""
        try:
            return await ctx.deps.turn.call_tool(name, tool_args)
        except ToolFailed as error:
            return {"error": error.problem}


async def ask_user(ctx: RunContext[TurnDeps], question: str) -> str:
    """Ask the user a question and return the answer.

    Args:
        ctx: The turn.
        question: What to ask, in one or two sentences.
    """
    try:
        return str(await ctx.deps.turn.ask(question))
    except QuestionExpired:
        return "The user did not answer."


async def resolve_deferred(
    ctx: RunContext[TurnDeps], requests: DeferredToolRequests
) -> DeferredToolResults:
    """Ask for every approval that the model's calls need; refuse what runs nowhere."""
    turn = ctx.deps.turn
    answers = await asyncio.gather(*(_approved(turn, call) for call in requests.approvals))
    return DeferredToolResults(
        approvals={
            call.tool_call_id: answer
            for call, answer in zip(requests.approvals, answers, strict=True)
        },
        calls={call.tool_call_id: "This tool cannot be run here." for call in requests.calls},
    )


async def _approved(turn: Turn, call: ToolCallPart) -> ToolApproved | ToolDenied:
    answer = await turn.approval(call.tool_name, call.args_as_dict())
    if answer.approved:
        return ToolApproved()
    reason = f": {answer.reason}" if answer.reason else "."
    return ToolDenied(f"The user did not approve this call ({answer.status}){reason}")
