"""One turn of an agent of ADK's: its events, translated, and what it waits for, answered.

A turn is one run after another: the first begins with the prompt, each following one with the
answers to the calls that the run before it left open.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec
from google.adk.agents.invocation_context import LlmCallsLimitExceededError
from google.adk.agents.run_config import RunConfig
from google.adk.events import Event
from google.adk.runners import Runner
from google.genai import types
from pydantic import BaseModel

from frontdesk.agents.adk.plugin import TurnPlugin
from frontdesk.agents.errors import AgentFailed, TooManyModelCalls
from frontdesk.agents.events import Error, MessageDelta, MessageStart, ThinkingDelta, ToolCalls
from frontdesk.agents.turn import Turn
from frontdesk.agents.values import json_value

CONFIRMATION = "adk_request_confirmation"
INPUT = "adk_request_input"
CREDENTIAL = "adk_request_credential"
_OF_ADK = frozenset({CONFIRMATION, INPUT, CREDENTIAL})

_QUESTION_KEYS = ("question", "message", "prompt", "text")


class ADKRun:
    """Run an agent for one turn. `sent` is the text that went out of a message not yet whole."""

    __slots__ = ("_in_message", "_output", "_plugin", "_runner", "_turn", "_waiting", "sent")

    def __init__(self, turn: Turn, runner: Runner, plugin: TurnPlugin) -> None:
        self._turn, self._runner, self._plugin = turn, runner, plugin
        self._waiting: dict[str, types.FunctionCall] = {}
        self._in_message = False
        self._output: Any = None
        self.sent: list[str] = []

    async def go(self, user_id: str, session_id: str) -> None:
        """Run the agent until it waits for nothing more."""
        session = self._turn.session
        config = RunConfig.model_validate({"streaming_mode": "sse"})
        if session.max_turns is not None:
            config = config.model_copy(update={"max_llm_calls": session.max_turns})
        message: types.Content | None = types.UserContent(parts=[types.Part(text=self._turn.text)])
        while message is not None:
            events = self._runner.run_async(
                user_id=user_id, session_id=session_id, new_message=message, run_config=config
            )
            try:
                async with aclosing(events):
                    async for event in events:
                        self._on_event(event)
            except LlmCallsLimitExceededError as error:
                raise TooManyModelCalls(config.max_llm_calls) from error
            message = await self._answers()
        if self._output is not None:
            self._emit(text_of(self._output), thought=False)
            self.sent.clear()

    # -- events ------------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        parts = (event.content.parts if event.content else None) or []
        whole = not event.partial
        for part in parts:
            if part.text and not (whole and self.sent):
                self._emit(part.text, thought=bool(part.thought))
        if whole:
            # What a workflow's last node returns is its answer, where nobody has said it.
            spoken = any(part.text for part in parts)
            self._output = None if spoken else event.output if event.output else self._output
            self.sent.clear()
            self._in_message = False
            self._on_calls(event)
        if event.error_code and not event.get_function_responses():
            self._turn.emit(Error(event.error_code))

    def _emit(self, text: str, *, thought: bool) -> None:
        if thought:
            self._in_message = False
            self._turn.emit(ThinkingDelta(text))
            return
        if not self._in_message:
            self._in_message = True
            self._turn.emit(MessageStart())
        self._turn.emit(MessageDelta(text))
        self.sent.append(text)

    def _on_calls(self, event: Event) -> None:
        calls = event.get_function_calls()
        asked = sum(call.name not in _OF_ADK for call in calls)
        if asked:
            self._turn.emit(ToolCalls(asked))
        waiting = event.long_running_tool_ids or set()
        self._waiting.update({call.id: call for call in calls if call.id in waiting})
        for response in event.get_function_responses():
            self._waiting.pop(response.id or "", None)

    # -- what it waits for -------------------------------------------------------------------------

    async def _answers(self) -> types.Content | None:
        """Ask for everything that the run left open, at once; None where that is nothing."""
        calls, self._waiting = list(self._waiting.values()), {}
        if not calls:
            return None
        answers = await asyncio.gather(*map(self._answer, calls))
        return types.UserContent(
            parts=[
                types.Part(
                    function_response=types.FunctionResponse(
                        id=call.id, name=call.name, response=answer
                    )
                )
                for call, answer in zip(calls, answers, strict=True)
            ]
        )

    async def _answer(self, call: types.FunctionCall) -> dict[str, Any]:
        args: dict[str, Any] = call.args or {}
        if call.name == CREDENTIAL:
            raise AgentFailed("the agent asks for a credential, which a client cannot give")
        if call.name == CONFIRMATION:
            held = args["originalFunctionCall"]
            hint = args.get("toolConfirmation", {}).get("hint") or None
            approval = await self._turn.approval(held["name"], held.get("args"), hint=hint)
            return {"confirmed": approval.approved}
        answer = await self._turn.ask(_question(call.name or "", args))
        plain = json_value(answer)
        result = plain if isinstance(plain, dict) else {"result": plain}
        if call.name != INPUT:
            self._plugin.end(call.id or "", "ok", result)
        return result


def _question(name: str, args: dict[str, Any]) -> str:
    """Return the question that a call asks: its own words, or what is called with what."""
    asked = [args[key] for key in _QUESTION_KEYS if isinstance(args.get(key), str)]
    return asked[0] if asked else f"{name} {text_of(args)}"


def text_of(value: Any) -> str:
    """Return text as it is, and anything else as JSON."""
    if isinstance(value, str):
        return value
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else json_value(value)
    return msgspec.json.encode(plain).decode()
