"""The tools of a turn on the OpenAI Agents SDK: the agents' own, with events, and the client's.

The framework's hooks say when a tool of an agent's begins and ends. Callback tools are put beside
them in copies of the agents, which belong to one turn alone: two sessions have the same agents, and
not the same callback tools.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from typing import Any

import msgspec
from agents import (
    Agent,
    FunctionTool,
    Handoff,
    RunHooks,
    RunResultStreaming,
    Usage,
    handoff,
)
from agents.run_config import ToolErrorFormatterArgs
from agents.tool_context import ToolContext

from frontdesk.agents.errors import ToolFailed, UnknownTool
from frontdesk.agents.openai_agents.memory import TurnRecord, output
from frontdesk.agents.records import ToolSpec
from frontdesk.agents.tool_run import ToolRun
from frontdesk.agents.turn import EndSession, Turn
from frontdesk.agents.values import json_value

_NO_PARAMETERS = {"type": "object", "properties": {}}


class CallbackFunction(FunctionTool):
    """A callback tool of the session, which the gateway runs, with its events."""


def callback(spec: ToolSpec, turn: Turn) -> CallbackFunction:
    """Return a callback tool as the framework calls it; a failure is an answer for the model."""

    async def invoke(_: ToolContext[Any], arguments: str) -> str:
        try:
            result = await turn.call_tool(spec.name, arguments_of(arguments))
        except ToolFailed as error:
            result = {"error": error.problem}
        except UnknownTool as error:
            result = {"error": str(error)}
        return result if isinstance(result, str) else text_of(result)

    return CallbackFunction(
        name=spec.name,
        description=spec.description,
        params_json_schema=spec.parameters or _NO_PARAMETERS,
        on_invoke_tool=invoke,
        strict_json_schema=False,
    )


def arguments_of(text: str | None) -> Any:
    """Return the arguments of a call; what is no JSON as it is."""
    try:
        return msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        return text


def text_of(value: Any) -> str:
    """Return a value as a model reads it."""
    return msgspec.json.encode(json_value(value)).decode()


class TurnAgents:
    """The operator's agents as one turn runs them, with the session's callback tools."""

    __slots__ = ("_copies", "_turn")

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._copies: list[tuple[Agent[Any], Agent[Any]]] = []

    def copy_of(self, agent: Agent[Any]) -> Agent[Any]:
        """Return the turn's copy of an agent, with copies of those that it hands off to."""
        for original, made in self._copies:
            if agent is original or agent is made:
                return made
        made = agent.clone(tools=list(agent.tools))
        self._copies.append((agent, made))  # before its handoffs: they may lead back
        made.handoffs = [self._handoff(each) for each in agent.handoffs]
        self._offer(agent, made)
        return made

    def has(self, agent: Agent[Any]) -> bool:
        """Say whether an agent is one of the turn's copies."""
        return any(made is agent for _, made in self._copies)

    def original_of(self, agent: Agent[Any]) -> Agent[Any]:
        """Return the operator's agent behind a copy."""
        return next((original for original, made in self._copies if made is agent), agent)

    def refresh(self) -> None:
        """Offer the callback tools that are attached now, from the next model call on."""
        for original, made in self._copies:
            self._offer(original, made)

    def _offer(self, original: Agent[Any], made: Agent[Any]) -> None:
        own = {tool.name for tool in original.tools}
        added = [callback(spec, self._turn) for spec in self._turn.tools if spec.name not in own]
        # In place: the framework takes another list for a change by another run.
        made.tools[:] = [*original.tools, *added]

    def _handoff(self, to: Agent[Any] | Handoff[Any, Any]) -> Handoff[Any, Any]:
        if isinstance(to, Agent):
            return handoff(self.copy_of(to))

        async def invoke(context: Any, arguments: str) -> Agent[Any]:
            return self.copy_of(await to.on_invoke_handoff(context, arguments))

        made = dataclasses.replace(to, on_invoke_handoff=invoke)
        made._agent_ref = to._agent_ref
        return made


class TurnHooks(RunHooks[Any]):
    """Emit the beginning and the end of each tool, and count what each model call used.

    `interrupted` says that the run was asked to stop before its next model call; `ending`, that a
    tool ends the session.
    """

    interrupted: bool

    def __init__(self, turn: Turn, agents: TurnAgents, record: TurnRecord) -> None:
        self._turn, self._agents, self._record = turn, agents, record
        self._runs: dict[str, ToolRun] = {}
        self._failed: dict[str, str] = {}
        self._reported = Usage()
        self._result: RunResultStreaming | None = None
        self._model = turn.model
        self._calling = False
        self.interrupted = False
        self.ending: EndSession | None = None

    def begin(self, result: RunResultStreaming) -> None:
        """Begin with a run of the turn's."""
        self._result, self._model, self.interrupted = result, self._turn.model, False

    async def on_llm_start(self, *_: Any) -> None:
        """Note that a model is called."""
        self._calling = True

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:  # noqa: ARG002
        """Report what the call used; some servers do not say, which is not nothing."""
        self._calling = False
        self.report(context.usage)
        if not response.usage.total_tokens:
            self._turn.usage_unknown()

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:  # noqa: ARG002
        """Emit that a tool of the agent's begins; the gateway does it for a callback tool."""
        self.report(context.usage)
        if isinstance(tool, CallbackFunction) or not isinstance(context, ToolContext):
            return
        self.started(context.tool_name, context.tool_arguments, context.tool_call_id)

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: object) -> None:  # noqa: ARG002
        """Emit that it ended, and remember what it returned."""
        self.report(context.usage)
        self._follow_changes()
        if not isinstance(context, ToolContext):
            return
        self._record.add(output(context.tool_call_id, str(result)))
        self.ended(context.tool_call_id, result)

    async def on_handoff(self, context: Any, from_agent: Any, to_agent: Any) -> None:  # noqa: ARG002
        """Notice what the client changed meanwhile."""
        self._follow_changes()

    def on_tool_error(self, failure: ToolErrorFormatterArgs[Any]) -> None:
        """Note that a tool failed. The framework's own words go to the model.

        One that ends its session has failed to the framework, which would go on.
        """
        if failure.kind == "tool_exception" and failure.error is not None:
            self._failed[failure.call_id] = type(failure.error).__name__
            if isinstance(failure.error, EndSession):
                self.ending = failure.error
                self._stop()

    def started(self, name: str, arguments: str | None, call_id: str) -> None:
        """Emit that a call begins: of a tool, or one by which an agent hands off to another."""
        run = ToolRun(
            self._turn.emit, name, arguments_of(arguments), now=time.monotonic, call_id=call_id
        )
        self._runs[call_id] = run
        run.begin()

    def ended(self, call_id: str, result: object) -> None:
        """Emit that a call ended; the client's own tools have no run here."""
        run, failure = self._runs.pop(call_id, None), self._failed.pop(call_id, None)
        if run is not None:
            run.end("ok", result) if failure is None else run.end("error", failure)

    def end(self, error: BaseException | None) -> None:
        """End the tools that were cut off; of a model's call that was, nobody knows the usage."""
        if self._calling:
            self._turn.usage_unknown()
        while self._runs:
            _, run = self._runs.popitem()
            if isinstance(error, Exception):
                run.end("error", type(error).__name__)
            else:
                run.end("cancelled")

    def report(self, used: Usage) -> None:
        """Report what was used since the last report."""
        before, self._reported = self._reported, copy.copy(used)
        cached = used.input_tokens_details.cached_tokens - before.input_tokens_details.cached_tokens
        prompt = max(0, used.input_tokens - before.input_tokens)
        completion = max(0, used.output_tokens - before.output_tokens)
        if prompt or completion:
            self._turn.usage(prompt=prompt, completion=completion, cached=max(0, cached))

    def _follow_changes(self) -> None:
        """Offer other callback tools; for another model, let the run stop before it is called."""
        self._agents.refresh()
        if self._turn.model != self._model:
            self._stop()

    def _stop(self) -> None:
        """Let the run end before its next model call."""
        if self._result is not None:
            self.interrupted = True
            self._result.cancel(mode="after_turn")
