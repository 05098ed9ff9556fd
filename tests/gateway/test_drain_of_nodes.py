"""`POST /ops/nodes/{node}/drain`: a node leaves new sessions to others, and keeps what it has."""

import os
import signal
from contextlib import contextmanager

import pytest

from frontdesk.cli.dev import dev_keys
from frontdesk.gateway.state_dir import StateDir
from gateway.cluster_running import cluster
from gateway.requirements import covers
from gateway.running import OPERATOR, create, turn_of
from gateway.test_cluster_command import engine, node  # noqa: F401 - a fixture
from gateway.worker_processes import WITHIN_S, workers
from support.waiting import create_when_known, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def pair():
    """Two gateways with one registry, which know each other."""
    with cluster("host/1", "host/2") as running:
        for each in running:
            assert eventually(lambda each=each: len(each.gateway.node.nodes()) == 2)
        yield running


def drain(client, name):
    return client.post(f"/ops/nodes/{name}/drain")


def listed(client, name):
    (row,) = [each for each in client.get("/ops/nodes").json()["nodes"] if each["name"] == name]
    return row


@covers("cluster.drain-by-an-operator")
@pytest.mark.parametrize("asked", [0, 1], ids=["itself", "through the other"])
def test_a_node_that_an_operator_drains_keeps_its_sessions_and_leaves_new_ones_to_others(
    pair, asked, sid, caplog
):
    caplog.set_level("INFO", logger="frontdesk")
    drained, other = pair
    with (
        pair[asked].client(OPERATOR) as operator,
        drained.client() as here,
        other.client() as there,
    ):
        create(here, sid)
        answer = drain(operator, "host/1")
        assert answer.status_code == 200, answer.text
        assert (answer.json()["name"], answer.json()["draining"]) == ("host/1", True)
        for number in range(3):
            create(here, f"{sid}-{number}")
        assert (
            drained.call(drained.gateway.store.count),
            other.call(other.gateway.store.count),
        ) == (1, 3)
        for client in (here, there):
            assert turn_of(client, sid, "go on")[-1][1] == "agent_end"
        assert here.get("/readyz").status_code == 503
        assert there.get("/readyz").status_code == 200
        for each in pair:
            with each.client(OPERATOR) as looking:
                assert eventually(lambda looking=looking: listed(looking, "host/1")["draining"])
                assert not listed(looking, "host/2")["draining"]
        # Asked again, by its other name, nothing changes.
        again = drain(operator, answer.json()["incarnation"])
        assert (again.status_code, again.json()["draining"]) == (200, True)
    said = [each.getMessage() for each in caplog.records]
    assert [each for each in said if each.startswith("operator_action ")] == [
        "operator_action key_id='k-operator' action='drain' target='host/1' result='ok'",
        "operator_action key_id='k-operator' action='drain' target='host/1' result='already'",
    ]
    assert len([each for each in said if each.startswith("an operator drains this node")]) == 1


@covers("cluster.drain-by-an-operator")
def test_only_operators_drain_and_only_nodes_that_there_are(pair, sid, caplog):
    caplog.set_level("INFO", logger="frontdesk")
    with pair[0].client() as tenant, pair[0].client(OPERATOR) as operator:
        # As with all that is the operators': a tenant's key is none there.
        assert drain(tenant, "host/2").status_code == 401
        unknown = drain(operator, "host/3")
        assert (unknown.status_code, unknown.json()["error"]) == (404, "not_found")
        assert "host/3" in unknown.json()["message"]
        assert operator.get("/ops/nodes/host/2/drain").status_code == 405
        assert not any(each["draining"] for each in operator.get("/ops/nodes").json()["nodes"])
        create(tenant, sid)
    assert "action='drain' target='host/3' result='not_found'" in caplog.text


def test_a_node_that_does_not_answer_is_said_not_to_have_been_drained(caplog):
    caplog.set_level("INFO", logger="frontdesk")
    with cluster("one", "two", proxied=True) as (one, two), one.client(OPERATOR) as operator:
        assert eventually(lambda: len(one.gateway.node.nodes()) == 2)
        two.proxy.refuse()
        refused = drain(operator, "two")
        assert (refused.status_code, refused.json()["error"]) == (503, "unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        assert "action='drain' target='two' result='unavailable'" in caplog.text


def test_where_no_other_node_takes_sessions_those_that_are_asked_for_are_refused(pair, sid):
    with pair[0].client(OPERATOR) as operator, pair[1].client() as client:
        create(client, sid)
        for name in ("host/1", "host/2"):
            assert drain(operator, name).status_code == 200

        def refused():
            return client.post("/v1/sessions", json={"model": "test", "blueprint": "parrot"})

        assert eventually(lambda: refused().status_code == 503)
        assert turn_of(client, sid, "go on")[-1][1] == "agent_end"


def test_a_gateway_that_is_alone_has_no_node_to_drain(gateway):
    with gateway.client(OPERATOR) as operator:
        answer = drain(operator, "one")
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
        assert operator.get("/readyz").status_code == 200


@contextmanager
def operator_of(server, state, **options):
    """A client with the operator's key of a development run."""
    with server.client(dev_keys(StateDir(state, **options)).operator.secret) as client:
        yield client


@covers("cluster.drain-by-an-operator")
def test_a_worker_is_drained_through_another_and_replaced_when_it_is_ended(tmp_path):
    with (
        workers(tmp_path, 2, "--dev") as service,
        operator_of(service.server, tmp_path / "state") as operator,
        service.client_of(1) as first,
        service.client_of(2) as second,
    ):
        create(first, "stays")
        # Whichever answers may have to read of the other first.
        name = eventually(
            lambda: next(
                (
                    each["name"]
                    for each in operator.get("/ops/nodes").json()["nodes"]
                    if each["name"].endswith("/1")
                ),
                None,
            )
        )
        assert drain(operator, name).status_code == 200
        # Whichever worker it comes to: the address takes sessions, and this one has none more.
        for each in (first, second):
            # As soon as it has heard of the other.
            assert eventually(lambda each=each: each.get("/readyz").status_code == 200)
        create(first, "goes-over")
        assert eventually(lambda: listed(operator, name)["draining"], within_s=WITHIN_S)
        assert eventually(lambda: listed(operator, name)["sessions"] == 1, within_s=WITHIN_S)
        assert turn_of(first, "stays", "hello")[-1][1] == "agent_end"
        life = service.life(1)
        os.kill(life.pid, signal.SIGTERM)
        service.await_another(1, life)
        assert turn_of(second, "goes-over", "hello")[-1][1] == "agent_end"
        # What it had is stored, and goes on with its next prompt, wherever that comes to.
        assert eventually(lambda: second.get("/v1/sessions/stays").status_code == 200)
        assert turn_of(second, "stays", "again")[-1][1] == "agent_end"

        def drained():
            nodes = operator.get("/ops/nodes").json()["nodes"]
            return [each["draining"] for each in nodes if each["name"] == name]

        assert eventually(lambda: drained() == [False], within_s=WITHIN_S)
        with service.client_of(1) as anew:
            create(anew, "comes")
        assert service.server.terminate() == 0


@covers("cluster.drain-by-an-operator")
def test_a_machine_is_drained_through_another_and_ends_by_a_signal_only(tmp_path, engine):  # noqa: F811
    with node(tmp_path, engine, "a", "--dev") as a, node(tmp_path, engine, "b", "--dev") as b:
        secret = {"secret_file": tmp_path / "secret"}
        with (
            operator_of(b, tmp_path / "b" / "state", **secret) as operator,
            a.client() as first,
            b.client() as second,
        ):
            create_when_known(first.request, "stays")
            assert eventually(
                lambda: len(operator.get("/ops/nodes").json()["nodes"]) == 2, within_s=WITHIN_S
            )
            assert drain(operator, "a").status_code == 200
            assert eventually(lambda: listed(operator, "a")["draining"], within_s=WITHIN_S)
            create(first, "goes-over")
            first.delete("/v1/sessions/stays").raise_for_status()
            # Its last session is gone, and it goes on: it still serves all others.
            assert eventually(lambda: listed(operator, "a")["sessions"] == 0, within_s=WITHIN_S)
            assert turn_of(first, "goes-over", "hello")[-1][1] == "agent_end"
            assert first.get("/readyz").status_code == 503
            assert a.terminate() == 0
            assert turn_of(second, "goes-over", "again")[-1][1] == "agent_end"
        assert b.terminate() == 0
