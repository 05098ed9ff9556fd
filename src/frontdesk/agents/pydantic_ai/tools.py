"""The tools of a Pydantic AI session: an agent's own, with events, and the client's callbacks.

Every tool that runs is between `tool_execution_start` and `_end`; one that needs approval waits for
it first, and the model reads of a rejection. What needs the turn is made for one turn and holds it:
an agent's deps are its own affair.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pydantic_ai.exceptions import ApprovalRequired, CallDeferred
from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import WrapperToolset
from pydantic_ai.toolsets.abstract import ToolsetTool
from pydantic_core import SchemaValidator, core_schema

from frontdesk.agents.errors import QuestionExpired, ToolFailed
from frontdesk.agents.pydantic_ai.suspension import NO_ANSWER, TurnSuspension, suspension_in
from frontdesk.agents.tool_run import ToolRun
from frontdesk.agents.turn import Turn

_ANY_ARGUMENTS = SchemaValidator(core_schema.any_schema())
_NO_PARAMETERS = {"type": "object", "properties": {}}


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
    suspension: TurnSuspension

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
            # With the event that tells of it: what is stored of the turn says the same.
            self.suspension.on_result()
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
            self.suspension.on_begun(ctx.tool_call_id, run)
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
    suspension = suspension_in(ctx)
    try:
        if suspension is None or ctx.tool_call_id is None:
            return str(await ctx.deps.turn.ask(question))
        return str(await suspension.ask(question, call_id=ctx.tool_call_id))
    except QuestionExpired:
        return NO_ANSWER
