"""The runs of one turn on the OpenAI Agents SDK, translated to events.

A run of the framework ends where it needs an approval: the turn asks for it and resumes the run's
state. Steering enters with the next model call, as a message of the user's.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agents import (
    Agent,
    MaxTurnsExceeded,
    ModelProvider,
    ModelSettings,
    RunConfig,
    Runner,
    RunResultStreaming,
    RunState,
)
from agents.items import (
    HandoffCallItem,
    HandoffOutputItem,
    MessageOutputItem,
    ToolApprovalItem,
)
from agents.run_config import DEFAULT_MAX_TURNS, CallModelData, ModelInputData

from frontdesk.agents.errors import TooManyModelCalls
from frontdesk.agents.events import MessageDelta, MessageStart, ThinkingDelta, ToolCalls
from frontdesk.agents.openai_agents.memory import Item, TurnRecord, user
from frontdesk.agents.openai_agents.tools import TurnAgents, TurnHooks, arguments_of, text_of
from frontdesk.agents.turn import Turn

_TEXT = ("response.output_text.delta", "response.refusal.delta")
_THOUGHTS = ("response.reasoning_text.delta", "response.reasoning_summary_text.delta")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What all runs of a blueprint have in common."""

    provider: ModelProvider
    context: Callable[[Turn], Any] | None
    tracing: bool
    own_model: str


class TurnRun:
    """One turn: as many runs as it takes, each going on where the one before was interrupted."""

    def __init__(self, turn: Turn, settings: RunSettings, record: TurnRecord) -> None:
        self._turn, self._settings, self._record = turn, settings, record
        self._agents = TurnAgents(turn)
        self._hooks = TurnHooks(turn, self._agents, record)
        self._steering: list[tuple[int, Item]] = []
        self._in_message = False

    async def go(self, agent: Agent[Any], before: list[Item]) -> Agent[Any]:
        """Run the turn to its end; return the agent that has the word then.

        1. A run starts with what was said before, or with the state of the one before it.
        2. It ends with an answer, with calls that need approval, or, where the client switched the
           model meanwhile, before the next call of a model.
        3. What it waits for is decided, and its state is resumed.
        """
        context = await self._made_context()
        start: list[Any] | RunState[Any] = [*before, user(self._turn.text)]
        error: BaseException | None = None
        try:
            while True:
                result = await self._run(self._agents.copy_of(agent), start, context)
                if self._hooks.ending or not self._goes_on(result):
                    break
                start = result.to_state()
                await self._decide(start, result.interruptions)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._hooks.end(error)
        if self._hooks.ending is not None:
            raise self._hooks.ending
        self._emit_output(result)
        self._record.whole = with_steering(result.to_input_list(mode="normalized"), self._steering)
        return self._agents.original_of(result.last_agent)

    def _goes_on(self, result: RunResultStreaming) -> bool:
        """Say whether a run has stopped before its end."""
        interrupted = self._hooks.interrupted and result.final_output is None
        return bool(result.interruptions) or interrupted

    def _emit_output(self, result: RunResultStreaming) -> None:
        """Emit an answer that no model has said: that of a tool which ends the run."""
        items, output = result.new_items, result.final_output
        if output is not None and not (items and isinstance(items[-1], MessageOutputItem)):
            self._turn.emit(MessageStart())
            self._turn.emit(MessageDelta(output if isinstance(output, str) else text_of(output)))

    async def _made_context(self) -> Any:
        if self._settings.context is None:
            return self._turn
        made = self._settings.context(self._turn)
        return await made if inspect.isawaitable(made) else made

    async def _run(self, agent: Agent[Any], start: Any, context: Any) -> RunResultStreaming:
        """Run until the framework stops; when it is cancelled, nothing of it goes on."""
        limit = self._turn.session.max_turns or DEFAULT_MAX_TURNS
        result = Runner.run_streamed(
            agent,
            start,
            context=None if isinstance(start, RunState) else context,
            max_turns=limit,
            hooks=self._hooks,
            run_config=self._config(),
        )
        self._hooks.begin(result)
        try:
            async for event in result.stream_events():
                if event.type == "raw_response_event":
                    self._translate(event.data)
                elif event.type == "run_item_stream_event":
                    self._item(event.item)
        except MaxTurnsExceeded:
            raise TooManyModelCalls(limit) from None
        finally:
            if result.run_loop_task is not None and not result.run_loop_task.done():
                result.cancel()
                await asyncio.wait([result.run_loop_task])
            self._hooks.report(result.context_wrapper.usage)
        return result

    def _config(self) -> RunConfig:
        session, model = self._turn.session, self._turn.model
        return RunConfig(
            model=None if model == self._settings.own_model else model,
            model_provider=self._settings.provider,
            model_settings=ModelSettings(max_tokens=session.max_tokens),
            tracing_disabled=not self._settings.tracing,
            group_id=session.session_id,
            call_model_input_filter=self._model_input,
            tool_error_formatter=self._hooks.on_tool_error,
        )

    def _model_input(self, data: CallModelData[Any]) -> ModelInputData:
        """Put the client's system prompt and the steering that came into a model call.

        Not into one of an agent that is another's tool: its run has this function as well.
        """
        asked = data.model_data
        if not self._agents.has(data.agent):
            return asked
        self._steering.extend((len(asked.input), user(text)) for text in self._turn.steering())
        parts = (asked.instructions, self._turn.session.system_prompt)
        return ModelInputData(
            input=with_steering(asked.input, self._steering),
            instructions="\n\n".join(part for part in parts if part) or None,
        )

    async def _decide(self, state: RunState[Any], waiting: list[ToolApprovalItem]) -> None:
        """Ask for every approval at once; the model reads of a rejection."""
        answers = await asyncio.gather(
            *(
                self._turn.approval(item.name or "tool", arguments_of(item.arguments))
                for item in waiting
            )
        )
        for item, answer in zip(waiting, answers, strict=True):
            if answer.approved:
                state.approve(item)
            else:
                reason = f": {answer.reason}" if answer.reason else "."
                message = f"The user did not approve this call ({answer.status}){reason}"
                state.reject(item, rejection_message=message)

    # -- events --------------------------------------------------------------------------------

    def _translate(self, data: Any) -> None:
        """Pass on text and thoughts as they come."""
        if data.type in _TEXT and data.delta:
            if not self._in_message:
                self._in_message = True
                self._turn.emit(MessageStart())
            self._turn.emit(MessageDelta(data.delta))
            self._record.sent.append(data.delta)
        elif data.type in _THOUGHTS and data.delta:
            self._in_message = False
            self._turn.emit(ThinkingDelta(data.delta))
        elif data.type == "response.completed":
            self._in_message = False
            calls = sum(item.type == "function_call" for item in data.response.output)
            if calls:
                self._turn.emit(ToolCalls(calls))

    def _item(self, item: Any) -> None:
        """Remember an item that is complete; a handoff shows as a tool that returns its agent."""
        if isinstance(item, ToolApprovalItem):
            return
        self._record.add(dict(item.to_input_item()))
        if isinstance(item, MessageOutputItem):
            self._record.sent.clear()
        elif isinstance(item, HandoffCallItem):
            call = item.raw_item
            self._hooks.started(call.name, call.arguments, call.call_id)
        elif isinstance(item, HandoffOutputItem):
            call_id = str(dict(item.raw_item)["call_id"])
            self._hooks.ended(call_id, {"agent": item.target_agent.name})


def with_steering(items: list[Any], steering: list[tuple[int, Item]]) -> list[Any]:
    """Return the items with each steering text where it came in."""
    mixed = list(items)
    for before, (place, item) in enumerate(steering):
        mixed.insert(place + before, item)
    return mixed
