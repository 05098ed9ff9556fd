"""A conversation's history as text, for an agent that takes no history but a prompt.

What tools were called is part of it, and which of them were cut off: who goes on must know what was
done already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from frontdesk.agents.records import Message

MAX_CHARACTERS = 20_000
"""Characters of a history, the newest, that come before a prompt."""

MAX_LINE_CHARACTERS = 2_000
"""Characters of one message, or of one tool's arguments and result."""


def with_history(prompt: str, history: Sequence[Message]) -> str:
    """Return a prompt behind all that was said and done before it.

    >>> print(with_history("And now?", (Message("user", "Hello"), Message("assistant", "Hi!"))))
    What was said and done before, in this conversation:
    user: Hello
    assistant: Hi!
    <BLANKLINE>
    Now:
    And now?
    """
    before = "\n".join(_lines(history))[-MAX_CHARACTERS:]
    if not before:
        return prompt
    return f"What was said and done before, in this conversation:\n{before}\n\nNow:\n{prompt}"


def with_cut_turn(prompt: str, cut: Sequence[Message]) -> str:
    """Return a prompt behind what tools did in a turn that was cut off, for an agent of before.

    That knows the rest, and may know this.

    >>> with_cut_turn("And now?", (Message("user", "Hello"),))
    'And now?'
    """
    done = [line for line in _lines(cut) if line.startswith("tool ")]
    if not done:
        return prompt
    listed = "\n".join(done)[-MAX_CHARACTERS:]
    return f"The turn before was cut off. Its tools:\n{listed}\n\nNow:\n{prompt}"


def _lines(history: Iterable[Message]) -> Iterator[str]:
    messages = tuple(history)
    results = {each.call_id: each for each in messages if each.role == "tool_result"}
    for message in messages:
        if message.role in ("user", "assistant") and message.content:
            yield f"{message.role}: {message.content[:MAX_LINE_CHARACTERS]}"
        for call in message.tool_calls:
            arguments = msgspec.json.encode(call.args).decode()[:MAX_LINE_CHARACTERS]
            result = results.get(call.call_id)
            ended = "was cut off; whether it took effect is not known"
            if result is not None:
                ended = f"{result.status or 'ok'}: {result.content[:MAX_LINE_CHARACTERS]}"
            yield f"tool {call.tool_name} {arguments}: {ended}"
