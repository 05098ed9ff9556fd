"""What ADK is told in a turn, and tells of it: one plugin beside the operator's own.

Before each call of a model it puts in what the client has changed; of each tool it tells the
beginning and the end. It is there for the agents that are tools of others, too.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from google.adk.events import Event
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.sessions import BaseSessionService
from google.adk.tools.base_tool import BaseTool
from google.genai import types

from frontdesk.agents.errors import ToolFailed, UnknownTool
from frontdesk.agents.records import ToolSpec, ToolStatus
from frontdesk.agents.tool_run import ToolRun
from frontdesk.agents.turn import Turn
from frontdesk.agents.values import json_value

OWN_MODEL = "default"
"""The model that a client asks for where agents are to have their own."""

_ANSWERED_BY_ADK = frozenset({"set_model_response"})
"""Tools by which ADK itself asks a model for a structured answer."""


class CallbackTool(BaseTool):
    """A callback tool of the session, which the gateway runs, with its events."""

    def __init__(self, spec: ToolSpec, turn: Turn) -> None:
        super().__init__(name=spec.name, description=spec.description or spec.name)
        self._spec, self._turn = spec, turn

    def _get_declaration(self) -> types.FunctionDeclaration:
        return types.FunctionDeclaration(
            name=self.name,
            description=self.description,
            parameters_json_schema=self._spec.parameters or {"type": "object", "properties": {}},
        )

    async def run_async(self, *, args: dict[str, Any], tool_context: Any) -> Any:  # noqa: ARG002
        """Let the gateway call it; a failure is an answer for the model."""
        try:
            return {"result": await self._turn.call_tool(self.name, args)}
        except ToolFailed as error:
            return {"error": error.problem}
        except UnknownTool as error:
            return {"error": str(error)}


class TurnPlugin(BasePlugin):
    """One turn, as ADK calls it. `results` are those of the tools that came to an end."""

    def __init__(self, turn: Turn, sessions: BaseSessionService) -> None:
        super().__init__(name="frontdesk")
        self._turn, self._sessions = turn, sessions
        self._runs: dict[str, ToolRun] = {}
        self._unfinished: types.GenerateContentResponseUsageMetadata | None = None
        self.results: dict[str, Any] = {}

    # -- models ------------------------------------------------------------------------------------

    async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> None:
        """Put in what the client wants of the next call: model, prompt, tools, steering.

        An agent that is a tool of another has a session of its own, and nothing of the client's.
        """
        session, turn = self._turn.session, self._turn
        invocation = callback_context.get_invocation_context()
        if invocation.session.id != session.session_id:
            return
        if turn.model != OWN_MODEL:
            llm_request.model = turn.model
        if session.max_tokens is not None:
            llm_request.config.max_output_tokens = session.max_tokens
        if session.system_prompt:
            llm_request.append_instructions([session.system_prompt])
        llm_request.append_tools(
            [
                CallbackTool(spec, turn)
                for spec in turn.tools
                if spec.name not in llm_request.tools_dict
            ]
        )
        for text in turn.steering():
            said = types.UserContent(parts=[types.Part(text=text)])
            llm_request.contents.append(said)
            event = Event(
                invocation_id=invocation.invocation_id,
                author="user",
                branch=invocation.branch,
                content=said,
            )
            await self._sessions.append_event(session=invocation.session, event=event)

    async def after_model_callback(self, *, callback_context: Any, llm_response: Any) -> None:  # noqa: ARG002
        """Report what a call used: with its last response, which has the sum."""
        self._unfinished = llm_response.usage_metadata or self._unfinished
        if not llm_response.partial:
            self._report()

    def _report(self) -> None:
        used, self._unfinished = self._unfinished, None
        if used is None:
            self._turn.usage_unknown()
            return
        self._turn.usage(
            prompt=(used.prompt_token_count or 0) + (used.tool_use_prompt_token_count or 0),
            completion=(used.candidates_token_count or 0) + (used.thoughts_token_count or 0),
            cached=used.cached_content_token_count or 0,
        )

    # -- tools -------------------------------------------------------------------------------------

    async def before_tool_callback(
        self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any
    ) -> None:
        """Emit that a call begins, once: one that waits for a confirmation is called again."""
        call_id = tool_context.function_call_id
        told = isinstance(tool, CallbackTool) or tool.name in _ANSWERED_BY_ADK
        if call_id in self._runs or told:
            return
        self._runs[call_id] = ToolRun(
            self._turn.emit, tool.name, tool_args, now=time.monotonic, call_id=call_id
        )
        self._runs[call_id].begin()

    async def after_tool_callback(
        self,
        *,
        tool: Any,
        tool_args: dict[str, Any],  # noqa: ARG002 - ADK's signature
        tool_context: Any,
        result: Any,
    ) -> None:
        """Emit that it ended, unless it waits for somebody."""
        call_id = tool_context.function_call_id
        if call_id in tool_context.actions.requested_tool_confirmations:
            return
        if tool.is_long_running and not result:
            return
        confirmation = tool_context.tool_confirmation
        refused = confirmation is not None and not confirmation.confirmed
        self.end(call_id, "rejected" if refused else "ok", result)

    async def on_tool_error_callback(
        self,
        *,
        tool: Any,  # noqa: ARG002 - ADK's signature
        tool_args: dict[str, Any],  # noqa: ARG002
        tool_context: Any,
        error: BaseException,
    ) -> None:
        """Emit that it failed, with the type of the exception, or that it was cut off."""
        call_id = tool_context.function_call_id
        if isinstance(error, asyncio.CancelledError):
            self._end_run(call_id, "cancelled", None)
        else:
            self.results[call_id] = {"error": type(error).__name__}
            self._end_run(call_id, "error", type(error).__name__)

    def end(self, call_id: str, status: ToolStatus, result: Any) -> None:
        """Emit that a call ended, and remember with what."""
        plain = json_value(result)
        self.results[call_id] = plain if isinstance(plain, dict) else {"result": plain}
        self._end_run(call_id, status, plain)

    def _end_run(self, call_id: str, status: ToolStatus, result: Any) -> None:
        if (run := self._runs.pop(call_id, None)) is not None:
            run.end(status, result)

    def close_turn(self) -> None:
        """Tell of tools that were cut off, and what a call that was cut off has used."""
        for run in self._runs.values():
            run.end("cancelled")
        self._runs.clear()
        if self._unfinished is not None:
            self._report()
