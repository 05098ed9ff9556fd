"""What has gone wrong elsewhere with tenants and streams, and must not go wrong here."""

import asyncio
import json
import os
import signal
import threading

import pytest
from websockets.sync.client import connect

from gateway.requirements import covers
from gateway.running import ACME, RunningGateway, create, events, turn_of, until
from support.waiting import eventually

PROCESS = {"blueprints": {"process": {"kind": "process"}}}


# -- tenants -------------------------------------------------------------------------------------


@covers("tenants.other-key")
def test_another_tenant_can_neither_subscribe_to_nor_cancel_a_turn(acme, umbrella, sid):
    create(acme, sid, blueprint="patient")
    acme.post(f"/v1/sessions/{sid}/prompt", json={"text": "secret plan"})
    assert umbrella.get(f"/v1/sessions/{sid}/events").status_code == 404
    for verb in ("abort", "prompt", "steer"):
        answer = umbrella.post(f"/v1/sessions/{sid}/{verb}", json={"text": "x"})
        assert answer.status_code == 404
    assert umbrella.delete(f"/v1/sessions/{sid}").status_code == 404
    assert acme.get(f"/v1/sessions/{sid}").json()["state"] == "working"
    acme.post(f"/v1/sessions/{sid}/abort")


@covers("tenants.foreign-is-absent")
def test_what_has_no_owner_is_open_to_nobody(gateway, acme, umbrella):
    async def put_in_past_the_gateway():
        task = asyncio.create_task(asyncio.sleep(3600))
        for name in ("orphan", "/orphan", "nobody/orphan"):
            gateway.gateway.store.create(name, task)
        return task

    task = gateway.call(put_in_past_the_gateway)
    try:
        for client in (acme, umbrella):
            for name in ("orphan", "%2Forphan", "nobody%2Forphan", "..%2Fnobody%2Forphan"):
                assert client.get(f"/v1/sessions/{name}").status_code in (400, 404)
                assert client.delete(f"/v1/sessions/{name}").status_code in (400, 404)
            listed = client.get("/v1/sessions?limit=1000").json()["sessions"]
            assert not any("orphan" in each["sessionId"] for each in listed)
    finally:
        gateway.loop.call_soon_threadsafe(task.cancel)
        eventually(lambda: not any("orphan" in each.session_id for each in stored(gateway)))


def stored(gateway):
    return gateway.call(lambda: gateway.gateway.store.list())


@covers("tenants.other-key")
def test_a_credential_of_another_tenant_does_not_go_on_with_a_session(acme, umbrella, sid):
    create(acme, sid)
    last = turn_of(acme, sid, "hello")[-1][0]
    headers = {"Last-Event-ID": last}
    assert umbrella.get(f"/v1/sessions/{sid}/events", headers=headers).status_code == 404
    assert umbrella.get(f"/v1/sessions/{sid}/messages").status_code == 404


# -- streams -------------------------------------------------------------------------------------


@covers("events.no-gaps", "streams.resume")
def test_ids_of_a_burst_do_not_collide_and_resuming_in_it_loses_nothing(acme, sid):
    create(acme, sid, blueprint="chatty")
    whole = turn_of(acme, sid, "200")
    assert len({each[0] for each in whole}) == len(whole) > 200
    for position in (0, 1, 57, 150, len(whole) - 2):
        with events(acme, sid, headers={"Last-Event-ID": whole[position][0]}) as stream:
            assert until(stream, "agent_end") == whole[position + 1 :]


@covers("streams.slow-reader")
def test_a_subscriber_that_is_full_does_not_silently_lose_events(tmp_path):
    streams = {"kept_events": 20, "kept_bytes": 50_000}
    with RunningGateway(tmp_path, streams=streams) as gateway, gateway.client() as client:
        create(client, "s", blueprint="flooding")
        client.post("/v1/sessions/s/prompt", json={"text": "x"})
        last, gaps = "0", 0
        for _ in range(5):
            with events(client, "s", since=last) as stream:
                for event_id, name, data in stream:
                    if name == "error":
                        assert data["reason"] == "gap"
                        gaps += 1
                        expected = int(data["resumesAt"].partition("-")[2])
                        continue
                    index = int(event_id.partition("-")[2])
                    if last != "0" or gaps:
                        assert index == expected, "an event is missing and nobody said so"
                    expected, last = index + 1, event_id
                    if index % 50 == 0:
                        break
        client.post("/v1/sessions/s/abort")
        assert gaps


@covers("streams.headers", "streams.heartbeat")
def test_a_proxy_neither_buffers_the_stream_nor_drops_it_when_idle(tmp_path):
    streams = {"heartbeat_s": 0.05}
    with RunningGateway(tmp_path, streams=streams) as gateway, gateway.client() as client:
        create(client, "s")
        with gateway.connect() as raw:
            lines = ("GET /v1/sessions/s/events HTTP/1.1", "Host: x", f"X-API-Key: {ACME}", "", "")
            raw.sendall("\r\n".join(lines).encode())
            received = b""
            while received.count(b": still here") < 3:
                received += raw.recv(4096)
        head, _, body = received.partition(b"\r\n\r\n")
        assert b"x-accel-buffering: no" in head.lower()
        assert b"content-encoding" not in head.lower()
        assert body.index(b": welcome") < body.index(b": still here")


@covers("streams.disconnect-harms-no-turn")
def test_the_disconnect_of_every_client_does_not_kill_the_turn(gateway, acme, sid):
    create(acme, sid, blueprint="patient")
    acme.post(f"/v1/sessions/{sid}/prompt", json={"text": "x"})
    url = f"{gateway.ws_url}/v1/sessions/{sid}/ws?api_key={ACME}&since=0"
    with connect(url) as ws, events(acme, sid) as stream:
        until(stream, "message_delta")
        ws.recv(timeout=20)
    ws.recv_events_thread.join(20)
    assert acme.get(f"/v1/sessions/{sid}").json()["state"] == "working"
    acme.post(f"/v1/sessions/{sid}/steer", json={"text": "go"})
    with events(acme, sid) as stream:
        assert until(stream, "agent_end", "agent_abort")[-1][1] == "agent_end"


@covers("events.killed-in-the-middle", "streams.ends", "streams.replay")
@pytest.mark.chaos
def test_clients_of_a_dead_agent_do_not_wait_for_ever(tmp_path):
    with (
        RunningGateway(tmp_path, agents=None, **PROCESS) as gateway,
        gateway.client() as client,
    ):
        create(client, "s", blueprint="process")
        pid = gateway.call(lambda: gateway.gateway.store.list()[0].pid)
        client.post("/v1/sessions/s/prompt", json={"text": "hello"})
        followed = []

        def follow():
            with events(client, "s", since="0") as stream:
                followed.extend(stream)

        thread = threading.Thread(target=follow)
        thread.start()
        url = f"{gateway.ws_url}/v1/sessions/s/ws?api_key={ACME}"
        with connect(url) as ws:
            os.kill(pid, signal.SIGKILL)
            last = [json.loads(message) for message in ws][-1]
        ws.recv_events_thread.join(20)
        thread.join(20)
        assert last["event"] == followed[-1][1] == "session_end"
        names = [each[1] for each in followed]
        assert names.count("agent_end") + names.count("agent_abort") == 1
        with events(client, "s") as stream:
            assert list(stream)[-1][1] == "session_end"
        assert client.post("/v1/sessions/s/prompt", json={"text": "x"}).status_code == 404
