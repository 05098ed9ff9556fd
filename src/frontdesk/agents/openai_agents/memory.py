"""What a session of the OpenAI Agents SDK remembers between turns: its input items, bounded.

Of a turn that was cut short (abort, error, deadline) everything is kept that certainly happened:
the text that went out, the tools that were called, what they returned. Each call has its result
behind it, as every provider wants it; one that was cut off says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from frontdesk.agents.records import Message

Item = dict[str, Any]
"""One input item of the Responses API, which the framework takes for every provider."""

MAX_ITEMS = 400
"""Items that are kept; they are cut where a user's prompt begins."""

_CALL, _OUTPUT = "function_call", "function_call_output"

CUT_OFF = "The call was cut off. Whether it took effect is not known."
"""What a model reads in place of a result that there is none of."""


class TurnRecord:
    """What one turn adds to the memory, as far as it has come.

    `sent` is the text that went out of a message that is not complete. `whole` is everything, the
    items before the turn included, once it has finished.
    """

    __slots__ = ("_items", "_prompt", "_seen", "sent", "whole")

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt
        self._items: list[Item] = []
        self._seen: set[tuple[Any, Any]] = set()
        self.sent: list[str] = []
        self.whole: list[Item] | None = None

    def add(self, item: Item) -> None:
        """Add an item, once, however often it is told."""
        key = item.get("type"), item.get("call_id") or id(item)
        if key not in self._seen:
            self._seen.add(key)
            self._items.append(item)

    def items(self) -> list[Item]:
        """Return what there is to remember of the turn now."""
        items = list(self._items)
        # A thought that nothing follows is refused by the provider that made it.
        while items and items[-1].get("type") == "reasoning":
            items.pop()
        added = answered([user(self._prompt), *items])
        if self.sent:
            added.append({"role": "assistant", "content": "".join(self.sent)})
        return added


class Memory:
    """The input items of one session, oldest first, up to the turn under way."""

    __slots__ = ("_turn", "items")

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._turn: TurnRecord | None = None

    def begin(self, prompt: str, history: Sequence[Message]) -> TurnRecord:
        """Begin a turn, whose input begins with `items`: rebuilt for a new agent.

        A turn that was given up, and may still run, is remembered as far as it has come.
        """
        if self._turn is not None:
            self.end(self._turn)
        if not self.items and history:
            self.items = bounded(rebuilt(history))
        self._turn = TurnRecord(prompt)
        return self._turn

    def end(self, turn: TurnRecord) -> None:
        """Keep what a turn adds, as far as there is room. Once for each."""
        if turn is self._turn:
            self._turn = None
            whole = turn.whole
            self.items = bounded([*self.items, *turn.items()] if whole is None else whole)


def user(text: str) -> Item:
    """Return a user's message."""
    return {"role": "user", "content": text}


def bounded(items: list[Item]) -> list[Item]:
    """Return the last items, beginning with a user's prompt."""
    first = max(0, len(items) - MAX_ITEMS)
    if not first:
        return items
    for place in range(first, len(items)):
        if items[place].get("role") == "user":
            return items[place:]
    return []


def output(call_id: str, result: str) -> Item:
    """Return the result of a call."""
    return {"type": "function_call_output", "call_id": call_id, "output": result}


def answered(items: Sequence[Item]) -> list[Item]:
    """Return the items with the result of each call behind it: `CUT_OFF` where there is none."""
    results = {each["call_id"]: each for each in items if each.get("type") == _OUTPUT}
    complete: list[Item] = []
    calls: list[str] = []
    over = False
    for item in (*items, None):
        kind = None if item is None else item.get("type")
        if kind == _OUTPUT:
            over = True  # what is called from here on was not called together with those before
            continue
        if over or kind not in (_CALL, "reasoning"):
            complete.extend(results.get(call) or output(call, CUT_OFF) for call in calls)
            calls.clear()
            over = False
        if item is not None:
            complete.append(item)
        if item is not None and kind == _CALL:
            calls.append(item["call_id"])
    return complete


def rebuilt(history: Sequence[Message]) -> list[Item]:
    """Return items that say what the history says, for an agent that was not there."""
    items: list[Item] = []
    for message in history:
        if message.role == "user":
            items.append(user(message.content))
        elif message.role == "tool_result" and message.call_id is not None:
            if message.content or message.status != "cancelled":
                items.append(output(message.call_id, message.content))
        elif message.role == "assistant":
            if message.content:
                items.append({"role": "assistant", "content": message.content})
            items.extend(
                {
                    "type": _CALL,
                    "call_id": call.call_id,
                    "name": call.tool_name,
                    "arguments": msgspec.json.encode(call.args or {}).decode(),
                }
                for call in message.tool_calls
            )
    return answered(items)
