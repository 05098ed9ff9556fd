"""One run of a Pydantic AI agent, translated to events of a turn.

It walks the run step by step: between two steps it takes steering and reports what was used, within
a model's step it passes on text and thoughts as they come.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import (
    FunctionToolResultEvent,
    ModelMessage,
    ModelRequestPart,
    NativeToolCallPart,
    NativeToolReturnPart,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    UserPromptPart,
)
from pydantic_ai.run import AgentRun
from pydantic_ai.usage import RunUsage
from pydantic_core import to_json

from frontdesk.agents.events import MessageDelta, MessageStart, ThinkingDelta, ToolCalls
from frontdesk.agents.tool_run import ToolRun
from frontdesk.agents.turn import Turn


class RunTranslator:
    """Translate one run. `sent` is the text that went out of a response that is not complete.

    `results` are those of the tools of a step that is under way. `on_result` is called after each
    of them. The first step of a run that is `resumed` is one that clients know of.
    """

    __slots__ = (
        "_in_message",
        "_native",
        "_reported",
        "_resumed",
        "_run",
        "_streamed",
        "_turn",
        "on_result",
        "results",
        "sent",
    )

    def __init__(self, run: AgentRun[Any, Any], turn: Turn, *, resumed: bool = False) -> None:
        self._run, self._turn, self._resumed = run, turn, resumed
        self.results: list[ModelRequestPart] = []
        self.on_result: Callable[[], None] | None = None
        self._reported = RunUsage()
        self._in_message = False
        self.sent: list[str] = []
        self._streamed = ""
        self._native: dict[str, ToolRun] = {}

    def messages(self) -> list[ModelMessage]:
        """Return the messages of the run so far, with those that it began with; none before it."""
        begins = Agent.is_user_prompt_node(self._run.next_node)
        return [] if begins else list(self._run.all_messages())

    async def go(self) -> str | None:
        """Run every step to the end; return what the agent answers, where that was not said yet."""
        run = self._run
        node = run.next_node
        while not Agent.is_end_node(node):
            for text in self._turn.steering():
                run.enqueue(text)
            if Agent.is_model_request_node(node):
                await self._model_step(node)
            elif Agent.is_call_tools_node(node):
                await self._tools_step(node)
            node = await run.next(node)
        return self._unsaid(None if run.result is None else run.result.output)

    async def _model_step(self, node: Any) -> None:
        self._in_message = False
        async with node.stream(self._run.ctx) as stream:
            try:
                async for event in stream:
                    self._translate(event)
            finally:
                # A stream that is cut short has used what it has used.
                self._report(stream.usage)
                for run in self._native.values():
                    run.end("cancelled")
                self._native.clear()
        self._streamed = "".join(self.sent)
        self.sent.clear()

    async def _tools_step(self, node: Any) -> None:
        if not self._resumed:
            self._emit_calls(node)
        self._resumed = False
        async with node.stream(self._run.ctx) as stream:
            async for event in stream:
                if isinstance(event, FunctionToolResultEvent):
                    self._on_result(event)
        self.results.clear()
        self._report(self._run.usage)

    def _emit_calls(self, node: Any) -> None:
        tools = self._run.ctx.deps.tool_manager
        found = [tools.get_tool_def(call.tool_name) for call in node.model_response.tool_calls]
        # An answer that comes as a call of an output tool is none.
        if calls := sum(each is None or each.kind != "output" for each in found):
            self._turn.emit(ToolCalls(calls))

    def _on_result(self, event: FunctionToolResultEvent) -> None:
        self.results.append(event.part)
        if event.content:
            self.results.append(UserPromptPart(event.content))
        if self.on_result is not None:
            self.on_result()

    def _unsaid(self, output: Any) -> str | None:
        """Return an agent's output as the text of a message of its own, unless the model said it.

        What is no text is JSON, and is whole: an answer that is to be valid cannot be streamed.
        """
        if output is None:
            return None
        if isinstance(output, str):
            text, known = output, self._streamed.rstrip().endswith(output.strip())
        else:
            text = to_json(output, fallback=str).decode()
            known = same_json(text, self._streamed)
        if known:
            return None
        self._turn.emit(MessageStart())
        return text

    def _translate(self, event: Any) -> None:
        if isinstance(event, PartStartEvent):
            if isinstance(event.part, TextPart):
                self._emit_text(event.part.content)
            elif isinstance(event.part, ThinkingPart):
                self._emit_thought(event.part.content)
            elif isinstance(event.part, NativeToolReturnPart):
                self._end_native(event.part)
        elif isinstance(event, PartEndEvent) and isinstance(event.part, NativeToolCallPart):
            self._begin_native(event.part)
        elif isinstance(event, PartDeltaEvent):
            if isinstance(event.delta, TextPartDelta):
                self._emit_text(event.delta.content_delta)
            elif isinstance(event.delta, ThinkingPartDelta):
                self._emit_thought(event.delta.content_delta)

    def _emit_text(self, text: str) -> None:
        if not text:
            return
        if not self._in_message:
            self._in_message = True
            self._turn.emit(MessageStart())
        self._turn.emit(MessageDelta(text))
        self.sent.append(text)

    def _emit_thought(self, text: str | None) -> None:
        if text:
            self._in_message = False
            self._turn.emit(ThinkingDelta(text))

    def _begin_native(self, part: NativeToolCallPart) -> None:
        """Tell of a tool that the provider runs itself: it is in the model's own stream."""
        self._in_message = False
        run = ToolRun(self._turn.emit, part.tool_name, part.args_as_dict(), now=time.monotonic)
        self._native[part.tool_call_id] = run
        run.begin()

    def _end_native(self, part: NativeToolReturnPart) -> None:
        if (run := self._native.pop(part.tool_call_id, None)) is not None:
            run.end("ok" if part.outcome == "success" else "error", part.content)

    def _report(self, used: RunUsage) -> None:
        """Report what was used since the last report."""
        before, self._reported = self._reported, RunUsage() + used  # a copy
        cost = float(used.cost or 0) - float(before.cost or 0)
        self._turn.usage(
            prompt=max(0, used.input_tokens - before.input_tokens),
            completion=max(0, used.output_tokens - before.output_tokens),
            cached=max(0, used.cache_read_tokens - before.cache_read_tokens),
            cost=max(0.0, cost),
        )


def same_json(text: str, streamed: str) -> bool:
    """Say whether what was streamed is this JSON, however it is spaced."""
    try:
        return bool(json.loads(streamed) == json.loads(text))
    except ValueError:
        return False
