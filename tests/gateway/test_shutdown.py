"""How a server ends, reloads and keeps its meter: the real command, real signals."""

import os
import resource
import signal
import socket
import sqlite3
import ssl
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

import frontdesk.gateway.server as server_module
from gateway.command import CONFIG, IN_MEMORY, KEYS, serving
from gateway.requirements import covers
from gateway.running import ACME, RunningGateway, create, events, turn_of, until
from support.processes import descendants
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def written_prompts(directory):
    connection = sqlite3.connect(directory / "state" / "usage.sqlite3")
    try:
        return connection.execute("SELECT sum(prompts) FROM usage").fetchone()[0] or 0
    finally:
        connection.close()


def following(client, session_id):
    """Follow a stream in a thread; the list fills until the stream ends."""
    seen, open_ = [], threading.Event()

    def follow():
        with events(client, session_id, since="0") as stream:
            open_.set()
            seen.extend(stream)

    thread = threading.Thread(target=follow)
    thread.start()
    assert open_.wait(20)
    return seen, thread


@covers("shutdown.exit-code", "shutdown.session-end", "meter.complete-after-sigterm")
def test_sigterm_with_open_streams_ends_cleanly_and_the_meter_is_complete(tmp_path):
    with serving(tmp_path, config=IN_MEMORY) as server, server.client() as client:
        create(client, "s")
        for _ in range(3):
            turn_of(client, "s", "hello")
        seen, thread = following(client, "s")
        assert server.terminate() == 0
        thread.join(20)
    assert seen[-1][1:] == ("session_end", {"reason": "shutdown"})
    assert written_prompts(tmp_path) == 3


@covers("shutdown.exit-code", "meter.complete-after-sigterm")
def test_sigterm_leaves_a_stored_session_and_its_stream_goes_on_after_the_next_start(tmp_path):
    with serving(tmp_path) as server, server.client() as client:
        create(client, "s")
        turn_of(client, "s", "hello")
        seen, thread = following(client, "s")
        assert server.terminate() == 0
        thread.join(20)
    assert seen[-1][1] == "agent_end"
    assert written_prompts(tmp_path) == 1
    with serving(tmp_path) as server, server.client() as client:
        summary = client.get("/v1/sessions/s").json()
        assert (summary["state"], summary["live"], summary["turns"]) == ("idle", False, 1)
        with events(client, "s", since=seen[-1][0]) as stream:
            client.post("/v1/sessions/s/prompt", json={"text": "again"})
            names = [each[1] for each in until(stream, "agent_end")]
        assert names[:2] == ["agent_restarted", "prompt_received"]


@covers("shutdown.drain", "shutdown.grace", "routes.readyz", "errors.unavailable")
def test_while_draining_the_listener_stays_open_and_the_turn_gets_its_grace(tmp_path):
    with serving(tmp_path, "--grace-s", "30") as server, server.client() as client:
        create(client, "s", blueprint="patient")
        client.post("/v1/sessions/s/prompt", json={"text": "x"})
        with events(client, "s") as stream:
            until(stream, "message_delta")
            server.signal(signal.SIGTERM)
            eventually(lambda: client.get("/readyz").status_code == 503)
            assert client.get("/healthz").status_code == 200
            for path, body in (
                ("/v1/sessions", {"model": "test"}),
                ("/v1/sessions/s/prompt", {"text": "y"}),
            ):
                refused = client.post(path, json=body)
                assert (refused.status_code, refused.json()["error"]) == (503, "unavailable")
                assert int(refused.headers["retry-after"]) > 0
            assert client.post("/v1/sessions/s/steer", json={"text": "go"}).status_code == 202
            names = [each[1] for each in stream]
        assert names[-1] == "agent_end", "it is stored, and has not ended"
        assert server.wait() == 0


IN_PROCESSES = (
    CONFIG
    + """
[blueprints.patient-apart]
kind = "python"
target = "gateway.agents:patient"
isolation = "process"
"""
)


@covers("shutdown.drain", "shutdown.grace")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_for_every_process_of_the_service_drains_turns_in_processes(tmp_path, number):
    """As systemd sends SIGTERM to a control group; the others as terminals and shells do."""
    with serving(tmp_path, "--grace-s", "60", config=IN_PROCESSES) as server:
        with server.client() as client:
            sessions = ("one", "two")
            for session in sessions:
                create(client, session, blueprint="patient-apart")
                client.post(f"/v1/sessions/{session}/prompt", json={"text": "x"})
                with events(client, session) as stream:
                    until(stream, "message_delta")
            processes = descendants(server.process.pid)
            assert len(processes) == 4
            for pid in (*processes, server.process.pid, *processes):
                os.kill(pid, signal.SIGTERM if pid == server.process.pid else number)
            eventually(lambda: client.get("/readyz").status_code == 503)
            followed = [following(client, session) for session in sessions]
            for session in sessions:
                steered = client.post(f"/v1/sessions/{session}/steer", json={"text": "go"})
                assert steered.status_code == 202
            for seen, thread in followed:
                thread.join(60)
                assert seen[-1][1] == "agent_end"
        assert server.wait() == 0
    assert not any(Path(f"/proc/{pid}/root").exists() for pid in processes)


def test_an_agent_that_is_just_starting_is_not_ended_by_a_signal_for_all(tmp_path):
    """The fork server comes with the first session: it hears of it before its first line."""
    with serving(tmp_path, "--grace-s", "60", config=IN_PROCESSES) as server:
        stop = threading.Event()

        def disturb():
            while not stop.is_set():
                for pid in descendants(server.process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)

        disturbing = threading.Thread(target=disturb)
        disturbing.start()
        try:
            with server.client() as client:
                create(client, "s", blueprint="patient-apart")
        finally:
            stop.set()
            disturbing.join(20)
        assert server.terminate() == 0


@covers("shutdown.grace")
def test_a_turn_that_outlasts_the_grace_is_aborted(tmp_path):
    with serving(tmp_path, "--grace-s", "0.3") as server, server.client() as client:
        create(client, "s", blueprint="patient")
        client.post("/v1/sessions/s/prompt", json={"text": "x"})
        seen, thread = following(client, "s")
        assert server.terminate() == 0
        thread.join(20)
    assert (seen[-1][1], seen[-1][2]["reason"]) == ("agent_abort", "shutdown")


@covers("shutdown.second-signal")
def test_a_second_signal_ends_at_once(tmp_path):
    with serving(tmp_path, "--grace-s", "600") as server, server.client() as client:
        create(client, "s", blueprint="patient")
        client.post("/v1/sessions/s/prompt", json={"text": "x"})
        server.signal(signal.SIGTERM)
        eventually(lambda: client.get("/readyz").status_code == 503)
        server.signal(signal.SIGTERM)
        assert server.wait() == -signal.SIGTERM


def test_ctrl_c_ends_it_like_sigterm(tmp_path):
    with serving(tmp_path) as server:
        server.signal(signal.SIGINT)
        assert server.wait() == 0


@covers("meter.behind-after-sigkill", "meter.survives-restart")
def test_after_sigkill_the_meter_is_at_most_a_second_behind(tmp_path):
    with serving(tmp_path) as server, server.client() as client:
        create(client, "s")
        turn_of(client, "s", "hello")
        eventually(lambda: written_prompts(tmp_path) == 1, within_s=5)
        server.process.kill()
        server.wait()
    with serving(tmp_path) as server, server.client() as client:
        assert client.get("/v1/usage").json()["key"]["prompts"] == 1


@covers("meter.disk-full")
def test_a_full_disk_breaks_no_turn(tmp_path):
    # A process whose files may not grow meets the same error as one whose disk is full. What is
    # stored of conversations waits for room: this is about the meter.
    with serving(tmp_path, config=IN_MEMORY) as server, server.client() as client:
        create(client, "s")
        turn_of(client, "s", "first")
        eventually(lambda: written_prompts(tmp_path) == 1)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        for number in range(3):
            assert turn_of(client, "s", f"turn {number}")[-1][1] == "agent_end"
        resource.prlimit(
            server.process.pid,
            resource.RLIMIT_FSIZE,
            (resource.RLIM_INFINITY, resource.RLIM_INFINITY),
        )
        eventually(lambda: written_prompts(tmp_path) == 4)
        assert server.terminate() == 0


@covers("shutdown.reload", "shutdown.wrong-file")
def test_sighup_takes_limits_and_blueprints_and_a_wrong_file_keeps_the_old(tmp_path):
    file = tmp_path / "frontdesk.toml"
    with serving(tmp_path) as server, server.client() as client:
        assert client.get("/v1/sessions").headers["x-ratelimit-limit"] == "600"
        file.write_text(
            "[limits]\nrequests_per_minute = 777\n" + CONFIG.replace("deaf", "sleepy", 1)
        )
        server.signal(signal.SIGHUP)
        eventually(lambda: client.get("/v1/sessions").headers["x-ratelimit-limit"] == "777")
        create(client, "s", blueprint="sleepy")
        file.write_text("[limits]\nrequests_per_minute = 0\n[nonsense]\n")
        server.signal(signal.SIGHUP)
        for told in ("not reloaded", "line 2: limits.requests_per_minute", "line 3: nonsense"):
            eventually(lambda told=told: told in server.log)
        assert client.get("/v1/sessions").headers["x-ratelimit-limit"] == "777"
        create(client, "t", blueprint="sleepy")


@covers("shutdown.wrong-file")
@pytest.mark.parametrize(
    "table",
    ['[blueprints.x]\nkind = "python"\ntarget = "odd:x"\n', '[guardrails]\nfilter = "odd:x"\n'],
)
@pytest.mark.parametrize("module", ["def x(:\n", "1 / 0\n", "raise SystemExit(3)\n"])
def test_a_module_that_fails_at_a_reload_leaves_the_old_in_force_and_is_named(
    tmp_path, table, module
):
    with serving(tmp_path) as server, server.client() as client:
        (tmp_path / "odd.py").write_text(module)
        (tmp_path / "frontdesk.toml").write_text(
            "[limits]\nrequests_per_minute = 777\n" + CONFIG + table
        )
        server.signal(signal.SIGHUP)
        for told in ("not reloaded", "odd:x"):
            eventually(lambda told=told: told in server.log)
        assert client.get("/v1/sessions").headers["x-ratelimit-limit"] == "600"
        assert "Traceback" not in server.log


@covers("shutdown.mistakes-by-line")
def test_a_wrong_file_stops_the_start_with_every_mistake(tmp_path):
    config = '[server]\nport = "x"\n[limits]\nbody_bytes = 1\n'
    with serving(tmp_path, config=config, wait=False) as server:
        assert server.wait() == 2
        assert "line 2: server.port" not in server.log  # the command line has set it
        assert "line 4: limits.body_bytes" in server.log
        assert "Traceback" not in server.log


def test_a_blueprint_that_cannot_be_imported_stops_the_start(tmp_path):
    config = '[blueprints.x]\nkind = "python"\ntarget = "nowhere:x"\n'
    with serving(tmp_path, config=config, wait=False) as server:
        assert server.wait() == 2
        assert "blueprints.x" in server.log
        assert "Traceback" not in server.log


@covers("keys.environment")
def test_wrong_keys_in_the_environment_stop_the_start(tmp_path):
    with serving(tmp_path, keys="acme:short", wait=False) as server:
        assert server.wait() == 2
        assert "FRONTDESK_KEYS" in server.log
        assert "short" not in server.log


def test_a_port_that_is_taken_is_a_clear_error(tmp_path):
    with serving(tmp_path / "a") as first:
        port = first.url.rpartition(":")[2]
        with serving(tmp_path / "b", "--port", port, wait=False) as second:
            assert second.wait() == 2
            assert port in second.log
            assert "Traceback" not in second.log


@covers("shutdown.tls")
def test_tls_is_served_with_a_certificate_and_key(tmp_path):
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out",
         certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    arguments = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    limits = {"FRONTDESK_LIMITS__HEAD_TIMEOUT_S": "1"}
    with serving(tmp_path, *arguments, **limits) as server:
        assert server.url.startswith("https://")
        host, port = server.url.removeprefix("https://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as silent:
            assert silent.recv(1) == b"", "a handshake has a deadline"
        trusting = ssl.create_default_context(cafile=certificate)
        with httpx.Client(
            base_url=server.url,
            verify=trusting,
            headers={"X-API-Key": ACME},
            trust_env=False,
            timeout=30,
        ) as client:
            create(client, "s")
            assert turn_of(client, "s", "over tls")[-1][1] == "agent_end"
        assert server.terminate() == 0


@covers("shutdown.tls")
@pytest.mark.parametrize("content", [None, "this is no certificate"])
def test_a_certificate_that_cannot_be_used_stops_the_start_with_a_sentence(tmp_path, content):
    file = tmp_path / "certificate.pem"
    if content is not None:
        file.write_text(content)
    options = ("--tls-certificate", str(file), "--tls-key", str(file))
    with serving(tmp_path, *options, wait=False) as server:
        assert server.wait() == 2
        assert "server.tls_certificate" in server.log
        assert "Traceback" not in server.log


@covers("keys.query-not-logged", "keys.none-configured")
def test_no_log_of_the_server_ever_has_a_secret_in_it(tmp_path):
    from websockets.sync.client import connect

    with serving(tmp_path, FRONTDESK_LOG__LEVEL="debug") as server, server.client() as client:
        create(client, "s")
        url = f"{server.url}/v1/sessions/s/events?api_key={ACME}"
        with httpx.stream("GET", url, trust_env=False, timeout=30) as response:
            assert response.status_code == 200
        with connect(url.replace("http", "ws", 1).replace("/events", "/ws")) as ws:
            ws.send("{}")
            ws.recv()
        ws.recv_events_thread.join(20)
        wrong = "wrong-secret-that-nobody-has"
        assert client.get("/v1/sessions", headers={"X-API-Key": wrong}).status_code == 401
        assert server.terminate() == 0
        assert '"status":101' in server.log
    for secret in (ACME, wrong, KEYS):
        assert secret not in server.log + server.output


def test_what_is_on_its_way_while_a_server_ends_is_answered_and_told_to_close(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(server_module, "CLOSE_TIMEOUT_S", 30)
    request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"

    def answered(connection, piece):
        connection.sendall(piece)
        answer = connection.recv(65536)
        while b"\r\n\r\n" not in answer:
            more = connection.recv(65536)
            assert more, answer
            answer += more
        return answer.partition(b"\r\n\r\n")[0].lower()

    with RunningGateway(tmp_path / "state") as server:
        address = ("127.0.0.1", server.port)
        with (
            socket.create_connection(address, 20) as used,
            socket.create_connection(address, 20) as halfway,
            socket.create_connection(address, 20) as new,
        ):
            assert b"connection: close" not in answered(used, request)
            halfway.sendall(request[:20])
            server.call(server.server.begin_draining)
            eventually(lambda: not listens(address))
            assert b"connection: close" in answered(used, request)
            assert b"connection: close" in answered(new, request)
            assert b"connection: close" in answered(halfway, request[20:])
            for each in (used, halfway, new):
                assert each.recv(1) == b""


def listens(address):
    try:
        socket.create_connection(address, 20).close()
    except ConnectionError:
        return False
    return True
