"""`frontdesk serve --cluster`: gateways in processes of their own, with a real engine between."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from docs.pages import page
from gateway.command import serving
from gateway.running import create, events, turn_of
from gateway.worker_processes import WITHIN_S, workers
from support.engines import PROGRAMS, VALKEY, EngineServer, certificates
from support.waiting import create_when_known, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECRET = "the secret of all nodes, which has more than 32 bytes"


@pytest.fixture(params=PROGRAMS[:1], ids=str)
def engine(request):
    with EngineServer(request.param) as server:
        yield server


@contextmanager
def node(directory, engine, name, *arguments, run=serving, **environment):
    """Run a node of the engine's cluster; each has a state directory of its own."""
    (directory / name).mkdir(exist_ok=True)
    secret = directory / "secret"
    secret.write_text(SECRET)
    environment = {
        "FRONTDESK_CLUSTER": engine.url,
        "FRONTDESK_CLUSTER__NAME": name,
        "FRONTDESK_CLUSTER__SECRET_FILE": str(secret),
        "FRONTDESK_CONVERSATIONS__STORE": "memory",
        # What is asked until a new engine knows counts as well.
        "FRONTDESK_LIMITS__REQUESTS_PER_MINUTE": "100000",
        **environment,
    }
    with run(directory / name, *arguments, **environment) as server:
        yield server


def test_a_session_of_one_gateway_is_served_by_another(tmp_path, engine):
    with node(tmp_path, engine, "a") as a, node(tmp_path, engine, "b") as b:
        with a.client() as first, b.client() as second:
            create_when_known(first.request, "s")
            assert turn_of(second, "s", "hello there")[-1][1] == "agent_end"
            taken = second.post("/v1/sessions", json={"model": "test", "sessionId": "s"})
            assert taken.status_code == 409
            token = first.post("/v1/sessions/s/tokens", json={"scopes": ["read"]}).json()["token"]
            shown = second.get("/v1/sessions/s", headers={"X-API-Key": token})
            assert shown.status_code == 200, shown.text
        assert (a.terminate(), b.terminate()) == (0, 0)


def test_who_gets_a_dead_nodes_state_buries_it_at_once(tmp_path, engine):
    with node(tmp_path, engine, "b") as b, b.client() as client:
        with node(tmp_path, engine, "a") as a:
            with a.client() as first:
                create_when_known(first.request, "s")
            a.process.kill()
            a.wait()
        taken = client.post("/v1/sessions", json={"model": "test", "sessionId": "s"})
        assert taken.status_code in (409, 503)
        with node(tmp_path, engine, "a") as again:
            # Long before its lease has run out and the hold is over, 42 s.
            assert "1 of its sessions are lost" in again.log
            create(client, "s")


def test_a_node_that_leaves_leaves_nothing_to_bury(tmp_path, engine):
    with node(tmp_path, engine, "a") as a:
        written = tmp_path / "a" / "state" / "node.incarnation"
        assert len(written.read_text()) == 32
        a.terminate()
        assert written.read_text() == ""


def test_two_gateways_on_one_state_directory_are_refused(tmp_path, engine):
    with node(tmp_path, engine, "a"):
        state = ("--state-dir", str(tmp_path / "a" / "state"))
        with node(tmp_path, engine, "b", *state, wait=False) as b:
            assert b.wait(WITHIN_S) == 2
            assert "another gateway that runs has its state here" in b.log


def test_workers_of_a_machine_are_nodes_of_a_cluster_too(tmp_path, engine):
    with (
        node(tmp_path, engine, "b") as b,
        b.client() as outside,
        node(tmp_path, engine, "a", "2", run=numbered) as service,
    ):
        with service.client_of(1) as first, service.client_of(2) as second:
            create_when_known(first.request, "s")
            for client in (second, outside):
                assert turn_of(client, "s", "hello")[-1][1] == "agent_end"
            life = service.life(1)
            life.kill()
            service.await_another(1, life)
            eventually(lambda: outside.get("/v1/sessions/s").status_code in (404, 410))
        assert service.server.terminate() == 0


@contextmanager
def numbered(directory, count, **environment):
    with workers(directory, int(count), **environment) as service:
        yield service


def test_a_worker_that_dies_while_the_engine_is_away_is_replaced_when_it_is_back(tmp_path, engine):
    with node(tmp_path, engine, "a", "2", run=numbered) as service:
        life = service.life(1)
        engine.kill()
        life.kill()
        eventually(lambda: service.says("worker 1 waits for the engine"), within_s=WITHIN_S)
        for _ in range(20):  # all go to the one that is there
            with service.server.client() as client:
                assert client.get("/readyz").status_code == 200
        engine.start()
        service.await_another(1, life)
        assert not service.says("deaths of workers")
        assert service.server.terminate() == 0


def between_nodes(directory):
    """Write the certificate that nodes show each other, and who signs it, anew; return settings."""
    files = certificates(directory)
    return {
        "FRONTDESK_CLUSTER__TLS_CERTIFICATE": files.server,
        "FRONTDESK_CLUSTER__TLS_KEY": files.server_key,
        "FRONTDESK_CLUSTER__TLS_CA": files.authority,
    }


def test_nodes_show_each_other_certificates_and_refuse_who_has_none(tmp_path, engine):
    tls = between_nodes(tmp_path)
    with (
        node(tmp_path, engine, "a", **tls) as a,
        node(tmp_path, engine, "b", **tls) as b,
        node(tmp_path, engine, "c") as plain,
        a.client() as first,
        b.client() as second,
        plain.client() as third,
    ):
        create_when_known(first.request, "s")
        assert turn_of(second, "s", "hello there")[-1][1] == "agent_end"
        create_when_known(third.request, "t")
        assert third.get("/v1/sessions/s").status_code == 503
        assert second.get("/v1/sessions/t").status_code == 503


def test_what_nodes_show_each_other_is_read_again_at_a_reload_and_no_connection_is_cut(
    tmp_path, engine
):
    tls = between_nodes(tmp_path)
    with (
        node(tmp_path, engine, "a", **tls) as a,
        node(tmp_path, engine, "b", **tls) as b,
        a.client() as first,
        b.client() as second,
    ):
        create_when_known(first.request, "s")
        with events(second, "s", since="0") as stream:
            between_nodes(tmp_path)  # another authority: whoever has the old files is a stranger
            for server in (a, b):
                server.signal(signal.SIGHUP)
                eventually(lambda server=server: "reloaded: " in server.log, within_s=WITHIN_S)
            with node(tmp_path, engine, "c", **tls) as c, c.client() as third:
                create_when_known(third.request, "t")
                for client, session in ((third, "s"), (second, "t"), (first, "t")):
                    assert turn_of(client, session, "hello there")[-1][1] == "agent_end"
            assert any(kind == "agent_end" for _, kind, _ in stream), "it was open all the time"
        (tmp_path / "server.key").write_text("this is no key")
        a.signal(signal.SIGHUP)
        eventually(lambda: "not reloaded" in a.log, within_s=WITHIN_S)
        assert first.get("/v1/sessions/s").status_code == 200


@pytest.mark.parametrize("name", ["README.md", "docs/how-to/several-workers.md"])
def test_the_lines_that_the_documents_say_to_type_for_a_cluster_work(tmp_path, engine, name):
    (block,) = [b for b in page(name).blocks if b.language == "sh" and "--cluster" in b.source]
    assert "valkey://127.0.0.1:6379" in block.source
    lines = block.source.replace("valkey://127.0.0.1:6379", engine.url).splitlines()
    script = "\n".join(line for line in lines if not line.startswith("pip install "))
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            ["bash", "-c", f"{script} --port 0 & echo $! > pid; wait"], cwd=tmp_path, stderr=log,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )  # fmt: skip
    try:
        eventually(lambda: "answers at" in (tmp_path / "log").read_text(), within_s=WITHIN_S)
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
        process.wait(WITHIN_S)


def test_an_engine_that_is_not_there_is_told_at_the_start(tmp_path):
    gone = EngineServer(VALKEY)
    with node(tmp_path, gone, "a", wait=False) as a:
        assert a.wait(WITHIN_S) == 5
        assert a.log.startswith("frontdesk: the cluster's engine cannot do this now: ")


def test_a_supervisor_with_an_engine_elsewhere_holds_no_index(tmp_path, engine):
    with node(tmp_path, engine, "a", "2", run=numbered) as service:
        assert not (tmp_path / "a" / "state" / "sockets" / "engine.sock").exists()
        service.server.signal(signal.SIGTERM)
        assert service.server.wait(WITHIN_S) == 0
