"""Answers leave in one piece: what is held, for how long, and in which order it goes out."""

import asyncio

from frontdesk.gateway.http_protocol import CoalescingTransport


class Recorder:
    """A transport that writes down what it is told."""

    def __init__(self):
        self.written, self.closing = [], False

    def write(self, data):
        assert not self.closing
        self.written.append(data)

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True

    def get_write_buffer_size(self):
        return 17


def on_a_loop(scene):
    async def run():
        recorder = Recorder()
        await scene(CoalescingTransport(recorder, asyncio.get_running_loop()), recorder)
        return recorder.written

    return asyncio.run(run())


def test_a_head_leaves_together_with_its_body():
    async def scene(pieces, _):
        pieces.expect_head()
        pieces.write(b"head ")
        pieces.write(b"body")
        await asyncio.sleep(0)

    assert on_a_loop(scene) == [b"head body"]


def test_a_large_body_leaves_with_its_head_and_is_not_copied():
    body = bytes(1_000_000)

    async def scene(pieces, recorder):
        recorder.writelines = recorder.written.extend
        pieces.expect_head()
        pieces.write(b"head")
        pieces.write(body)
        assert pieces.answer_bytes == 1_000_004

    head, left = on_a_loop(scene)
    assert head == b"head"
    assert left is body


def test_a_head_that_nothing_follows_leaves_at_the_next_turn_of_the_loop():
    async def scene(pieces, recorder):
        pieces.expect_head()
        pieces.write(b"head")
        assert recorder.written == []
        await asyncio.sleep(0)
        assert recorder.written == [b"head"]
        pieces.write(b"body")

    assert on_a_loop(scene) == [b"head", b"body"]


def test_what_follows_a_first_piece_is_written_through():
    async def scene(pieces, _):
        pieces.expect_head()
        for piece in (b"head ", b"first", b"second", b"third"):
            pieces.write(piece)

    assert on_a_loop(scene) == [b"head first", b"second", b"third"]


def test_the_next_request_on_a_connection_changes_no_order():
    async def scene(pieces, _):
        pieces.expect_head()
        pieces.write(b"head ")
        pieces.expect_head()
        pieces.write(b"body")
        pieces.expect_head()
        pieces.write(b"late body ")
        pieces.write(b"next head")

    assert on_a_loop(scene) == [b"head body", b"late body next head"]


def test_a_close_takes_the_head_along():
    async def scene(pieces, recorder):
        pieces.expect_head()
        pieces.write(b"head")
        pieces.close()
        assert recorder.closing
        await asyncio.sleep(0)

    assert on_a_loop(scene) == [b"head"]


def test_nothing_is_written_to_a_transport_that_has_closed():
    async def scene(pieces, recorder):
        pieces.expect_head()
        pieces.write(b"head")
        recorder.close()
        await asyncio.sleep(0)

    assert on_a_loop(scene) == []


def test_all_else_is_the_transports_own():
    async def scene(pieces, _):
        assert pieces.get_write_buffer_size() == 17
        assert not pieces.is_closing()

    assert on_a_loop(scene) == []
