"""Frames of a conversation in one value: a row of the journal, or a segment, which is compressed.

Each frame is preceded by its length. Segments are short, so that a page of events decompresses
little more than it shows, and long enough that longer ones would not become much smaller.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

SEGMENT_BYTES: int = 64 * 1024
"""So much of one conversation in the journal becomes a segment, also within a turn."""

AS_WRITTEN: bytes = b"\2"
"""Begins a segment that is one row of the journal as it was: its key was lost by then."""

LEVEL = 6

_length = struct.Struct(">I")


def pack_frames(frames: Sequence[bytes]) -> bytes:
    """Put frames into one value."""
    if len(frames) == 1:
        return _length.pack(len(frames[0])) + frames[0]
    return b"".join(part for frame in frames for part in (_length.pack(len(frame)), frame))


def unpack_frames(packed: bytes) -> Iterator[bytes]:
    """Return the frames that were packed."""
    place = 0
    while place < len(packed):
        (length,) = _length.unpack_from(packed, place)
        place += _length.size + length
        yield packed[place - length : place]


def compress(packed: bytes) -> bytes:
    """Compress packed frames, several of which may simply be joined before."""
    return zlib.compress(packed, LEVEL)


def decompress(segment: bytes) -> bytes:
    """Return the packed frames of a segment."""
    return zlib.decompress(segment)
