"""Whatever a server sends, the client ends in bounded time and memory, with a clear error."""

import pytest

from client.both import client_of
from client.scripted import ScriptedServer, answer, frame, stream
from frontdesk.client import (
    MalformedAnswerError,
    UnknownEvent,
    UnreachableError,
    answer_reading,
    event_parser,
)
from frontdesk.client.event_stream import LONGEST_SILENCE_S, SHORTEST_SILENCE_S, SessionFollowing
from gateway.running import ACME


def endless(head, piece):
    """Send a head, and then a piece again and again until nobody takes it."""

    def act(connection, _):
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    return act


@pytest.fixture(autouse=True)
def low_limits(monkeypatch):
    monkeypatch.setattr(answer_reading, "MAX_ANSWER_BYTES", 1_000_000)
    for transport in ("sync_transport", "async_transport"):
        monkeypatch.setattr(f"frontdesk.client.{transport}.MAX_ANSWER_BYTES", 1_000_000)
    monkeypatch.setattr(event_parser, "MAX_FRAME_BYTES", 1_000_000)


ENDLESS = {
    "a line": endless(stream(), b"x" * 60_000),
    "an id": endless(stream() + b"id: ", b"7" * 60_000),
    "data": endless(stream(), b"data: " + b"x" * 60_000 + b"\n"),
    "comments": endless(stream(), b": x\n" * 10_000),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_frame_without_an_end_is_given_up(kind, name):
    with (
        ScriptedServer(ENDLESS[name]) as server,
        client_of(kind, server.url, key=ACME) as client,
        pytest.raises(MalformedAnswerError, match="over 1000000 bytes"),
    ):
        list(client.session("s").events(since="0"))


@pytest.mark.parametrize("status", ["200 OK", "500 X"])
def test_an_answer_without_an_end_is_given_up(kind, status):
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n\r\n".encode()
    with (
        ScriptedServer(endless(head, b" " * 60_000)) as server,
        client_of(kind, server.url, key=ACME) as client,
        pytest.raises(MalformedAnswerError, match="over 1000000 bytes"),
    ):
        client.list()


def test_a_head_without_an_end_is_given_up(kind):
    with (
        ScriptedServer(endless(b"HTTP/1.1 200 OK\r\n", b"x-more: yes\r\n" * 1000)) as server,
        client_of(kind, server.url, key=ACME) as client,
        pytest.raises(UnreachableError),
    ):
        client.stop("s")


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (frame("message_delta", {"delta": 7}, "7-1"), "the event is no message_delta"),
        (frame("message_delta", {}, "7-1"), "missing required field `delta`"),
        (frame("message_delta", [1], "7-1"), "the answer is no"),
        (b"id: 7-1\nevent: message_delta\ndata: {nonsense\n\n", "the answer is no"),
        (b"id: 7-1\nevent: message_delta\ndata: " + b"[" * 9999 + b"\n\n", "the answer is no"),
        (b"id: 7-1\nevent: a\xff\xfe\ndata: \xff\n\n", "the answer is no"),
        (frame("agent_start", {}, "nonsense"), "is no event's id"),
        (frame("agent_start", {}, "7-" + "9" * 30), "is no event's id"),
        (frame("error", {"reason": "gap", "resumesAt": 7}), "the answer is no Gap"),
    ],
)
def test_an_event_that_is_none_is_told_as_that(kind, frames, words):
    with (
        ScriptedServer(stream(frames)) as server,
        client_of(kind, server.url, key=ACME) as client,
        pytest.raises(MalformedAnswerError, match=words),
    ):
        list(client.session("s").events(since="0"))


def test_an_event_of_a_newer_gateway_is_given_with_what_it_has(kind):
    newer = [
        frame("agent_dreamt", {"of": "sheep", "requestId": "r1"}, "7-1"),
        frame("session_end", {"reason": "deleted", "more": [1]}, "7-2"),
    ]
    with ScriptedServer(stream(*newer)) as server, client_of(kind, server.url, key=ACME) as client:
        first, _ = client.session("s").events(since="0")
    assert first.event == UnknownEvent("agent_dreamt", {"of": "sheep", "requestId": "r1"})
    assert first.request_id == "r1"


def test_what_is_no_stream_is_told_as_that(kind):
    with (
        ScriptedServer(answer(200, b"<html>", "content-type: text/html")) as server,
        client_of(kind, server.url, key=ACME) as client,
        pytest.raises(MalformedAnswerError, match="no event stream"),
    ):
        list(client.session("s").events())


@pytest.mark.parametrize(
    ("heartbeat", "silence_s"),
    [
        ("30", 75),
        ("0.2", 0.5),
        ("0", SHORTEST_SILENCE_S),
        ("-5", SHORTEST_SILENCE_S),
        ("nan", LONGEST_SILENCE_S),
        ("inf", LONGEST_SILENCE_S),
        ("1e300", LONGEST_SILENCE_S),
        ("soon", 75),
        (None, 75),
    ],
)
def test_no_heartbeat_makes_the_client_wait_for_ever_or_not_at_all(heartbeat, silence_s):
    following = SessionFollowing("/x", since=None, types=())
    headers = {"content-type": "text/event-stream"}
    if heartbeat is not None:
        headers["x-frontdesk-heartbeat"] = heartbeat
    following.on_answer(200, headers)
    assert following.silence_s == pytest.approx(silence_s)


def test_nothing_is_followed_to_another_address(kind):
    with ScriptedServer(answer(200, {})) as other:
        elsewhere = answer(307, b"", f"location: {other.url}/v1/sessions")
        with (
            ScriptedServer(elsewhere) as server,
            client_of(kind, server.url, key=ACME) as client,
            pytest.raises(MalformedAnswerError, match="use that one as the url"),
        ):
            client.list()
        assert other.requests == []


def test_a_long_message_of_an_error_is_shortened(kind):
    long = answer(400, {"error": "bad_request", "message": "x" * 100_000})
    with (
        ScriptedServer(long) as server,
        client_of(kind, server.url, key=ACME) as client,
        pytest.raises(Exception, match="x") as caught,
    ):
        client.list()
    assert len(str(caught.value)) == answer_reading.MAX_MESSAGE_CHARACTERS
