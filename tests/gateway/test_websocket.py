"""The WebSocket on a real socket: actions, their answers, and events."""

import json
import socket
import time
from contextlib import contextmanager

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from frontdesk.gateway import websocket
from gateway.exposition import Scraped
from gateway.requirements import covers
from gateway.running import ACME, RunningGateway, create, turn_of
from support.waiting import eventually


@contextmanager
def opened(gateway, session_id, *, query="", secret=ACME, **options):
    url = f"{gateway.ws_url}/v1/sessions/{session_id}/ws?api_key={secret}{query}"
    with connect(url, **options) as ws:
        yield ws
    # Its thread may outlast the close for a moment, and holds a selector.
    ws.recv_events_thread.join(20)


def said(ws, **message):
    ws.send(json.dumps(message))
    return json.loads(ws.recv(timeout=20))


def until(ws, *names):
    seen = []
    while not seen or seen[-1].get("event") not in names:
        seen.append(json.loads(ws.recv(timeout=20)))
    return seen


@covers("websocket.actions", "websocket.events", "websocket.from-now", "keys.query")
def test_a_prompt_is_answered_before_the_events_that_it_causes(gateway, acme, sid):
    create(acme, sid)
    turn_of(acme, sid, "before the connection")
    with opened(gateway, sid) as ws:
        answer = said(ws, action="prompt", text="hello there")
        assert (answer["action"], answer["status"]) == ("prompt", "accepted")
        assert "event" not in answer
        seen = until(ws, "agent_end")
    assert [each["event"] for each in seen] == [
        "prompt_received", "agent_start", "message_start", "message_delta", "message_delta",
        "agent_end",
    ]  # fmt: skip
    assert {each["data"]["requestId"] for each in seen} == {answer["requestId"]}
    first = seen[0]["index"]
    assert [each["index"] for each in seen] == list(range(first, first + 6))


def test_the_order_of_answers_and_events_holds_for_a_hundred_prompts(gateway, acme, sid):
    create(acme, sid)
    with opened(gateway, sid) as ws:
        for _ in range(100):
            answer = said(ws, action="prompt", text="a b c")
            turn = until(ws, "agent_end")
            assert turn[0]["data"]["requestId"] == answer["requestId"]


@covers("answers.approve", "answers.once", "websocket.actions")
def test_an_approval_is_answered_over_the_socket_once(gateway, acme, sid):
    create(acme, sid, blueprint="careful")
    with opened(gateway, sid) as ws:
        said(ws, action="prompt", text="17")
        asked = until(ws, "approval_required")[-1]["data"]
        answer = said(ws, action="approve", approvalId=asked["approvalId"], reason="fine")
        assert answer == {"action": "approve", "status": "approved"}
        assert until(ws, "agent_end")[-1]["data"]["lastMessage"]["content"].startswith(
            "refund approved"
        )
        again = said(ws, action="approve", approvalId=asked["approvalId"])
        assert (again["error"], again["action"]) == ("bad_request", "approve")


def test_abort_steer_and_respond_work_over_the_socket(gateway, acme, sid):
    create(acme, sid, blueprint="patient")
    with opened(gateway, sid) as ws:
        said(ws, action="prompt", text="x")
        until(ws, "message_delta")
        assert said(ws, action="steer", text="go")["status"] == "accepted"
        until(ws, "agent_end")
        said(ws, action="prompt", text="y")
        until(ws, "message_delta")
        assert said(ws, action="abort", reason="enough")["action"] == "abort"
        assert until(ws, "agent_abort")[-1]["data"]["reason"] == "enough"
        refused = said(ws, action="respond", ref="none", response="x")
        assert refused["error"] == "bad_request"


@covers("websocket.errors", "websocket.malformed")
@pytest.mark.parametrize(
    ("message", "action"),
    [
        ("{", None),
        ("[]", None),
        ("5", None),
        ("", None),
        ("{}", None),
        ('{"action": 5}', None),
        ('{"action": "nope"}', "nope"),
        ('{"action": "prompt"}', "prompt"),
        ('{"action": "prompt", "text": 5}', "prompt"),
        ('{"action": "prompt", "text": ""}', "prompt"),
        ('{"action": "prompt", "text": "\\ud800"}', None),
        ('{"action": "approve", "approvalId": "none"}', "approve"),
        ("[" * 100_000, None),
        (b"\xff\xfe", None),
    ],
)
def test_a_malformed_message_is_answered_and_the_socket_lives_on(
    gateway, acme, sid, message, action
):
    create(acme, sid)
    with opened(gateway, sid) as ws:
        ws.send(message)
        answer = json.loads(ws.recv(timeout=20))
        assert (answer["error"], answer["action"]) == ("bad_request", action)
        assert answer["message"]
        assert said(ws, action="prompt", text="still here")["status"] == "accepted"


@covers("websocket.too-large")
def test_a_message_over_the_limit_closes_with_1009(tmp_path):
    limits = {"body_bytes": 2000}
    with RunningGateway(tmp_path, limits=limits) as gateway, gateway.client() as client:
        create(client, "s")
        with opened(gateway, "s") as ws:
            ws.send(json.dumps({"action": "prompt", "text": "x" * 3000}))
            with pytest.raises(ConnectionClosed) as caught:
                ws.recv(timeout=20)
            assert caught.value.rcvd.code == 1009


@covers("websocket.from-now")
def test_since_resumes_and_a_gap_is_told(gateway, acme, sid):
    create(acme, sid)
    whole = turn_of(acme, sid, "a b")
    with opened(gateway, sid, query="&since=3") as ws:
        assert json.loads(ws.recv(timeout=20))["index"] == 4
    with opened(gateway, sid, query="&since=9999") as ws:
        gap = json.loads(ws.recv(timeout=20))
        assert (gap["event"], gap["data"]["reason"]) == ("error", "gap")
        assert "index" not in gap
        assert json.loads(ws.recv(timeout=20))["data"] == whole[0][2]


@covers("websocket.refused-before-upgrade")
@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/v1/sessions/{sid}/ws", 401, "unauthorized"),
        ("/v1/sessions/{sid}/ws?api_key=wrong", 401, "unauthorized"),
        ("/v1/sessions/none/ws?api_key={key}", 404, "not_found"),
        ("/v1/sessions/a%20b/ws?api_key={key}", 400, "bad_request"),
        ("/v1/sessions/{sid}/ws?api_key={key}&since=x", 400, "bad_request"),
        ("/v1/sessions/{sid}/prompt?api_key={key}", 401, "unauthorized"),
        ("/nope", 404, "not_found"),
    ],
)
def test_what_is_refused_is_refused_before_the_upgrade(gateway, acme, sid, path, status, error):
    create(acme, sid)
    url = gateway.ws_url + path.format(sid=sid, key=ACME)
    with pytest.raises(InvalidStatus) as caught, connect(url):
        pass
    response = caught.value.response
    assert response.status_code == status
    assert json.loads(response.body)["error"] == error


def test_a_session_that_has_ended_is_refused_with_how_it_ended(gateway, acme, sid):
    create(acme, sid)
    acme.delete(f"/v1/sessions/{sid}")
    with pytest.raises(InvalidStatus) as caught, opened(gateway, sid):
        pass
    body = json.loads(caught.value.response.body)
    assert (body["error"], body["reason"]) == ("session_dead", "deleted")


@covers("streams.ends")
def test_the_socket_closes_after_session_end(gateway, acme, sid):
    create(acme, sid)
    with opened(gateway, sid) as ws:
        acme.delete(f"/v1/sessions/{sid}")
        assert until(ws, "session_end")[-1]["data"]["reason"] == "deleted"
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(timeout=20)
        assert caught.value.rcvd.code == 1000


@pytest.mark.parametrize("broken", ["parsed", "messages"])
def test_a_failure_of_the_gateway_is_told_as_one_and_not_as_the_session_s_end(
    gateway, acme, sid, broken, monkeypatch
):
    create(acme, sid)
    with opened(gateway, sid) as ws:
        monkeypatch.setattr(websocket, broken, fail)
        ws.send('{"action": "prompt", "text": "x"}')
        with pytest.raises(ConnectionClosed) as caught:
            until(ws, "agent_end")
        closed = time.monotonic()
    # The client has answered the close, and waits for the connection's end.
    assert time.monotonic() - closed < 8
    assert caught.value.rcvd.code == 1011
    monkeypatch.undo()
    assert acme.get(f"/v1/sessions/{sid}").status_code == 200


def fail(*_):
    raise RuntimeError("a fault of the gateway's own")


@covers("origins.websocket-cookie")
def test_a_cookie_from_a_strangers_page_is_refused(gateway, acme, sid):
    create(acme, sid)
    foreign = {"Cookie": "a=b", "Origin": "https://evil.example"}
    with pytest.raises(InvalidStatus) as caught, opened(gateway, sid, additional_headers=foreign):
        pass
    assert caught.value.response.status_code == 401
    own = {"Cookie": "a=b", "Origin": gateway.url}
    with opened(gateway, sid, additional_headers=own):
        pass
    with opened(gateway, sid, additional_headers={"Origin": "https://evil.example"}):
        pass


@covers("websocket.pings")
def test_the_server_pings_and_drops_a_client_that_does_not_answer(tmp_path):
    streams = {"heartbeat_s": 0.2}
    with RunningGateway(tmp_path, streams=streams) as gateway, gateway.client() as client:
        create(client, "s")
        with gateway.connect() as raw:
            raw.sendall(
                f"GET /v1/sessions/s/ws HTTP/1.1\r\nHost: x\r\nX-API-Key: {ACME}\r\n"
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            received = b""
            while chunk := raw.recv(4096):
                received += chunk
            head, _, frames = received.partition(b"\r\n\r\n")
            assert b" 101 " in head.split(b"\r\n")[0]
            assert frames[0] == 0x89  # a ping
        eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == 0)


@covers("streams.leaving")
def test_a_socket_whose_client_vanishes_is_noticed(gateway, acme, sid):
    create(acme, sid)
    before = gateway.call(lambda: len(gateway.gateway.streams))
    with opened(gateway, sid) as ws:
        eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == before + 1)
        ws.socket.shutdown(socket.SHUT_RDWR)
        eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == before, within_s=5)


@covers("streams.slow-reader")
def test_a_socket_that_does_not_read_is_dropped(tmp_path):
    with (
        RunningGateway(
            tmp_path, limits={"stalled_write_s": 0.3}, streams={"kept_bytes": 200_000}
        ) as gateway,
        gateway.client() as client,
    ):
        create(client, "s", blueprint="flooding")
        with opened(gateway, "s", max_queue=1, close_timeout=1) as ws:
            said(ws, action="prompt", text="x")
            eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == 0)
        assert Scraped.of(gateway).sum("frontdesk_slow_readers_total") == 1
        client.post("/v1/sessions/s/abort")


@covers("errors.rate-limited")
def test_actions_count_as_requests(tmp_path):
    limits = {"requests_per_minute": 5}
    with RunningGateway(tmp_path, limits=limits) as gateway, gateway.client() as client:
        create(client, "s")
        with opened(gateway, "s") as ws:
            answers = [said(ws, action="abort") for _ in range(4)]
        assert [each.get("error") for each in answers] == [None, None, None, "rate_limited"]
        assert answers[-1]["retryAfter"] > 0
