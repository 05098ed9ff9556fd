"""How one event of a log is stored: its type, the id of its turn, and its JSON as it was sent."""

from __future__ import annotations

from typing import NamedTuple


class Frame(NamedTuple):
    """One event of a log, as every stream gets it."""

    name: str
    request_id: str | None
    json: bytes


def encode_frame(frame: Frame) -> bytes:
    """Encode a frame. Neither a type nor an id has a line feed, and neither has JSON."""
    return b"%b\n%b\n%b" % (frame.name.encode(), (frame.request_id or "").encode(), frame.json)


def decode_frame(encoded: bytes) -> Frame:
    """Decode what `encode_frame` made."""
    name, request_id, json = encoded.split(b"\n", 2)
    return Frame(name.decode(), request_id.decode() or None, json)
