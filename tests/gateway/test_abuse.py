"""Clients that mean harm, or have lost their way."""

import json
import random
import socket
import time

import httpx
import pytest
from websockets.sync.client import connect

from gateway.requirements import covers
from gateway.running import ACME, RunningGateway, create, events, turn_of
from support.waiting import eventually

PROMPTLY_S = 5


def exchange(gateway, *pieces):
    """Send the pieces and return what comes until the server closes, or says no more."""
    with gateway.connect() as connection:
        connection.settimeout(PROMPTLY_S)
        for piece in pieces:
            connection.sendall(piece)
        return received(connection)


def received(connection):
    answer = b""
    while b"\r\n\r\n" not in answer or not complete(answer):
        chunk = connection.recv(65536)
        if not chunk:
            break
        answer += chunk
    return answer


def complete(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return False


def head(method="POST", path="/v1/sessions", *headers, key=ACME):
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"X-API-Key: {key}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def status(answer):
    return int(answer.split(b" ", 2)[1])


def error(answer):
    return json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


JSON = "Content-Type: application/json"


@covers("errors.too-large")
def test_a_body_that_announces_too_much_is_refused_before_any_of_it_is_read(gateway):
    answer = exchange(gateway, head("POST", "/v1/sessions", JSON, "Content-Length: 999999999999"))
    assert (status(answer), error(answer)) == (413, "too_large")


@covers("errors.too-large")
def test_a_body_without_an_end_is_refused_at_the_limit(gateway):
    with gateway.connect() as connection:
        connection.settimeout(PROMPTLY_S)
        connection.sendall(head("POST", "/v1/sessions", JSON, "Transfer-Encoding: chunked"))
        sent = 0
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        try:
            while sent < 64 * 1024 * 1024:
                connection.sendall(chunk)
                sent += 65536
        except OSError:
            pass  # the server hung up, as it should
        assert sent < 64 * 1024 * 1024


@covers("errors.too-large")
def test_the_client_of_a_body_that_is_too_large_gets_to_see_the_answer(gateway):
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    answer = exchange(
        gateway, head("POST", "/v1/sessions", JSON, "Transfer-Encoding: chunked"), chunk * 20
    )
    assert (status(answer), error(answer)) == (413, "too_large")


@covers("errors.too-large")
def test_a_client_that_asks_before_it_sends_is_told_not_to(gateway):
    lines = (JSON, "Content-Length: 99999999", "Expect: 100-continue")
    assert status(exchange(gateway, head("POST", "/v1/sessions", *lines))) == 413


@covers("limits.head-size")
@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/sessions/" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_a_head_that_is_too_large_is_refused(gateway, request_head):
    with gateway.connect() as connection:
        connection.settimeout(PROMPTLY_S)
        try:
            connection.sendall(request_head)
            answer = received(connection)
        except OSError:
            return  # hung up in the middle: refused all the same
        assert status(answer) == 431


def test_a_head_that_never_ends_is_refused_at_the_limit(gateway):
    with gateway.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX-A: ")
        with pytest.raises(OSError):
            connection.sendall(b"a" * 64 * 1024 * 1024)


@covers("limits.head-size")
@pytest.mark.parametrize("beside", [b"0\r\nX-A: ", b"1;", b"0\r\nX-A: b\r\nX-B: "])
def test_what_comes_beside_a_body_without_end_is_refused_at_the_limit(gateway, beside):
    with gateway.connect() as connection:
        chunked = head("POST", "/v1/sessions", JSON, "Transfer-Encoding: chunked")
        connection.sendall(chunked + beside)
        with pytest.raises(OSError):
            connection.sendall(b"a" * 64 * 1024 * 1024)


@pytest.mark.parametrize("body", [b"", b"{}"], ids=["without-bodies", "with-bodies"])
def test_what_came_with_earlier_requests_does_not_count_against_a_later_one(gateway, body, sid):
    """A client that polls on one connection, and then sends a body in a packet of its own."""
    padding = "X-Padding: " + "p" * 4096
    with gateway.connect() as connection:
        connection.settimeout(PROMPTLY_S)
        for _ in range(20):
            size = f"Content-Length: {len(body)}"
            connection.sendall(head("GET", "/healthz", padding, size) + body)
            assert status(received(connection)) == 200
        created = json.dumps({"model": "test", "sessionId": sid}).encode()
        size = f"Content-Length: {len(created)}"
        connection.sendall(head("POST", "/v1/sessions", JSON, size, "Expect: 100-continue"))
        assert status(connection.recv(65536)) == 100  # the head was read, and by itself
        connection.sendall(created)
        assert status(received(connection)) == 201


@covers("keys.header")
def test_a_trailer_is_no_header_and_brings_no_key(gateway):
    lines = [b"POST /v1/sessions HTTP/1.1", b"Host: x", JSON.encode()]
    chunked = b'Transfer-Encoding: chunked\r\n\r\n11\r\n{"model": "test"}\r\n0\r\n'
    trailer = f"X-API-Key: {ACME}\r\n\r\n".encode()
    assert status(exchange(gateway, b"\r\n".join([*lines, chunked]) + trailer)) == 401


@covers("limits.idle-connections")
@pytest.mark.parametrize(
    ("method", "line"),
    [("POST", "X-A: b"), ("GET", "Content-Length: 2"), ("GET", "Transfer-Encoding: chunked")],
)
def test_what_cannot_open_a_websocket_is_refused_and_not_held_open(gateway, method, line):
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", line)
    answer = exchange(gateway, head(method, "/v1/sessions/s/ws", *upgrade))
    assert (status(answer), error(answer)) == (400, "bad_request")


def test_a_websocket_that_announces_a_body_of_nothing_is_opened(gateway, acme, sid):
    create(acme, sid)
    lines = (
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Content-Length: 0",
    )  # fmt: skip
    with gateway.connect() as connection:
        connection.settimeout(PROMPTLY_S)
        connection.sendall(head("GET", f"/v1/sessions/{sid}/ws", *lines))
        assert status(connection.recv(65536)) == 101


@covers("limits.head-size", "limits.body-time", "limits.idle-connections")
def test_a_client_that_is_too_slow_is_disconnected_at_each_step(tmp_path):
    limits = {"head_timeout_s": 0.3, "body_timeout_s": 0.3, "keep_alive_s": 1}
    with RunningGateway(tmp_path, limits=limits) as gateway:
        for sent, answered in (
            (b"", None),
            (b"GET /healthz HT", 408),
            (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ", 408),
            (head("POST", "/v1/sessions", JSON, "Content-Length: 10") + b"{", 408),
            (head("POST", "/v1/sessions", JSON, "Transfer-Encoding: chunked"), 408),
        ):
            answer = exchange(gateway, sent)
            assert (status(answer) if answer else None) == answered, sent
        with gateway.connect() as connection:
            connection.settimeout(PROMPTLY_S)
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert status(received(connection)) == 200
            assert connection.recv(1) == b""  # closed after the keep-alive


def test_a_slow_drip_of_header_bytes_does_not_extend_the_deadline(tmp_path):
    limits = {"head_timeout_s": 0.5}
    with RunningGateway(tmp_path, limits=limits) as gateway, gateway.connect() as connection:
        connection.settimeout(0.02)
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        begun = time.monotonic()
        answer = b""
        while time.monotonic() - begun < PROMPTLY_S and not answer:
            try:
                connection.sendall(b"X-A: b\r\n")
                answer = connection.recv(4096)
            except TimeoutError:
                continue
        assert status(answer) == 408


@covers("limits.idle-connections")
def test_a_thousand_idle_connections_harm_nobody(gateway, acme, sid):
    idle = [gateway.connect() for _ in range(1000)]
    try:
        create(acme, sid)
        assert turn_of(acme, sid, "still here")[-1][1] == "agent_end"
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0",
        b"POST /v1/sessions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
    ],
)
def test_what_is_no_http_is_refused(gateway, raw):
    with gateway.connect() as connection:
        connection.settimeout(PROMPTLY_S)
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = received(connection)
    assert answer == b"" or 400 <= status(answer) < 500
    assert b"Traceback" not in answer


@pytest.mark.parametrize(
    "path",
    ["/v1/sessions/" + "a" * 20_000, "/v1/sessions/%ff%fe", "/v1/sessions/%00", "/v1/sessions/%",
     "//v1/sessions", "/v1//sessions", "/v1/sessions/a;b", "/v1/../ops/status", "/%2e%2e/passwd"],
)  # fmt: skip
def test_paths_that_make_no_sense_are_answered_with_an_error(gateway, path):
    answer = exchange(gateway, head("GET", path))
    assert 400 <= status(answer) < 500
    assert b"Traceback" not in answer


@pytest.mark.parametrize(
    "step",
    ["head", "body", "prompt", "stream", "delete", "create"],
)
def test_a_client_that_vanishes_at_any_step_leaves_nothing_open(gateway, acme, sid, step):
    create(acme, sid, blueprint="patient")
    body = b'{"text": "x"}'
    length = f"Content-Length: {len(body)}"
    prompt = f"/v1/sessions/{sid}/prompt"
    sent = {
        "head": b"POST /v1/sessions HTTP/1.1\r\nHos",
        "body": head("POST", prompt, JSON, length) + body[:4],
        "prompt": head("POST", prompt, JSON, length) + body,
        "stream": head("GET", f"/v1/sessions/{sid}/events"),
        "delete": head("DELETE", f"/v1/sessions/{sid}"),
        "create": head("POST", "/v1/sessions", JSON, "Content-Length: 17") + b'{"model": "test"}',
    }[step]
    connection = gateway.connect()
    connection.sendall(sent)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    connection.close()
    eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == 0)
    acme.delete(f"/v1/sessions/{sid}")
    assert acme.get("/healthz").status_code == 200
    assert gateway.error is None


def test_five_hundred_sessions_that_were_opened_and_abandoned_are_gone(tmp_path):
    from dataclasses import replace

    from frontdesk.agents.blueprints import Blueprints
    from gateway.agents import parrot

    short = replace(parrot, unused_timeout_s=0.2, idle_timeout_s=0.2)
    with (
        RunningGateway(tmp_path, agents=Blueprints([short])) as gateway,
        gateway.client() as client,
    ):
        for number in range(500):
            create(client, f"s{number}")
        eventually(lambda: client.get("/healthz").json()["sessions"]["active"] == 0)
        ended = client.get("/v1/sessions/s499").json()
        assert (ended["error"], ended["reason"]) == ("session_dead", "expired")


@covers("routes.delete-bounded")
@pytest.mark.parametrize("blueprint", ["patient", "deaf", "flooding", "careful"])
def test_delete_answers_within_grace_plus_a_second_whatever_is_under_way(tmp_path, blueprint):
    grace_s = 1
    turns = {"end_grace_s": grace_s}
    with RunningGateway(tmp_path, turns=turns) as gateway, gateway.client() as client:
        create(client, "s", blueprint=blueprint)
        client.post("/v1/sessions/s/prompt", json={"text": "x"})
        with events(client, "s", since="0") as stream:
            while next(stream)[1] not in ("message_delta", "approval_required"):
                pass
            begun = time.monotonic()
            assert client.delete("/v1/sessions/s").status_code == 200
            assert time.monotonic() - begun < grace_s + 1
            names = [each[1] for each in stream]
        assert names[-1] == "session_end"
        assert names.count("agent_abort") == 1
        assert client.get("/healthz").json()["sessions"]["active"] == 0
        assert client.get("/v1/sessions/s").json()["error"] == "session_dead"


def test_two_deletes_at_once_both_answer(gateway, acme, sid):
    import threading

    create(acme, sid, blueprint="patient")
    acme.post(f"/v1/sessions/{sid}/prompt", json={"text": "x"})
    answers = []

    def delete():
        with gateway.client() as client:
            answers.append(client.delete(f"/v1/sessions/{sid}").status_code)

    threads = [threading.Thread(target=delete) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(answers) == 5
    assert set(answers) <= {200, 404}
    assert 200 in answers


def test_random_websocket_messages_are_all_answered(gateway, acme, sid):
    create(acme, sid)
    chance = random.Random(20261122)
    names = ["prompt", "approve", "reject", "respond", "abort", "steer", "nope", None, 5]
    values = ["x", "", None, 5, [], {}, {"a": [1]}, True, "\u0000", "é" * 10]
    fields = ["text", "approvalId", "reason", "ref", "response", "killTools", "action"]
    url = f"{gateway.ws_url}/v1/sessions/{sid}/ws?api_key={ACME}&types=session_end"
    with connect(url) as ws:
        for _ in range(300):
            message = {name: chance.choice(values) for name in chance.sample(fields, 3)}
            if chance.random() < 0.8:
                message["action"] = chance.choice(names)
            ws.send(json.dumps(message))
            answer = json.loads(ws.recv(timeout=20))
            assert "event" not in answer
            assert answer.get("status") or (answer["error"] and answer["message"])
            assert answer.get("error") != "internal"
    ws.recv_events_thread.join(20)


def test_random_stream_parameters_never_fail_the_server(acme, sid):
    create(acme, sid)
    acme.delete(f"/v1/sessions/{sid}")
    chance = random.Random(20261122)
    pieces = ["1", "0", "-", "a", "999999999999999999999", "%00", ",", "agent_end", "é", "+", "&"]
    for _ in range(300):
        since, types, last = ("".join(chance.choices(pieces, k=3)) for _ in range(3))
        headers = (
            {"Last-Event-ID": last.encode().replace(b"%00", b"")} if chance.random() < 0.3 else {}
        )
        response = acme.get(
            f"/v1/sessions/{sid}/events?since={since}&types={types}", headers=headers
        )
        assert response.status_code in (200, 204, 400)


@pytest.mark.parametrize("verb", ["GET", "POST"])
def test_many_requests_in_one_packet_are_all_answered(gateway, verb):
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with gateway.connect() as connection:
        connection.settimeout(PROMPTLY_S)
        connection.sendall(one * 20)
        answer = b""
        while answer.count(b"HTTP/1.1 200") < 20:
            answer += connection.recv(65536)


def test_a_client_of_http_1_0_is_served(gateway):
    answer = exchange(gateway, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert status(answer) == 200


def test_an_async_client_with_a_hundred_requests_at_once_is_served(gateway, acme, sid):
    import asyncio

    create(acme, sid)

    async def scenario():
        headers = {"X-API-Key": ACME}
        async with httpx.AsyncClient(
            base_url=gateway.url, headers=headers, trust_env=False, timeout=20
        ) as client:
            return await asyncio.gather(*(client.get(f"/v1/sessions/{sid}") for _ in range(100)))

    assert {each.status_code for each in asyncio.run(scenario())} == {200}
