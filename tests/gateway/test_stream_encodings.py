"""How event streams and WebSockets encode what is in a log."""

import json

from frontdesk.agents import events
from frontdesk.gateway.sse import joined, server_sent_event
from frontdesk.gateway.websocket import socket_message, texts
from frontdesk.sessions.event_log import LoggedEvent
from frontdesk.sessions.event_reader import Gap

GAP = Gap(requested="7-3", resumes_at="7-5")
GAP_FACTS = {"reason": "gap", "requested": "7-3", "resumesAt": "7-5"}


def test_an_event_is_one_server_sent_event_with_id_name_and_one_line_of_json():
    logged = LoggedEvent(events.MessageDelta('a\n"b"\r'), fence=7, index=3, request_id="r-1")
    head, data, *rest = server_sent_event(logged).decode().split("\ndata: ")
    assert head == "id: 7-3\nevent: message_delta"
    assert not rest
    assert data.endswith("\n\n")
    assert json.loads(data) == {"requestId": "r-1", "delta": 'a\n"b"\r'}
    assert "\n" not in data[:-2]
    assert "\r" not in data
    assert logged.json == data[:-2].encode()
    assert logged.id == "7-3"


def test_an_event_reads_as_one_message_on_a_websocket():
    logged = LoggedEvent(events.AgentStart(), fence=7, index=3, request_id="r-1")
    assert json.loads(socket_message(logged)) == {
        "event": "agent_start",
        "data": {"requestId": "r-1"},
        "index": 3,
    }


def test_a_batch_is_its_events_one_after_another():
    batch = [LoggedEvent(events.AgentStart(), fence=7, index=number) for number in (1, 2)]
    assert joined(batch) == server_sent_event(batch[0]) + server_sent_event(batch[1])
    assert texts(batch) == [socket_message(batch[0]), socket_message(batch[1])]
    assert joined([]) == b""
    assert texts([]) == []


def test_a_gap_goes_out_as_an_error_without_an_id():
    head, data = joined(GAP).decode().split("\ndata: ")
    assert head == "event: error"
    assert data.endswith("\n\n")
    assert json.loads(data) == GAP_FACTS
    (text,) = texts(GAP)
    assert json.loads(text) == {"event": "error", "data": GAP_FACTS}
