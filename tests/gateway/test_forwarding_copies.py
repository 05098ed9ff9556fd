"""What of a request is sent to another node means there what it meant here."""

import asyncio
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.gateway.forwarding.answer_copy import last_frame, last_message, own_headers
from frontdesk.gateway.forwarding.claims import TRAVELLING_HEADERS, HopClaims
from frontdesk.gateway.forwarding.hop_connection import HopBroken, HopConnection
from frontdesk.gateway.forwarding.hops import HopRequest, head_of
from frontdesk.gateway.forwarding.owner_application import scope_of
from frontdesk.gateway.forwarding.request_copy import headers_of, query_without_keys, target_of
from frontdesk.gateway.request_context import RequestContext

PATHS = st.text(st.characters(codec="utf-8"), max_size=60).map(
    lambda text: f"/v1/sessions/s/{text}"
)
QUERIES = st.binary(max_size=60).map(lambda query: query.replace(b"#", b""))
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([*TRAVELLING_HEADERS, b"cookie", b"authorization", b"x-api-key", b"host"]),
        st.binary(max_size=30),
    ),
    max_size=6,
)


def context_of(path, query, headers=(), root_path=""):
    scope = {
        "type": "http",
        "method": "GET",
        "path": root_path + path,
        "root_path": root_path,
        "query_string": query,
        "headers": list(headers),
    }
    return RequestContext(scope, None, None, body_limit=0)


def claims(context):
    return HopClaims(
        to="",
        sender="",
        at_ms=0,
        nonce="",
        method="GET",
        target=target_of(context),
        body_digest="",
        deadline_ms=0,
        headers=headers_of(context),
        prefix=str(context.scope["root_path"]),
    )


@settings(max_examples=300)
@given(PATHS, QUERIES, HEADERS, st.sampled_from(["", "/desk", "/a/b"]))
def test_the_other_node_sees_the_same_path_query_and_headers(path, query, headers, root_path):
    sent = context_of(path, query, headers, root_path)
    arrived = RequestContext(scope_of(sent.scope, claims(sent)), None, None, body_limit=0)
    assert arrived.path == sent.path
    assert (arrived.rule, arrived.session_id) == (sent.rule, sent.session_id)
    wanted = [each for each in headers if each[0] in TRAVELLING_HEADERS]
    assert arrived.scope["headers"] == wanted


@settings(max_examples=300)
@given(PATHS, QUERIES)
def test_a_target_is_one_line_of_what_is_visible(path, query):
    target = target_of(context_of(path, query))
    assert target.isascii()
    assert not any(letter in target for letter in " \r\n\t#\x7f\0")
    head = head_of(HopRequest("GET", target), b"envelope")
    assert head.count(b"\r\n") == 5


def meaning(query):
    """Return the fields of a query as they are read here."""
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")


@settings(max_examples=300)
@given(QUERIES)
def test_a_query_means_the_same_but_for_its_keys(query):
    passed = meaning(query_without_keys(query).encode())
    expected = [(name, "" if name == "api_key" else value) for name, value in meaning(query)]
    assert passed == expected


def test_headers_between_two_nodes_are_not_the_answers():
    headers = [
        (b"content-type", b"text/event-stream"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"close"),
        (b"date", b"today"),
        (b"x-frontdesk-hop", b"gone"),
        (b"retry-after", b"1"),
    ]
    assert own_headers(headers) == [headers[0], headers[5]]


def test_the_last_word_of_a_stream_has_the_form_of_its_events():
    message = b'{"event":"session_end","data":{"reason":"lost"}}'
    assert last_message("lost") == message
    assert last_frame("lost", envelope=True) == b"data: " + message + b"\n\n"
    assert last_frame("lost", envelope=False).splitlines() == [
        b"event: session_end",
        b'data: {"reason":"lost"}',
        b"",
    ]


# -- one connection ------------------------------------------------------------------------------


class Wire:
    """A transport that remembers what was done with it."""

    def __init__(self):
        self.written, self.paused, self.closed = b"", False, False

    def write(self, content):
        self.written += content

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False

    def close(self):
        self.closed = True

    abort = close

    def is_closing(self):
        return self.closed


def connected():
    connection = HopConnection()
    connection.transport = Wire()
    return connection


async def answered(connection, *pieces, **options):
    """Ask on a connection, and have it answered in these pieces."""
    asking = asyncio.create_task(connection.ask(b"head", b"body", **options))
    await asyncio.sleep(0)
    for piece in pieces:
        connection.data_received(piece)
    return await asking


ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: y\r\n\r\nhello"


def run(main):
    return asyncio.run(main())


@pytest.mark.parametrize("size", range(1, len(ANSWER)))
def test_an_answer_is_the_same_wherever_it_is_cut(size):
    async def main():
        connection = connected()
        status = await answered(connection, ANSWER[:size], ANSWER[size:])
        body = b""
        while (piece := await connection.read()) is not None:
            body += piece
        return status, connection.headers, body, connection.reusable

    assert run(main) == (200, [(b"content-length", b"5"), (b"x", b"y")], b"hello", True)


def test_a_reader_that_is_slow_makes_the_other_side_wait():
    async def main():
        connection = connected()
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"
        await answered(connection, head, b"x" * 60_000)
        assert not connection.transport.paused
        connection.data_received(b"x" * 60_000)
        assert connection.transport.paused
        assert len(await connection.read()) == 120_000
        assert not connection.transport.paused

    run(main)


def test_an_answer_that_was_not_read_does_not_stand_in_the_way_of_the_next():
    async def main():
        connection = connected()
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"
        await answered(connection, head, b"x" * 100_000)
        assert connection.reusable
        assert connection.transport.paused
        assert await answered(connection, ANSWER) == 200
        assert not connection.transport.paused
        assert await connection.read() == b"hello"

    run(main)


def test_head_ends_with_its_head():
    async def main():
        connection = connected()
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
        assert await answered(connection, answer, without_body=True) == 200
        assert await connection.read() is None
        assert not connection.reusable

    run(main)


@pytest.mark.parametrize(
    ("pieces", "begun"), [((), False), ((ANSWER[:-2],), True), ((b"nonsense\r\n\r\n",), False)]
)
def test_an_answer_that_breaks_off_is_not_taken_for_whole(pieces, begun):
    async def main():
        connection = connected()
        asking = asyncio.create_task(connection.ask(b"head", b""))
        await asyncio.sleep(0)
        for piece in pieces:
            connection.data_received(piece)
        connection.connection_lost(None)
        await asking
        while await connection.read() is not None:
            pass

    with pytest.raises(HopBroken) as broken:
        run(main)
    assert broken.value.begun is begun


def test_what_nobody_asked_for_ends_the_connection():
    async def main():
        connection = connected()
        await answered(connection, ANSWER)
        await connection.read()
        connection.data_received(ANSWER)
        assert connection.transport.closed
        assert not connection.reusable

    run(main)
