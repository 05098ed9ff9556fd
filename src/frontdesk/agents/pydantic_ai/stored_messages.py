"""How a session's model messages are left for its next agent: what each turn adds, as JSON.

A turn leaves what it changed at the end of the list, and now and then the whole list, so that what
is stored stays in proportion to what is remembered. What is long is left in several pieces.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelRequest

from frontdesk.agents.records import MAX_TURN_MEMORY_BYTES, Memory

KIND = "pydantic-ai"

FORMAT = 1

PIECE_BYTES = 1024 * 1024
"""Bytes of one piece."""

MAX_CHANGES_BYTES = 8 * 1024 * 1024
"""Bytes of changes after which the whole list is left anew."""


def version() -> int:
    """Return the version of what is written here: our own, and the library's major one."""
    major = importlib.metadata.version("pydantic-ai-slim").partition(".")[0]
    return FORMAT * 1000 + int(major)


class MemoryUnreadable(Exception):
    """What was left cannot be read here."""


def require_version(memory: Memory) -> None:
    """Raise `MemoryUnreadable` for what was written by another version."""
    if memory.version != version():
        raise MemoryUnreadable(f"version {memory.version}, this is {version()}")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """From a list of `before` messages, the first `dropped` go, and `added` come to its end."""

    before: int
    dropped: int
    added: msgspec.Raw

    @classmethod
    def between(cls, before: Sequence[ModelMessage], now: Sequence[ModelMessage]) -> Change:
        """Return what makes one list of the other."""
        before, now = without_instructions(before), without_instructions(now)
        dropped, remaining = _overlap(before, now)
        added = ModelMessagesTypeAdapter.dump_json(list(now[remaining:]), fallback=str)
        return cls(before=len(before), dropped=dropped, added=msgspec.Raw(added))

    def applied(self, before: Sequence[ModelMessage]) -> list[ModelMessage]:
        """Return the list that it makes; `MemoryUnreadable`."""
        if len(before) != self.before:
            raise MemoryUnreadable(f"it follows {self.before} messages, there are {len(before)}")
        try:
            added = ModelMessagesTypeAdapter.validate_json(bytes(self.added))
        except ValueError as error:
            raise MemoryUnreadable(f"messages of another form: {str(error)[:200]}") from error
        return [*before[self.dropped :], *added]


def without_instructions(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """Return messages without the system prompts that each request had.

    A client may have its secrets in its own, which is an option of the session and is stored as
    such; the next agent gives every request its instructions again.
    """
    return [
        replace(each, instructions=None)
        if isinstance(each, ModelRequest) and each.instructions is not None
        else each
        for each in messages
    ]


def _overlap(before: Sequence[ModelMessage], now: Sequence[ModelMessage]) -> tuple[int, int]:
    """Return how many messages go from the front of a list, and how many remain behind them."""
    for dropped in range(len(before)):
        remaining = len(before) - dropped
        if remaining <= len(now) and list(before[dropped:]) == list(now[:remaining]):
            return dropped, remaining
    return len(before), 0


class StoredMessages:
    """What is stored of a session's messages: `messages`, oldest first."""

    __slots__ = ("_changes_bytes", "_whole", "messages")

    def __init__(self) -> None:
        self.messages: list[ModelMessage] = []
        self._changes_bytes = 0
        self._whole = False
        """Whether what is stored begins with a whole list of this form."""

    def read(self, memories: Iterable[Memory]) -> None:
        """Take what former agents left; `MemoryUnreadable`, and then it is as if they had not."""
        messages: list[ModelMessage] = []
        pieces: list[bytes] = []
        for memory in memories:
            if memory.kind != KIND:
                continue
            require_version(memory)
            number, _, piece = memory.content.partition(b"\n")
            pieces.append(piece)
            if number.endswith(b"."):
                messages = _change_in(b"".join(pieces)).applied(messages)
                pieces.clear()
        if pieces:
            raise MemoryUnreadable("its last piece is missing")
        self.messages, self._whole = messages, bool(messages)

    def memories(self, now: Sequence[ModelMessage]) -> list[Memory]:
        """Return what a turn leaves that made this of the messages; it is stored from here on."""
        before = self.messages if self._whole else []
        change = Change.between(before, now)
        if change.dropped == len(before) or self._changes_bytes > MAX_CHANGES_BYTES:
            change = Change.between([], now)
        encoded = msgspec.json.encode(change)
        if len(encoded) > MAX_TURN_MEMORY_BYTES // 2:
            # Better nothing, which the next agent is told, than half of it.
            self.messages, self._whole = [], False
            return [_memory(b"1.", b"", replaces=True)]
        whole = not change.before
        self.messages, self._whole = without_instructions(now), True
        self._changes_bytes = 0 if whole else self._changes_bytes + len(encoded)
        pieces = [encoded[at : at + PIECE_BYTES] for at in range(0, len(encoded), PIECE_BYTES)]
        return [
            # Numbered, so that no two of them are alike.
            _memory(
                b"%d%b" % (number, b"." if number == len(pieces) else b""),
                piece,
                replaces=whole and number == 1,
            )
            for number, piece in enumerate(pieces, 1)
        ]


def _memory(number: bytes, piece: bytes, *, replaces: bool) -> Memory:
    content = b"%b\n%b" % (number, piece)
    return Memory(kind=KIND, version=version(), content=content, replaces=replaces)


def _change_in(encoded: bytes) -> Change:
    try:
        return msgspec.json.decode(encoded, type=Change)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise MemoryUnreadable(str(error)[:200]) from error
