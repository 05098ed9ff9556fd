"""`frontdesk serve --workers`: real processes, one address, one registry."""

import os
import signal
import socket
import ssl
import threading
from pathlib import Path

import httpx
import pytest

from gateway.command import CONFIG, IN_MEMORY, frontdesk, serving
from gateway.running import create, events, turn_of
from gateway.worker_processes import WITHIN_S, workers
from support.engines import certificates
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ISOLATED = """
[blueprints.patient]
kind = "python"
target = "gateway.agents:patient"
isolation = "process"
"""


def following(client, session_id):
    """Follow a stream in a thread; the list fills until the stream ends."""
    seen, opened = [], threading.Event()

    def follow():
        with events(client, session_id, since="0") as stream:
            opened.set()
            seen.extend(stream)

    thread = threading.Thread(target=follow)
    thread.start()
    assert opened.wait(WITHIN_S)
    return seen, thread


def test_a_killed_workers_sessions_end_as_lost_and_all_others_go_on(tmp_path):
    with workers(tmp_path, 2, config=IN_MEMORY) as service:
        with service.client_of(1) as first, service.client_of(2) as second:
            create(first, "mine", blueprint="patient")
            create(second, "theirs", blueprint="patient")
            for session in ("mine", "theirs"):
                second.post(f"/v1/sessions/{session}/prompt", json={"text": "x"})
            with service.client_of(2) as other, service.client_of(2) as another:
                lost, lost_thread = following(other, "mine")
                kept, kept_thread = following(another, "theirs")
                eventually(lambda: lost and kept)
                life = service.life(1)
                life.kill()
                lost_thread.join(WITHIN_S)
                assert lost[-1][1:] == ("session_end", {"reason": "lost"})
                assert kept_thread.is_alive()
                eventually(lambda: second.get("/v1/sessions/mine").status_code != 200)
                create(second, "mine")
                assert turn_of(second, "mine", "again")[-1][1] == "agent_end"
                steered = second.post("/v1/sessions/theirs/steer", json={"text": "go"})
                assert steered.status_code == 202
                eventually(lambda: any(each[1] == "agent_end" for each in kept))
                service.await_another(1, life)
                with service.client_of(1) as anew:
                    assert turn_of(anew, "mine", "once more")[-1][1] == "agent_end"
                second.delete("/v1/sessions/theirs")
                kept_thread.join(WITHIN_S)
        assert service.server.terminate() == 0


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A service of two workers, whose state directory has too long a name for a Unix socket."""
    directory = tmp_path_factory.mktemp("shared") / ("a-long-name-" * 10)
    with workers(directory, 2) as service:
        service.directory = directory
        yield service
        assert service.server.terminate() == 0


@pytest.fixture
def both(shared):
    """A client of either worker."""
    with shared.client_of(1) as first, shared.client_of(2) as second:
        yield first, second


def test_any_worker_serves_any_session(both):
    first, second = both
    create(first, "one")
    create(second, "two")
    for client in both:
        for session in ("one", "two"):
            seen = turn_of(client, session, "hello there")
            assert seen[-1][1] == "agent_end"
            assert client.get(f"/v1/sessions/{session}").status_code == 200
        taken = client.post("/v1/sessions", json={"model": "test", "sessionId": "one"})
        assert taken.status_code == 409
        listed = client.get("/v1/sessions").json()["sessions"]
        assert {each["sessionId"] for each in listed} >= {"one", "two"}
    assert second.delete("/v1/sessions/one").status_code == 200
    assert first.get("/v1/sessions/one").status_code in (404, 410)


@pytest.mark.parametrize(
    ("state", "arguments"),
    [("state", ("--workers", "2")), ("state", ()), ("state/workers/1", ())],
    ids=["a service", "a lone gateway", "a lone gateway in a worker's"],
)
def test_a_second_one_on_the_same_state_directory_is_refused(
    shared, both, tmp_path, state, arguments
):
    command = (*arguments, "--state-dir", str(shared.directory / state))
    # One that stores conversations would wait for a while.
    with serving(tmp_path / "again", *command, config=IN_MEMORY, wait=False) as again:
        assert again.wait(WITHIN_S) == 2
        assert "another gateway that runs has its state here" in again.log
    assert both[1].get("/v1/sessions").status_code == 200


def test_keys_and_session_tokens_are_good_at_every_worker(shared, both):
    made = frontdesk(
        shared.directory, "keys", "create", "--tenant", "acme", "--state-dir", "state"
    ).stdout
    secret = next(line.split()[1] for line in made.splitlines() if line.startswith("secret"))
    create(both[0], "a")
    token = both[0].post("/v1/sessions/a/tokens", json={"scopes": ["read"]}).json()["token"]

    def opens(client, key):
        return client.get("/v1/sessions/a", headers={"X-API-Key": key}).status_code == 200

    for client in both:
        for key in (secret, token):
            eventually(lambda client=client, key=key: opens(client, key))


@pytest.mark.parametrize("order", ["supervisor", "worker-first", "supervisor-first"])
def test_nobody_is_left_whoever_is_killed_first(tmp_path, order):
    with workers(tmp_path, 2, config=ISOLATED) as service:
        with service.client_of(1) as first, service.client_of(2) as second:
            create(first, "a", blueprint="patient")
            create(second, "b", blueprint="patient")
        known = service.below()
        assert len(known) > 5  # supervisor, workers, keepers, agents
        supervisor, worker = service.server.process, service.life(1)
        if order == "worker-first":
            worker.kill()
        supervisor.kill()
        if order == "supervisor-first":
            worker.kill()
        for life in known:
            life.await_end()


def test_a_port_that_is_taken_is_refused(tmp_path):
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = str(taken.getsockname()[1])
        with serving(tmp_path, "--workers", "2", "--port", port, wait=False) as server:
            assert server.wait(WITHIN_S) == 2
            assert "Address already in use" in server.log


def test_a_wrong_configuration_is_told_once_and_starts_nothing(tmp_path):
    wrong = CONFIG + '[blueprints.odd]\nkind = "python"\ntarget = "no_such:agent"\n'
    with serving(tmp_path, "--workers", "3", config=wrong, wait=False) as server:
        assert server.wait(WITHIN_S) == 2
        assert server.log.count("no_such:agent") == 1


def test_a_reload_reaches_all_workers_and_a_wrong_one_none(tmp_path):
    with workers(tmp_path, 2) as service:
        file = tmp_path / "frontdesk.toml"
        with service.client_of(1) as first, service.client_of(2) as second:
            file.write_text(CONFIG + "[limits]\ntext_characters = 'many'\n")
            service.server.signal(signal.SIGHUP)
            eventually(lambda: service.says("not reloaded"), within_s=WITHIN_S)
            (told,) = [
                each for each in service.lines() if "not reloaded" in each.get("message", "")
            ]
            assert "limits.text_characters" in told["message"]
            file.write_text(CONFIG + "[limits]\ntext_characters = 3\n")
            service.server.signal(signal.SIGHUP)
            create(first, "a")
            create(second, "b")
            for client, session in ((first, "a"), (second, "b")):
                path = f"/v1/sessions/{session}/prompt"
                eventually(
                    lambda client=client, path=path: (
                        client.post(path, json={"text": "too long"}).status_code == 413
                    ),
                    within_s=WITHIN_S,
                )


def test_a_sigterm_drains_all_within_one_grace_and_every_stream_says_goodbye(tmp_path):
    with workers(tmp_path, 2, "--grace-s", "60", config=IN_MEMORY) as service:
        with service.client_of(1) as first, service.client_of(2) as second:
            followed = []
            for client, session in ((first, "a"), (second, "b")):
                create(client, session, blueprint="patient")
                client.post(f"/v1/sessions/{session}/prompt", json={"text": "x"})
                followed.append(following(client, session))
            eventually(lambda: all(seen for seen, _ in followed))
            with service.client_of(1) as other, service.client_of(2) as another:
                service.server.signal(signal.SIGTERM)
                for client in (other, another):
                    eventually(lambda client=client: client.get("/readyz").status_code == 503)
                for client, session in ((other, "a"), (another, "b")):
                    steered = client.post(f"/v1/sessions/{session}/steer", json={"text": "go"})
                    assert steered.status_code == 202
            for seen, thread in followed:
                thread.join(WITHIN_S)
                assert seen[-1][1:] == ("session_end", {"reason": "shutdown"})
                assert "agent_end" in {each[1] for each in seen}
        assert service.server.wait(WITHIN_S) == 0


def test_a_second_sigterm_ends_all_at_once(tmp_path):
    with (
        workers(tmp_path, 2, "--grace-s", "600") as service,
        service.client_of(1) as first,
        service.client_of(2) as second,
    ):
        for client, session in ((first, "a"), (second, "b")):
            create(client, session, blueprint="patient")
            client.post(f"/v1/sessions/{session}/prompt", json={"text": "x"})
        service.server.signal(signal.SIGTERM)
        eventually(lambda: first.get("/readyz").status_code == 503)
        service.server.signal(signal.SIGTERM)
        assert service.server.wait(WITHIN_S) == -signal.SIGTERM


def test_a_worker_that_gets_the_sigterm_too_drains_all_the_same(tmp_path):
    """A service manager sends it to every process of a service."""
    with workers(tmp_path, 2, "--grace-s", "60") as service, service.client_of(1) as client:
        create(client, "a", blueprint="patient")
        client.post("/v1/sessions/a/prompt", json={"text": "x"})
        seen, thread = following(client, "a")
        with service.client_of(1) as other:
            for pid in (service.server.process.pid, service.pid(1), service.pid(2)):
                os.kill(pid, signal.SIGTERM)
            eventually(lambda: other.get("/readyz").status_code == 503)
            os.kill(service.pid(1), signal.SIGTERM)
            steered = other.post("/v1/sessions/a/steer", json={"text": "go"})
            assert steered.status_code == 202
        thread.join(WITHIN_S)
        assert "agent_end" in {each[1] for each in seen}
        assert service.server.wait(WITHIN_S) == 0


def test_too_many_deaths_end_the_service_and_it_says_why(tmp_path):
    with workers(tmp_path, 2) as service:
        for _ in range(4):
            life = service.life(1)
            life.kill()
            service.await_another(1, life)
        service.life(1).kill()
        assert service.server.wait(WITHIN_S) == 1
        assert service.says("5 deaths of workers in 60 s: the service ends")


OWN = """
from frontdesk.agents import blueprint

@blueprint("mine")
async def agent(turn):
    yield "the {} version "
"""


def test_a_rolling_restart_refuses_nothing_and_brings_new_code(tmp_path):
    module = tmp_path / "mine.py"
    module.write_text(OWN.format("first"))
    config = CONFIG + '[blueprints.mine]\nkind = "python"\ntarget = "mine:agent"\n'
    config += "[limits]\nrequests_per_minute = 1_000_000\n"
    with workers(tmp_path, 2, "--grace-s", "1", config=config) as service:
        module.write_text(OWN.format("second"))
        before = [service.pid(1), service.pid(2)]
        problems, count, stop = [], [0], threading.Event()

        def ask():
            while not stop.is_set():
                try:
                    with service.server.client() as client:
                        session = create(client, f"s{count[0]}")["sessionId"]
                        found = client.get(f"/v1/sessions/{session}")
                        ended = found.json().get("reason") == "shutdown"  # with its worker
                        assert found.status_code == 200 or ended, found.text
                except (httpx.HTTPError, AssertionError) as error:
                    problems.append(repr(error))
                count[0] += 1

        thread = threading.Thread(target=ask)
        thread.start()
        service.server.signal(signal.SIGUSR2)
        try:
            eventually(lambda: service.says("all workers are restarted"), within_s=2 * WITHIN_S)
        finally:
            stop.set()
            thread.join(WITHIN_S)
        assert {service.pid(1), service.pid(2)}.isdisjoint(before)
        assert count[0] > 20
        assert problems == []
        for number in (1, 2):
            with service.client_of(number) as client:
                create(client, f"mine-{number}", blueprint="mine")
                seen = turn_of(client, f"mine-{number}", "say it")
                assert "the second version" in str(seen)


def test_a_development_run_says_once_what_to_try(tmp_path):
    with workers(tmp_path, 2, "--dev", config=None, keys="") as service:
        eventually(lambda: "Ctrl-C" in service.server.output, within_s=WITHIN_S)
        assert service.server.output.count("Open a session") == 1


def test_workers_show_the_certificate_and_read_it_again(tmp_path):
    files = certificates(tmp_path)
    tls = ("--tls-certificate", files.server, "--tls-key", files.server_key)
    with workers(tmp_path, 2, *tls) as service:
        Path(files.server).write_bytes(Path(files.client).read_bytes())
        Path(files.server_key).write_bytes(Path(files.client_key).read_bytes())
        context = ssl.create_default_context(cafile=files.authority)
        port = int(service.server.url.rpartition(":")[2])
        wanted = (("commonName", "client"),)

        def shown():
            with (
                socket.create_connection(("127.0.0.1", port), 20) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as secured,
            ):
                return secured.getpeercert()["subject"][0] == wanted

        assert not shown()
        service.server.signal(signal.SIGHUP)
        eventually(lambda: all(shown() for _ in range(20)), within_s=WITHIN_S)
