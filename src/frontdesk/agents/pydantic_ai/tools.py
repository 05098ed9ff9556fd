"""The tools of a Pydantic AI session: an agent's own, with events, and the client's callbacks.

Every tool that runs is between `tool_execution_start` and `_end`; one that needs approval waits for
it first, and the model reads of a rejection. What needs the turn is made for one turn and holds it:
an agent's deps are its own affair.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

from pydantic_ai.exceptions import ApprovalRequired, CallDeferred
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import (
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
    ToolApproved,
    ToolDefinition,
    ToolDenied,
)
from pydantic_ai.toolsets import WrapperToolset
from pydantic_ai.toolsets.abstract import ToolsetTool
from pydantic_core import SchemaValidator, core_schema

from frontdesk.agents.errors import QuestionExpired, ToolFailed
from frontdesk.agents.tool_run import ToolRun
from frontdesk.agents.turn import Turn

_ANY_ARGUMENTS = SchemaValidator(core_schema.any_schema())
_NO_PARAMETERS = {"type": "object", "properties": {}}

NO_ANSWER = "The user did not answer."
"""What a model reads where nobody answered its question in time."""


@dataclass(frozen=True, slots=True)
class TurnDeps:
    """What an operator's tools find in `RunContext.deps`: the turn that they run in."""

    turn: Turn


@dataclass
class TurnToolset(WrapperToolset[Any]):
    """The tools of one turn: the agent's, between their events, and the callback tools beside them.

    `chosen` are the agent's that the client left on; empty leaves on all. A callback tool that has
    the name of one of the agent's is not seen. `returned` is where results are written down as soon
    as there are some, by the ids of their calls: a run that is cut short may not have come to it.
    """

    turn: Turn
    chosen: frozenset[str]
    returned: dict[str, Any]

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """Return the tools as they are at this step of the model."""
        own = await self.wrapped.get_tools(ctx)
        on = {name: own[name] for name in own if not self.chosen or name in self.chosen}
        callbacks = {
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
            for spec in self.turn.tools
            if spec.name not in own
        }
        return {**on, **callbacks}

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        """Run a tool of the agent's between its two events, or let the gateway call the client's.

        A callback that fails is an answer for the model.
        """
        result = await self._result(name, tool_args, ctx, tool)
        if ctx.tool_call_id is not None:
            self.returned[ctx.tool_call_id] = result
        return result

    async def _result(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        if isinstance(tool.toolset, TurnToolset):  # of this step or of the one before
            try:
                return await self.turn.call_tool(name, tool_args)
            except ToolFailed as error:
                return {"error": error.problem}
        with ToolRun(self.turn.emit, name, tool_args, now=time.monotonic) as run:
            try:
                run.result = await self.wrapped.call_tool(name, tool_args, ctx, tool)
            except (ApprovalRequired, CallDeferred):
                # The tool broke off to be asked about; once approved, it is a call of its own.
                run.status = "cancelled"
                raise
        return run.result


async def ask_user(ctx: RunContext[TurnDeps], question: str) -> str:
    """Ask the user a question and return the answer.

    Args:
        ctx: The turn.
        question: What to ask, in one or two sentences.
    """
    try:
        return str(await ctx.deps.turn.ask(question))
    except QuestionExpired:
        return NO_ANSWER


async def resolve_deferred(turn: Turn, requests: DeferredToolRequests) -> DeferredToolResults:
    """Ask for every approval that the model's calls need, and for every result of those elsewhere.

    A call that runs elsewhere (`ExternalToolset`, `CallDeferred`) is a question to the user.
    """
    approvals, calls = requests.approvals, requests.calls
    answers = await asyncio.gather(*(approval_of(turn, call) for call in approvals))
    results = await asyncio.gather(*(result_elsewhere(turn, call) for call in calls))
    return DeferredToolResults(
        approvals={
            call.tool_call_id: answer for call, answer in zip(approvals, answers, strict=True)
        },
        calls={call.tool_call_id: result for call, result in zip(calls, results, strict=True)},
    )


async def approval_of(turn: Turn, call: ToolCallPart) -> ToolApproved | ToolDenied:
    """Ask whether a call may run, and return it as the model is told."""
    answer = await turn.approval(call.tool_name, call.args_as_dict())
    if answer.approved:
        return ToolApproved()
    reason = f": {answer.reason}" if answer.reason else "."
    return ToolDenied(f"The user did not approve this call ({answer.status}){reason}")


async def result_elsewhere(turn: Turn, call: ToolCallPart) -> Any:
    """Ask for the result of a call that runs elsewhere: the user gives it."""
    args = call.args_as_dict()
    question = args.get("question")
    if not isinstance(question, str):
        question = f"{call.tool_name}: {json.dumps(args, ensure_ascii=False)}"
    try:
        return await turn.ask(question)
    except QuestionExpired:
        return NO_ANSWER
