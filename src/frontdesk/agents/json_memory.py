"""What an agent in Python keeps in `turn.memory`: one JSON value for each session.

It is the agent's own object within a turn, and what JSON makes of it from one turn to the next, so
that an agent finds the same whether it was started again or not.
"""

from __future__ import annotations

import contextlib
import json
import logging
from typing import Any

from frontdesk.agents.records import Memory, Restored
from frontdesk.agents.turn import TurnPort
from frontdesk.errors import InvalidArgument

KIND = "python"
VERSION = 1

MAX_BYTES = 1024 * 1024
"""Bytes of JSON that an agent may keep."""

_log = logging.getLogger("frontdesk.agents")


class JsonMemory:
    """The memory of one agent, which belongs to one turn at a time; all on one event loop."""

    __slots__ = ("_encoded", "_turn")

    def __init__(self, encoded: bytes = b"null") -> None:
        self._encoded = encoded
        self._turn: OneTurn | None = None

    @classmethod
    def restored(cls, restored: Restored) -> JsonMemory | None:
        """Return what the last agent left, None where it left nothing that can be read."""
        found = [memory for memory in restored.memories if memory.kind == KIND]
        if not found:
            return None
        left, problem = found[-1], ""
        if left.version != VERSION:
            problem = f"its version is {left.version}"
        else:
            try:
                json.loads(left.content)
            except (ValueError, RecursionError) as error:
                problem = str(error)
        if problem:
            _log.warning("what an agent had in turn.memory cannot be read: %s", problem)
            return None
        return cls(left.content)

    def begin(self, port: TurnPort) -> OneTurn:
        """Let a turn have it. One that was given up, and may still run, keeps what it has now."""
        if self._turn is not None:
            with contextlib.suppress(InvalidArgument):
                self._turn.end()
        self._turn = OneTurn(self, port, json.loads(self._encoded))
        return self._turn

    def take(self, turn: OneTurn, encoded: bytes) -> bool:
        """Take what a turn leaves, once; return whether that is new."""
        if turn is not self._turn:
            return False
        self._turn = None
        changed, self._encoded = encoded != self._encoded, encoded
        return changed


class OneTurn:
    """The memory as one turn has it: `value` is the agent's to change. `end` it."""

    __slots__ = ("_memory", "_port", "_value")

    def __init__(self, memory: JsonMemory, port: TurnPort, value: Any) -> None:
        self._memory, self._port, self._value = memory, port, value

    @property
    def value(self) -> Any:
        """Return what it holds."""
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        encoded(value)
        self._value = value

    def end(self) -> None:
        """Leave it to the next turn, and to the next agent; `InvalidArgument` for what cannot."""
        content = encoded(self._value)
        if self._memory.take(self, content):
            self._port.remember(Memory(kind=KIND, version=VERSION, content=content, replaces=True))


def encoded(value: Any) -> bytes:
    """Return a value as JSON; `InvalidArgument` where it is none, or too large.

    >>> encoded({"seen": (1, 2)})
    b'{"seen":[1,2]}'
    """
    try:
        content = json.dumps(
            value, allow_nan=False, ensure_ascii=False, separators=(",", ":")
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        expected = "a value of JSON: dicts, lists, text, numbers, true, false and null"
        raise InvalidArgument("turn.memory", expected=expected, got=str(error)) from error
    if len(content) > MAX_BYTES:
        expected = f"at most {MAX_BYTES} bytes of JSON"
        raise InvalidArgument("turn.memory", expected=expected, got=f"{len(content)} bytes")
    return content
