"""What a graph remembers of a session between turns: its own state, mended where a turn was cut.

A turn that was cut short leaves calls without results in the state, which no provider takes, and
text that a client has read and the state has not. The next turn begins with both put right. An
agent that took over a conversation and finds no state begins with the history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolCall, ToolMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver

from frontdesk.agents.records import Message

CUT_OFF = "The call was cut off. Whether it took effect is not known."
"""What a model reads in place of a result that there is none of."""


class SessionSaver(InMemorySaver):
    """The checkpointer of one session whose graph brought none: it keeps the last checkpoint."""

    def forget_the_past(self, channels: Mapping[str, Any]) -> None:
        """Drop every checkpoint but the last, and those of subgraphs that are over.

        All are kept where a channel is one of differences, which is read from those before.
        """
        if any(isinstance(each, DeltaChannel) for each in channels.values()):
            return
        kept: set[tuple[str, str, str, Any]] = set()
        for thread_id, namespaces in self.storage.items():
            for namespace in [each for each in namespaces if ":" in each]:
                # It has a task's id: the subgraph ran for that task, and no other continues it.
                del namespaces[namespace]
            for namespace, checkpoints in namespaces.items():
                last = max(checkpoints)
                namespaces[namespace] = {last: checkpoints[last]}
                versions = self.serde.loads_typed(checkpoints[last][0])["channel_versions"]
                kept.update((thread_id, namespace, *each) for each in versions.items())
        self.writes.clear()
        for key in set(self.blobs) - kept:
            del self.blobs[key]


class CutTurn:
    """What is known of a turn beyond the graph's state, in case that it is cut short.

    `text` is what went out of the message `message_id`; `results` are those of tools that came to
    an end.
    """

    __slots__ = ("message_id", "prompt", "results", "text")

    def __init__(self, prompt: HumanMessage) -> None:
        self.prompt: HumanMessage = prompt
        self.results: dict[str, str] = {}
        self.message_id: str | None = None
        self.text: list[str] = []

    def begin_message(self, message_id: str | None) -> None:
        """Begin another message of the model."""
        self.message_id, self.text = message_id, []


def mended(
    known: Sequence[AnyMessage], cut: CutTurn | None, history: Sequence[Message]
) -> list[AnyMessage]:
    """Return what has to be added to the messages of a state before the next prompt."""
    if not known and history:
        return rebuilt(history)
    results = {each.call_id: each.content for each in history if each.role == "tool_result"}
    results.update(cut.results if cut else {})
    ids = {each.id for each in known}
    added: list[AnyMessage] = [
        ToolMessage(results.get(call["id"]) or CUT_OFF, tool_call_id=call["id"], name=call["name"])
        for call in unanswered(known)
    ]
    if cut is not None and cut.prompt.id not in ids:
        added.append(cut.prompt)
    if cut is not None and cut.text and cut.message_id not in ids:
        added.append(AIMessage("".join(cut.text)))
    return added


def unanswered(messages: Sequence[AnyMessage]) -> list[ToolCall]:
    """Return the calls of the last message of a model that have no result behind it."""
    answered = set()
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
        elif isinstance(message, AIMessage):
            return [call for call in message.tool_calls if call["id"] not in answered]
        else:
            break
    return []


def rebuilt(history: Sequence[Message]) -> list[AnyMessage]:
    """Return messages that say what the history says, each call with its result behind it."""
    results = {each.call_id: each for each in history if each.role == "tool_result"}
    messages: list[AnyMessage] = []
    for message in history:
        if message.role == "user":
            messages.append(HumanMessage(message.content))
        elif message.role == "assistant" and (message.content or message.tool_calls):
            calls = [
                ToolCall(
                    name=call.tool_name,
                    args=call.args if isinstance(call.args, dict) else {},
                    id=call.call_id,
                )
                for call in message.tool_calls
            ]
            messages.append(AIMessage(message.content, tool_calls=calls))
            for call in message.tool_calls:
                result = results.get(call.call_id)
                content = (result and result.content) or CUT_OFF
                messages.append(
                    ToolMessage(content, tool_call_id=call.call_id, name=call.tool_name)
                )
    return messages


def messages_of(values: Any) -> list[AnyMessage]:
    """Return the messages of a graph's state."""
    found = values.get("messages") if isinstance(values, Mapping) else None
    return list(found or ())
