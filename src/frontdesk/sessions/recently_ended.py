"""The conversations that ended recently, kept so that their streams can be replayed.

Beside the conversation, below the desk. It holds no agent and no task.
"""

from __future__ import annotations

from frontdesk.sessions.conversation import Conversation


class RecentlyEnded:
    """Hold the last `most` ended conversations, and of those at most `max_bytes` of events."""

    __slots__ = ("_bytes", "_ended", "_max_bytes", "_most")

    def __init__(self, *, most: int, max_bytes: int) -> None:
        self._most, self._max_bytes = most, max_bytes
        self._ended: dict[str, Conversation] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._ended)

    def get(self, registered_id: str) -> Conversation | None:
        """Return the conversation that ended last under this id, if it is still held."""
        return self._ended.get(registered_id)

    def add(self, registered_id: str, conversation: Conversation) -> None:
        """Keep a conversation that has ended; forget the oldest that are too many."""
        self._drop(registered_id)
        self._ended[registered_id] = conversation
        self._bytes += conversation.log.held_bytes
        while len(self._ended) > self._most or self._bytes > self._max_bytes:
            self._drop(next(iter(self._ended)))

    def _drop(self, registered_id: str) -> None:
        dropped = self._ended.pop(registered_id, None)
        if dropped is not None:
            self._bytes -= dropped.log.held_bytes
