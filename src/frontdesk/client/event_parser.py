"""Server-sent events out of bytes, however these are cut.

A plain object that is given what comes and gives back whole frames, as the standard has them
(https://html.spec.whatwg.org/multipage/server-sent-events.html, "Interpreting an event stream").
What ends in the midst of a frame was never sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from frontdesk.client.errors import MalformedAnswerError

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Where a frame is none any more. An event of a session has 1 MiB or so at most."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One event of a stream. `id` is None where the frame has none."""

    event: str
    data: bytes
    id: str | None


class EventParser:
    """Takes pieces of one stream, and gives the frames that are whole.

    Holds at most one frame, of at most 16 MiB.
    """

    __slots__ = ("_after_cr", "_data", "_event", "_id", "_line", "_size")

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._after_cr = False
        self._size = 0
        self._event, self._data = "", list[bytes]()
        self._id: str | None = None

    def frames(self, piece: bytes) -> Iterator[Frame]:
        """Give the frames that end in this piece. `MalformedAnswerError` for one without an end."""
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        self._after_cr = False
        for line in piece.splitlines(keepends=True):
            self._after_cr = line.endswith(b"\r")
            self._size += len(line)
            if self._size > MAX_FRAME_BYTES:
                raise MalformedAnswerError(
                    f"a frame of the stream is over {MAX_FRAME_BYTES} bytes long"
                )
            self._line.append(line)
            if line.endswith((b"\n", b"\r")):
                whole, self._line = b"".join(self._line).rstrip(b"\r\n"), []
                if whole:
                    self._on_line(whole)
                elif (frame := self._on_blank_line()) is not None:
                    yield frame

    def _on_line(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
            case b"event":
                self._event = value.decode(errors="replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode(errors="replace")
            case _:
                pass  # a comment, `retry`, or of a later standard

    def _on_blank_line(self) -> Frame | None:
        frame = Frame(self._event or "message", b"\n".join(self._data), self._id)
        with_data = bool(self._data)
        self._size, self._event, self._data, self._id = 0, "", [], None
        return frame if with_data else None
