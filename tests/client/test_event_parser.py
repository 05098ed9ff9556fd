"""Server-sent events are the same however their bytes are cut."""

import random

import pytest

from frontdesk.client import MalformedAnswerError, event_parser
from frontdesk.client.event_parser import EventParser, Frame

STREAM = (
    ": welcome\n\n"
    'id: 17-1\nevent: message_delta\ndata: {"delta":"Grüße, 世界 🎈"}\n\n'
    ": still here\n\n"
    'retry: 1000\nid: 17-2\r\nevent: agent_end\r\ndata: {"a":\r\ndata: 1}\r\n\r\n'
    "id: 17-3\revent: error\rdata:without a blank\r\r"
    "data: without a name\n\n"
    "id: 17-4\n\n"
    "id: 17-5\nevent: cut\ndata: {}\n"
).encode()
FRAMES = [
    Frame("message_delta", '{"delta":"Grüße, 世界 🎈"}'.encode(), "17-1"),
    Frame("agent_end", b'{"a":\n1}', "17-2"),
    Frame("error", b"without a blank", "17-3"),
    Frame("message", b"without a name", None),
]


def frames_of(pieces):
    parser = EventParser()
    return [frame for piece in pieces for frame in parser.frames(piece)]


def test_frames_are_read_as_the_standard_has_them():
    assert frames_of([STREAM]) == FRAMES


def test_frames_are_the_same_wherever_the_stream_is_cut_in_two():
    for at in range(len(STREAM)):
        assert frames_of([STREAM[:at], STREAM[at:]]) == FRAMES, at


def test_frames_are_the_same_byte_by_byte():
    assert frames_of(STREAM[at : at + 1] for at in range(len(STREAM))) == FRAMES


def test_frames_are_the_same_in_pieces_of_any_size():
    chance = random.Random(14)
    for _ in range(200):
        cuts = sorted(chance.sample(range(len(STREAM)), 12))
        ends = [*cuts, len(STREAM)]
        pieces = [STREAM[a:b] for a, b in zip([0, *cuts], ends, strict=True)]
        assert frames_of(pieces) == FRAMES


def test_what_ends_in_the_midst_of_a_frame_was_not_sent():
    whole = b"id: 17-1\nevent: a\ndata: {}\n\n"
    for at in range(len(whole)):
        assert frames_of([whole[:at]]) == []


@pytest.mark.parametrize(
    "piece", [b"x" * 1000, b"data: x\n" * 125, b": x\n" * 250], ids=["line", "data", "comments"]
)
def test_a_frame_without_an_end_is_given_up(monkeypatch, piece):
    monkeypatch.setattr(event_parser, "MAX_FRAME_BYTES", 100_000)
    with pytest.raises(MalformedAnswerError, match="over 100000 bytes"):
        frames_of([piece] * 102)


def test_many_frames_are_no_long_one(monkeypatch):
    monkeypatch.setattr(event_parser, "MAX_FRAME_BYTES", 100)
    assert len(frames_of([b"data: x\n\n: still here\n\n"] * 100)) == 100
