"""One turn of a remote agent, by either API: ask, pass on what comes, run tools, ask again.

An agent that calls functions gets the session's callback tools, if there are any; whatever tools it
has of its own, it runs where it is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from frontdesk.agents.errors import AgentFailed, ToolFailed, TooManyModelCalls, UnknownTool
from frontdesk.agents.events import Event, MessageDelta, MessageStart, ThinkingDelta, ToolCalls
from frontdesk.agents.openai.remote_client import RemoteClient
from frontdesk.agents.records import MAX_USED_TOKENS, Message, TokenUsage, ToolSpec
from frontdesk.agents.turn import Turn
from frontdesk.agents.values import encodable, json_value, read_json

MAX_TURNS = 50
"""Requests in a turn, where the client says nothing."""

MAX_CALLS = 64
"""Calls of callback tools that one answer may ask for."""

NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


@dataclass(slots=True)
class Call:
    """A call of one of the client's tools, as the remote agent asks for it, piece by piece."""

    call_id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Return the arguments, as they came."""
        return "".join(self.arguments)


@dataclass(slots=True)
class RemoteAnswer:
    """What came of one request so far. `calls` are by their place; `usage` is None until told."""

    sent: list[str] = field(default_factory=list)
    calls: dict[int, Call] = field(default_factory=dict)
    usage: TokenUsage | None = None
    whole: bool = False

    def call(self, place: Any) -> Call:
        """Return the call at a place."""
        place = place if isinstance(place, int) else 0
        if place not in self.calls and len(self.calls) >= MAX_CALLS:
            raise AgentFailed(f"the remote agent asked for more than {MAX_CALLS} calls at once")
        return self.calls.setdefault(place, Call())


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request is made of, beside what was said."""

    model: str
    tools: Sequence[ToolSpec]
    instructions: str | None
    max_tokens: int | None


class Dialect(Protocol):
    """One of the two APIs, for one session."""

    path: str

    def begin(self, history: Sequence[Message], prompt: str) -> None:
        """Begin a turn."""
        ...

    def body(self, asked: Asked) -> dict[str, Any]:
        """Return the request."""
        ...

    def read(self, event: Any, answer: RemoteAnswer) -> Iterator[Event]:
        """Yield what an event of an answer says; the rest of it goes into the answer."""
        ...

    def go_on(self, answer: RemoteAnswer, results: Sequence[str], steering: Sequence[str]) -> None:
        """Take in what became of the answer's calls, and what the user said meanwhile."""
        ...


class RemoteTurn:
    """One turn: as many requests as the client's tools are called between."""

    def __init__(
        self, turn: Turn, client: RemoteClient, dialect: Dialect, *, default_model: str
    ) -> None:
        self._turn, self._client, self._dialect = turn, client, dialect
        self._default_model = default_model

    async def go(self) -> None:
        """Run the turn to its end."""
        turn = self._turn
        self._dialect.begin(turn.history, turn.text)
        limit = turn.session.max_turns or MAX_TURNS
        for _ in range(limit):
            answer = await self._ask()
            if not answer.calls:
                return
            calls = [answer.calls[place] for place in sorted(answer.calls)]
            turn.emit(ToolCalls(len(calls)))
            results = await asyncio.gather(*(self._run(call) for call in calls))
            self._dialect.go_on(answer, results, turn.steering())
        raise TooManyModelCalls(limit)

    async def _ask(self) -> RemoteAnswer:
        """Send one request, and pass on what comes. What it used counts however it ends."""
        turn, answer = self._turn, RemoteAnswer()
        session, model = turn.session, turn.model
        asked = Asked(
            model=self._default_model if model == "default" else model,
            tools=turn.tools,
            instructions=session.system_prompt,
            max_tokens=session.max_tokens,
        )
        try:
            async for event in self._client.events(self._dialect.path, self._dialect.body(asked)):
                for each in self._read(event, answer):
                    self._emit(each, answer)
        finally:
            if answer.usage is not None:
                used = answer.usage
                turn.usage(prompt=used.prompt, completion=used.completion, cached=used.cached)
            else:
                turn.usage_unknown()
        if not answer.whole:
            raise AgentFailed("the remote agent's answer breaks off")
        return answer

    def _read(self, event: Any, answer: RemoteAnswer) -> list[Event]:
        try:
            return list(self._dialect.read(event, answer))
        except (AttributeError, TypeError):
            # Not what the API has in these places.
            raise AgentFailed("the remote agent's answer cannot be read") from None

    def _emit(self, event: Event, answer: RemoteAnswer) -> None:
        if isinstance(event, MessageDelta):
            if not answer.sent:
                self._turn.emit(MessageStart())
            answer.sent.append(event.delta)
        self._turn.emit(event)

    async def _run(self, call: Call) -> str:
        """Run a callback tool; a failure is an answer for the remote agent."""
        try:
            arguments = read_json(call.text.encode() or b"{}")
        except Exception:  # noqa: BLE001 - whatever it is, it is no JSON
            arguments = call.text
        try:
            result = await self._turn.call_tool(call.name, arguments)
        except (ToolFailed, UnknownTool) as error:
            result = {"error": getattr(error, "problem", str(error))}
        return result if isinstance(result, str) else json.dumps(json_value(result))


def text_delta(text: Any) -> Iterator[Event]:
    """Yield a piece of text, if it is one."""
    if isinstance(text, str) and text:
        yield MessageDelta(encodable(text))


def thought_delta(text: Any) -> Iterator[Event]:
    """Yield a piece of a thought, if it is one."""
    if isinstance(text, str) and text:
        yield ThinkingDelta(encodable(text))


def usage_of(usage: Any, *, prompt: str, completion: str) -> TokenUsage | None:
    """Return what an answer says that it used, under these names; None where it says nothing."""
    if not isinstance(usage, dict) or not isinstance(usage.get(prompt), int):
        return None
    details = usage.get(f"{prompt}_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return TokenUsage(_tokens(usage.get(prompt)), _tokens(usage.get(completion)), _tokens(cached))


def _tokens(value: Any) -> int:
    return min(max(value, 0), MAX_USED_TOKENS) if type(value) is int else 0
