"""A stream that is cut, wherever, gives every event once; what is gone is told as a gap.

The gateway is a real one; between it and the client is a proxy that cuts connections after so many
bytes of the answer, once each. The turn is short, so that it can be cut at every byte.
"""

import threading

import pytest

from client.both import client_of
from client.scripted import CuttingProxy, ScriptedServer, answer, frame, stream
from frontdesk.client import (
    AgentEnd,
    Client,
    Gap,
    MessageDelta,
    MessageStart,
    NotFoundError,
    PromptReceived,
    SessionDeadError,
    SessionEnd,
    SnapshotPage,
    TurnLostError,
    UnreachableError,
)
from gateway.running import ACME, RunningGateway
from support.waiting import eventually

TEXT = "Grüße 世界 🎈"
ACCEPTED = {
    "requestId": "r1",
    "sessionId": "s",
    "queued": False,
    "status": "accepted",
    "since": "7-0",
}


@pytest.fixture(scope="module")
def turn(gateway):
    """Run one turn, with text that takes several bytes a character, to its session's end.

    Return the session's id, its events, and how many bytes a stream of them is.
    """
    with Client(gateway.url, key=ACME) as client:
        session = client.open("test", session_id="recorded")
        session.prompt(TEXT).text()
        session.stop()
        events = list(session.events(since="0"))
    with (
        gateway.client() as plain,
        plain.stream("GET", "/v1/sessions/recorded/events", params={"since": "0"}) as response,
    ):
        body = response.read()
        head = sum(len(name) + len(value) + 4 for name, value in response.headers.raw) + 19
    return "recorded", events, head + len(body)


def cut_at(gateway, kind, turn, *cuts, hard=False):
    """Return the events that come through a proxy that cuts the first connections there."""
    with (
        CuttingProxy(gateway.port, *cuts, hard=hard) as proxy,
        client_of(kind, proxy.url, key=ACME) as client,
    ):
        events = list(client.session(turn[0]).events(since="0"))
        assert not proxy.cuts, "it was not cut"
    return events


def test_a_stream_is_whole_when_it_is_cut_at_some_bytes(gateway, kind, turn):
    _, events, size = turn
    assert len(events) == 8
    for at in [0, 1, 17, *range(100, size, 53), size - 2, size - 1]:
        assert cut_at(gateway, kind, turn, at) == events, at


@pytest.fixture(scope="module")
def answers(gateway, turn):
    """Return what the gateway answers, to the byte, by the event that a stream goes on after."""
    session_id, events, _ = turn
    recorded = {}
    for since in ("0", *(each.id for each in events)):
        head = (
            f"GET /v1/sessions/{session_id}/events HTTP/1.1\r\nhost: x\r\nx-api-key: {ACME}\r\n"
            f"last-event-id: {since}\r\nconnection: close\r\n\r\n"
        )
        with gateway.connect() as connection, connection.makefile("rb") as answered:
            connection.sendall(head.encode())
            recorded[since] = answered.read()
    return recorded


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_stream_is_whole_when_it_is_cut_at_every_byte(kind, turn, answers):
    """By what the gateway answered, recorded: the first is cut, the next is to where it came."""
    session_id, events, _ = turn
    cut = 0

    def first_is_cut(connection, request):
        whole = answers[request.headers["last-event-id"]]
        connection.sendall(whole[:cut] if len(server.requests) == 1 else whole)

    with (
        ScriptedServer(first_is_cut) as server,
        client_of(kind, server.url, key=ACME) as client,
    ):
        for cut in range(len(answers["0"])):
            server.requests.clear()
            assert list(client.session(session_id).events(since="0")) == events, cut
            # Behind the last event, it has all that it wants.
            last = answers["0"].rindex(b"\n\n") + 2
            assert len(server.requests) == (2 if cut < last else 1)


def test_a_stream_is_whole_when_it_is_cut_again_and_again(gateway, kind, turn):
    _, events, size = turn
    # Each connection brings a little more than the last had.
    cuts = [450 + 100 * number for number in range(6)]
    assert cut_at(gateway, kind, turn, *cuts) == events
    assert size > 450


def test_a_turn_is_whole_when_its_stream_is_cut(gateway, kind, sid):
    for at in range(0, 1200, 149):
        with (
            CuttingProxy(gateway.port) as proxy,
            client_of(kind, proxy.url, key=ACME) as client,
        ):
            turn = client.open("test").prompt(TEXT)
            proxy.cuts = [at]
            assert turn.text() == TEXT + " "
            assert list(turn) == []


def test_what_was_given_before_a_cut_is_not_given_again(gateway, kind, sid):
    """The turn is under way, and goes on after the cut."""
    with CuttingProxy(gateway.port) as proxy, client_of(kind, proxy.url, key=ACME) as client:
        session = client.open("test", session_id=sid, blueprint="patient")
        turn = session.prompt("work")
        proxy.cuts = [900, 900]
        told = []
        for event in turn:
            told.append(event)
            if event == MessageDelta("working "):
                session.steer("go")
        assert [each.delta for each in told if isinstance(each, MessageDelta)] == [
            "working ", "done ",
        ]  # fmt: skip
        assert sum(isinstance(each, PromptReceived) for each in told) == 1


def test_a_cut_in_the_midst_of_a_character_or_of_an_id_loses_nothing(gateway, kind, turn):
    _, events, _ = turn
    with (
        gateway.client() as plain,
        plain.stream("GET", "/v1/sessions/recorded/events", params={"since": "0"}) as response,
    ):
        body = response.read()
        head = sum(len(name) + len(value) + 4 for name, value in response.headers.raw) + 19
    in_character = head + body.index("🎈".encode()) + 2
    in_id = head + body.index(b"id: ", body.index(b"message_delta")) + 6
    for at in (in_character, in_id, in_id + 12):
        assert cut_at(gateway, kind, turn, at) == events


# -- a gateway that comes back, and one that does not ----------------------------------------------


@pytest.mark.slow
def test_a_feed_goes_on_when_its_gateway_was_away(tmp_path, kind):
    with RunningGateway(tmp_path) as first:
        proxy = CuttingProxy(first.port)
        with proxy, client_of(kind, proxy.url, key=ACME) as client:
            feed = client.feed()
            before = next(each for each in feed if isinstance(each, SnapshotPage))
            assert before.rows == ()
            with RunningGateway(tmp_path / "next") as second:
                with Client(second.url, key=ACME) as other:
                    other.open("test", session_id="of-the-next-run")
                proxy.to_port = second.port
                proxy.cut_all()
                after = next(each for each in feed if isinstance(each, SnapshotPage))
                assert [each.session_id for each in after.rows] == ["of-the-next-run"]
                assert after.first


def test_a_gateway_that_stays_away_is_told_after_six_tries(kind):
    with ScriptedServer(b"") as server, client_of(kind, server.url, key=ACME) as client:
        with pytest.raises(UnreachableError, match="no answer from"):
            list(client.session("s").events(since="7-3"))
        assert len(server.requests) == 6
        assert {each.headers["last-event-id"] for each in server.requests} == {"7-3"}


def test_signs_of_life_are_no_tries_in_vain(kind):
    """An idle stream that a proxy cuts every minute is a stream."""

    def quiet(connection, _):
        connection.sendall(stream())
        connection.recv(0)
        threading.Event().wait(0.01)
        connection.sendall(b": still here\n\n")

    end = stream(frame("session_end", {"reason": "deleted"}, "7-1"))
    with ScriptedServer(*[quiet] * 12, end) as server:
        with client_of(kind, server.url, key=ACME) as client:
            events = list(client.session("s").events(since="0"))
        assert [each.event for each in events] == [SessionEnd("deleted")]
        assert len(server.requests) == 13


def test_a_session_that_ended_meanwhile_says_so(kind):
    dead = {"error": "session_dead", "message": "session 's' ended: exited: 3", "reason": "exited"}
    script = [
        answer(202, ACCEPTED),
        stream(frame("prompt_received", {"requestId": "r1", "text": "x"}, "7-1")),
        answer(404, dead),
    ]
    with ScriptedServer(*script) as server, client_of(kind, server.url, key=ACME) as client:
        turn = client.session("s").prompt("x")
        with pytest.raises(SessionDeadError, match="exited: 3"):
            turn.text()


def test_a_stream_of_a_session_that_is_read_whole_ends(kind):
    script = [stream(frame("agent_start", {}, "7-1")), answer(204)]
    with ScriptedServer(*script) as server, client_of(kind, server.url, key=ACME) as client:
        assert [each.index for each in client.session("s").events(since="0")] == [1]


# -- silence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("heartbeat", ["0.1"])
def test_silence_for_two_and_a_half_heartbeats_is_a_cut(kind, heartbeat):
    def silent_after_one(connection, _):
        connection.sendall(stream(frame("agent_start", {}, "7-1"), heartbeat=heartbeat))
        assert connection.recv(1) == b"", "it was to be left"

    end = stream(frame("session_end", {"reason": "deleted"}, "7-2"))
    with ScriptedServer(silent_after_one, end) as server:
        with client_of(kind, server.url, key=ACME) as client:
            events = list(client.session("s").events(since="0"))
        assert [each.index for each in events] == [1, 2]
        assert server.requests[1].headers["last-event-id"] == "7-1"


@pytest.mark.slow
def test_a_gateway_says_its_heartbeat_and_who_waits_that_long_is_not_cut(tmp_path, kind):
    """The stream is idle for several heartbeats, and is never opened anew."""
    with (
        RunningGateway(tmp_path, streams={"heartbeat_s": 0.5}) as gateway,
        CuttingProxy(gateway.port) as proxy,
        Client(gateway.url, key=ACME) as other,
        client_of(kind, proxy.url, key=ACME) as client,
    ):
        turn = client.open("test", session_id="s", blueprint="patient").prompt("work")
        before = proxy.connections
        events = iter(turn)
        assert MessageDelta("working ") in [next(events) for _ in range(4)]
        waiting = threading.Thread(target=list, args=(events,))
        waiting.start()
        eventually(lambda: proxy.signs >= 4)
        other.session("s").steer("go")
        waiting.join(30)
        assert turn.text() == "working done "
        assert proxy.connections <= before + 1


# -- gaps ------------------------------------------------------------------------------------------


def test_what_is_no_more_held_is_a_gap_and_the_stream_goes_on(tmp_path, kind):
    with RunningGateway(tmp_path, streams={"kept_events": 16}) as gateway:
        with client_of(kind, gateway.url, key=ACME) as client:
            session = client.open("test", session_id="s")
            for number in range(20):
                session.prompt(f"number {number}").text()
            session.stop()
            first, *others = session.events(since="0")
        assert isinstance(first, Gap)
        assert first.requested == "0"
        assert others[0].id == first.resumes_at
        assert [each.index for each in others] == list(range(others[0].index, 122))


GAP = {"reason": "gap", "requested": "7-1", "resumesAt": "7-50"}


def status(state="idle", prompts=0, last=60):
    return {
        "sessionId": "s",
        "state": state,
        "pendingTools": [],
        "pendingApprovals": [],
        "pendingQuestions": [],
        "queues": {"prompts": prompts, "steering": 0},
        "lastEventIndex": last,
    }


def in_gap(*frames):
    """Return a stream that begins with a gap."""
    return stream(frame("error", GAP), *frames)


def own(name, data, index):
    return frame(name, {"requestId": "r1", **data}, f"7-{index}")


def other(name, data, index):
    return frame(name, {"requestId": "r0", **data}, f"7-{index}")


END = {"lastMessage": {"role": "assistant", "content": "done"}, "tokenUsage": None}


def lost_or_not(kind, *script):
    told = []
    with (
        ScriptedServer(answer(202, ACCEPTED), *script) as server,
        client_of(kind, server.url, key=ACME) as client,
    ):
        turn = client.session("s").prompt("x")
        try:
            told.extend(turn)
        except TurnLostError as error:
            told.append(error)
    return [type(each) for each in told]


def test_a_turn_whose_end_is_in_a_gap_is_lost_and_says_so(kind):
    script = [
        in_gap(other("agent_start", {}, 50), other("agent_end", END, 60)),
        answer(200, status()),
    ]
    assert lost_or_not(kind, *script) == [Gap, TurnLostError]


def test_a_turn_whose_end_is_held_behind_a_gap_is_given(kind):
    script = [
        in_gap(own("message_start", {}, 50), own("agent_end", END, 60)),
        answer(200, status()),
    ]
    assert lost_or_not(kind, *script) == [Gap, MessageStart, AgentEnd]


def test_a_turn_that_waits_behind_a_gap_is_given_whole(kind):
    frames = [
        other("agent_end", END, 50),
        own("prompt_received", {"text": "x"}, 51),
        own("agent_end", END, 52),
    ]
    asked = answer(200, status("working", prompts=1, last=49))
    assert lost_or_not(kind, in_gap(*frames), asked, asked) == [Gap, PromptReceived, AgentEnd]


def test_a_turn_of_a_session_that_another_has_taken_the_place_of_is_lost(kind):
    gap = frame("error", {**GAP, "resumesAt": "8-1"})
    assert lost_or_not(kind, stream(gap), answer(200, status())) == [Gap, TurnLostError]


def test_an_end_that_another_node_tells_has_no_id_and_ends_the_stream(kind):
    script = [stream(frame("agent_start", {}, "7-1"), frame("session_end", {"reason": "lost"}))]
    with ScriptedServer(*script) as server, client_of(kind, server.url, key=ACME) as client:
        events = list(client.session("s").events(since="0"))
    assert [(each.id, each.index) for each in events] == [("7-1", 1), ("", 0)]
    assert events[-1].event == SessionEnd("lost")


def test_an_event_that_comes_twice_is_given_once(kind):
    """From a proxy that replays, say: what was given is known by its id."""
    twice = frame("agent_start", {}, "7-1")
    script = [stream(twice, twice), stream(twice, frame("session_end", {"reason": "x"}, "7-2"))]
    with ScriptedServer(*script) as server, client_of(kind, server.url, key=ACME) as client:
        assert [each.index for each in client.session("s").events(since="0")] == [1, 2]


def test_a_session_that_is_not_there_is_an_error_at_once(acme):
    with pytest.raises(NotFoundError):
        list(acme.session("never-opened").events())
