"""What the agent of one turn leaves for the next agent of its session."""

from __future__ import annotations

from collections.abc import Callable

from frontdesk.agents.records import MAX_TURN_MEMORY_BYTES, Memory
from frontdesk.errors import InvalidArgument


class TurnMemories:
    """Collect what is to be kept with a turn's end, up to a bound, and what comes after that.

    `left` is read at the end. `on_late` is called with each memory that comes after it.
    """

    __slots__ = ("_size", "left", "on_late")

    def __init__(self) -> None:
        self.left: list[Memory] = []
        self.on_late: Callable[[Memory], None] | None = None
        self._size = 0

    def add(self, memory: Memory, *, over: bool) -> None:
        """Take a memory of a turn that is `over` or not; `InvalidArgument` for too much."""
        self._size += len(memory.content)
        if self._size > MAX_TURN_MEMORY_BYTES:
            expected = f"{MAX_TURN_MEMORY_BYTES} bytes a turn at most"
            raise InvalidArgument("memory", expected=expected, got=f"{self._size} bytes")
        if not over:
            self.left.append(memory)
        elif self.on_late is not None:
            self.on_late(memory)
