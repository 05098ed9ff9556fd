"""How event streams and WebSockets encode what is in a log."""

import json

from frontdesk.agents import events
from frontdesk.agents.events import Gap
from frontdesk.gateway.event_frames import (
    enveloped_frame,
    frames,
    messages,
    named_frame,
    socket_message,
)
from frontdesk.sessions.event_log import LoggedEvent

GAP = Gap(requested="7-3", resumes_at="7-5")
GAP_FACTS = {"reason": "gap", "requested": "7-3", "resumesAt": "7-5"}


def test_an_event_is_one_named_frame_with_id_name_and_one_line_of_json():
    logged = LoggedEvent(events.MessageDelta('a\n"b"\r'), fence=7, index=3, request_id="r-1")
    head, data, *rest = named_frame(logged).decode().split("\ndata: ")
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
    assert frames(batch, named_frame) == named_frame(batch[0]) + named_frame(batch[1])
    assert messages(batch) == [socket_message(batch[0]), socket_message(batch[1])]
    assert frames([], named_frame) == b""
    assert messages([]) == []


def test_a_gap_goes_out_as_an_error_without_an_id():
    head, data = frames(GAP, named_frame).decode().split("\ndata: ")
    assert head == "event: error"
    assert data.endswith("\n\n")
    assert json.loads(data) == GAP_FACTS
    (text,) = messages(GAP)
    assert json.loads(text) == {"event": "error", "data": GAP_FACTS}


def test_in_an_envelope_an_event_has_its_id_and_no_name():
    logged = LoggedEvent(events.Error("E"), fence=7, index=3, request_id="r-1")
    head, data = enveloped_frame(logged).decode().split("\ndata: ")
    assert head == f"id: {logged.id}"
    assert data.endswith("\n\n")
    assert json.loads(data) == json.loads(socket_message(logged))
    assert frames([logged, logged], enveloped_frame) == 2 * enveloped_frame(logged)


def test_in_an_envelope_a_gap_has_neither_an_id_nor_a_name():
    begin, data = frames(GAP, enveloped_frame).decode().split("data: ")
    assert begin == ""
    assert json.loads(data) == json.loads(messages(GAP)[0])
