"""How one event of a log is stored: its type, the id of its turn, and its JSON as it was sent."""

from __future__ import annotations

from typing import NamedTuple


class EventFrame(NamedTuple):
    """One event of a log, as every stream gets it."""

    name: str
    request_id: str | None
    json: bytes


def encode_frame(frame: EventFrame) -> bytes:
    """Encode a frame. Neither a type nor an id has a line feed, and neither has JSON."""
    return b"%b\n%b\n%b" % (frame.name.encode(), (frame.request_id or "").encode(), frame.json)


def decode_frame(encoded: bytes) -> EventFrame:
    """Decode what `encode_frame` made."""
    name, request_id, json = encoded.split(b"\n", 2)
    return EventFrame(name.decode(), request_id.decode() or None, json)
