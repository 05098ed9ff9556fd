"""The history of one conversation: its messages, numbered, bounded."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from frontdesk.agents.records import Message
from frontdesk.errors import InvalidArgument

_OVERHEAD = 256
_BYTES_PER_OBJECT = 64


@dataclass(frozen=True, slots=True)
class MessagePage:
    """A part of a history. `next` is the cursor of the following part, None where there is none."""

    messages: tuple[Message, ...]
    next: str | None


class History:
    """Hold the last `max_messages` messages, and of those as many as take `max_bytes` of memory.

    The newest message is kept whatever its size. Numbers count from 1 and are never reused, so a
    cursor stays right while old messages go.
    """

    __slots__ = ("_max_bytes", "_max_messages", "_messages", "_newest", "_size", "on_add")

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self.on_add: Callable[[int, Message], None] | None = None
        """Called with each message and its number, where it is stored."""
        self._messages: deque[Message] = deque()
        self._size = self._newest = 0

    def add(self, message: Message) -> None:
        """Append a message and drop the oldest that are too many."""
        self._messages.append(message)
        self._newest += 1
        self._size += _size_of(message)
        while len(self._messages) > 1 and (
            len(self._messages) > self._max_messages or self._size > self._max_bytes
        ):
            self._size -= _size_of(self._messages.popleft())
        if self.on_add is not None:
            self.on_add(self._newest, message)

    def restore(self, messages: Iterable[Message], *, newest: int) -> None:
        """Hold what was stored of an earlier life, up to the message of the number `newest`."""
        for message in messages:
            self.add(message)
        self._newest = newest

    @property
    def last_position(self) -> int:
        """Return the number of the newest message, 0 before the first."""
        return self._newest

    def all(self) -> tuple[Message, ...]:
        """Return every message that is held, oldest first."""
        return tuple(self._messages)

    def clear(self) -> None:
        """Forget everything that is held."""
        self._messages.clear()
        self._size = 0

    def page(self, *, limit: int = 100, after: str | None = None) -> MessagePage:
        """Return up to `limit` messages after a cursor; `InvalidArgument` for a wrong one."""
        oldest = self._newest - len(self._messages) + 1
        first = max(position_of(after) + 1, oldest)
        chosen = list(self._messages)[first - oldest : first - oldest + limit]
        last = first + len(chosen) - 1
        following = str(last) if chosen and last < self._newest else None
        return MessagePage(tuple(chosen), following)


def _size_of(message: Message) -> int:
    parts = (*message.tool_calls, *message.attachments)
    called = sum(_size_of_json(msgspec.json.encode(each)) for each in parts)
    return sys.getsizeof(message.content) + sys.getsizeof(message.call_id) + called + _OVERHEAD


def _size_of_json(text: bytes) -> int:
    """Return about how much memory the dicts, lists, numbers and texts of a JSON text take."""
    return len(text) + _BYTES_PER_OBJECT * sum(map(text.count, (b",", b":", b"{", b"[")))


def position_of(cursor: str | None) -> int:
    """Return the number of the message that a cursor stands after; `InvalidArgument`."""
    if cursor is None:
        return 0
    if cursor.isascii() and cursor.isdigit() and len(cursor) < 20:
        return int(cursor)
    raise InvalidArgument("after", expected="a cursor from `next`", got=repr(cursor[:40]))
