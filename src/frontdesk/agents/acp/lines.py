"""The lines of an ACP agent's output, within bounds: what is too long is left out, not kept.

One line is one message. A message of which only the beginning and the end were kept still says
whose answer it is, or what was asked, so that it can be refused without ending its agent.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Bytes of one message of an agent that are read; a longer one is left out, and that is said."""

MAX_LINE_BYTES = 16 * 1024 * 1024
"""Bytes of one line, read or left out; an agent that sends a longer one is ended."""

MAX_STRAY_BYTES = 64 * 1024
"""Bytes of one line that is no message, as its first character shows."""

_ENDS_BYTES = 4096


class LineTooLong(Exception):
    """A line is longer than any may be."""


@dataclass(frozen=True, slots=True)
class LongLine:
    """What is known of a line that was left out: its beginning, its end, its length."""

    begin: bytes
    end: bytes
    size: int


class Lines:
    """Cut a stream of bytes into lines."""

    __slots__ = ("_begin", "_bytes", "_dropped", "_head", "_searched")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._begin = self._searched = self._dropped = 0
        self._head = b""

    def feed(self, piece: bytes) -> None:
        """Add what was read, once every whole line was taken out."""
        del self._bytes[: self._begin]
        self._searched -= self._begin
        self._begin = 0
        self._bytes += piece

    def take(self) -> bytes | LongLine | None:
        """Return the next whole line; None until more was fed. Raises `LineTooLong`."""
        end = self._bytes.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._bytes)
            self._check(self._searched)
            if self._searched - self._begin > MAX_MESSAGE_BYTES:
                self._drop(self._searched)
            return None
        self._check(end)
        size = self._dropped + end - self._begin
        if size > MAX_MESSAGE_BYTES:
            last = bytes(memoryview(self._bytes)[max(self._begin, end - _ENDS_BYTES) : end])
            self._drop(end)
            line: bytes | LongLine = LongLine(self._head, last, size)
            self._head, self._dropped = b"", 0
        else:
            line = bytes(memoryview(self._bytes)[self._begin : end])
        self._begin = self._searched = end + 1
        return line

    def _drop(self, end: int) -> None:
        """Forget the line under way, up to here, but for its beginning and what may be its end."""
        if not self._dropped:
            self._head = bytes(memoryview(self._bytes)[self._begin : self._begin + _ENDS_BYTES])
        kept = max(self._begin, end - _ENDS_BYTES)
        self._dropped += kept - self._begin
        self._begin = kept

    def _check(self, end: int) -> None:
        size = self._dropped + end - self._begin
        if size <= MAX_STRAY_BYTES:
            return
        begin = self._head or self._bytes[self._begin : self._begin + 64]
        if not begin[:64].lstrip().startswith(b"{"):
            raise LineTooLong("what it says is not the Agent Client Protocol")
        if size > MAX_LINE_BYTES:
            raise LineTooLong(f"it has sent a message of over {MAX_LINE_BYTES} bytes")
