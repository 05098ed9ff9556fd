"""Usage as operators see it: every key of every tenant, in pages, over all nodes."""

import pytest

from gateway.cluster_running import cluster
from gateway.requirements import covers
from gateway.running import OPERATOR, UMBRELLA, RunningGateway, create, turn_of
from support.waiting import eventually


def used(client, sid, text):
    create(client, sid)
    turn_of(client, sid, text)


@covers("meter.counts")
def test_an_operator_sees_what_each_key_of_each_tenant_has_used(tmp_path):
    with (
        RunningGateway(tmp_path) as running,
        running.client() as acme,
        running.client(UMBRELLA) as umbrella,
        running.client(OPERATOR) as operator,
    ):
        assert operator.get("/ops/usage").json() == {"rows": [], "next": None}
        used(acme, "a", "one two three")
        used(umbrella, "a", "one")
        rows = operator.get("/ops/usage").json()["rows"]
        said = [(row["tenantId"], row["keyId"], row["prompts"], row["totalTokens"]) for row in rows]
        assert said == [("acme", "k-acme", 1, 6), ("umbrella", "k-umbrella", 1, 2)]
        first = operator.get("/ops/usage?limit=1").json()
        second = operator.get(f"/ops/usage?limit=1&after={first['next']}").json()
        assert first["rows"] + second["rows"] == rows
        assert second["next"] is None
        for wrong in ("x", "W10", "e30"):
            answer = operator.get(f"/ops/usage?after={wrong}")
            assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
        assert acme.get("/ops/usage").status_code == 401


@covers("cluster.meter")
@pytest.mark.slow
def test_what_was_used_on_other_nodes_is_among_it():
    with cluster("one", "two") as nodes:
        for node, sid in zip(nodes, ("a", "b"), strict=True):
            with node.client() as client:
                used(client, sid, "one two three")
        with nodes[0].client(OPERATOR) as operator:
            eventually(
                lambda: (
                    [row["prompts"] for row in operator.get("/ops/usage").json()["rows"]] == [2]
                ),
                within_s=60,
            )
