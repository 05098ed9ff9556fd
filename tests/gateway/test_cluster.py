"""Two gateways are one service: limits, rates, repeated creates, the meter, health, draining."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import httpx
import pytest

from frontdesk.cluster.records import Selection
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.gateway import cluster_rate, cluster_usage
from frontdesk.gateway.cluster_member import ClusterMember
from frontdesk.gateway.idempotency import Idempotency
from gateway import cluster_running
from gateway.cluster_running import NodeGateway, cluster
from gateway.requirements import covers
from gateway.running import ACME, OPERATOR, UMBRELLA, create, turn_of
from support.waiting import eventually

pytestmark = pytest.mark.slow

BURST = 24


@pytest.fixture(scope="module")
def nodes():
    """Two gateways with one registry."""
    every_s, cluster_usage.EVERY_S = cluster_usage.EVERY_S, 0.05
    with cluster("one", "two", limits={"sessions_per_key": 30}) as running:
        acquainted(*running)
        yield running
    cluster_usage.EVERY_S = every_s


@pytest.fixture
def here(nodes):
    with nodes[0].client() as client:
        yield client


@pytest.fixture
def there(nodes):
    with nodes[1].client() as client:
        yield client


@pytest.fixture(autouse=True)
def emptied(request):
    """Leave no session behind for the next test."""
    yield
    if "nodes" in request.fixturenames:
        for node in request.getfixturevalue("nodes"):
            node.call(delete_all, node.gateway.service)
            node.call(node.gateway.node.flush)


async def delete_all(service):
    for conversation in service.live_of_tenant("acme"):
        await service.tenant("acme", "k-acme").delete(conversation.session_id)


@contextmanager
def another(name, *, beside, **options):
    """Run one more gateway of the cluster that a gateway is in."""
    directory = beside.config.server.state_dir.parent
    index = SimpleNamespace(path=beside.gateway.node.engine._path)
    listen = f"unix:{directory}/{name}/hop.sock"
    with NodeGateway(directory, index=index, name=name, listen=listen, **options) as node:
        yield node


def acquainted(*nodes):
    """Wait until each has heard of all: with a renewal, every 2.5 s."""
    for node in nodes:
        assert eventually(lambda node=node: len(node.gateway.node.nodes()) == len(nodes))


def in_index(node, tenant="acme"):
    """Return how many sessions of a tenant the index has."""
    return node.call(lambda: node.gateway.node.count(Selection(tenant_id=tenant)))


def of_each(nodes, ask):
    """Ask both nodes at once, many times; return the answers."""
    headers = {"X-API-Key": ACME}
    clients = [httpx.Client(base_url=node.url, headers=headers, timeout=60) for node in nodes]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: ask(clients[number % 2]), range(BURST)))
    for each in clients:
        each.close()
    return answers


def asked(client, *, key=None, **body):
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post("/v1/sessions", json={"model": "test", **body}, headers=headers)


# -- limits and rates ----------------------------------------------------------------------------


@covers("cluster.limits")
def test_a_limit_of_sessions_holds_over_both_nodes_and_a_place_is_free_again(nodes, here, there):
    answers = [asked((here, there)[number % 2]) for number in range(30)]
    assert [each.status_code for each in answers] == [201] * 30
    for client in (here, there):
        refused = asked(client)
        assert (refused.status_code, refused.json()["error"]) == (429, "session_limit")
        assert (refused.json()["scope"], refused.json()["limit"]) == ("per_api_key", 30)
    opened = answers[0].json()["sessionId"]
    assert there.delete(f"/v1/sessions/{opened}").status_code == 200
    assert eventually(lambda: asked(there).status_code == 201)
    assert in_index(nodes[0]) == 30


@covers("cluster.any-node")
def test_an_id_is_one_session_whichever_nodes_are_asked_for_it(nodes, sid):
    answers = of_each(nodes, lambda client: asked(client, sessionId=sid))
    assert sorted(each.status_code for each in answers) == [201] + [409] * (BURST - 1)
    assert in_index(nodes[0]) == 1


@covers("cluster.rates")
def test_a_keys_rate_is_counted_over_both_nodes(monkeypatch):
    monkeypatch.setattr(cluster_rate, "WAIT_S", 20)
    with cluster("one", "two", limits={"requests_per_minute": 20}) as nodes:
        answers = of_each(nodes, lambda client: client.get("/v1/usage"))
        let_in = [each for each in answers if each.status_code == 200]
        assert len(let_in) == 20
        left = {int(each.headers["x-ratelimit-remaining"]) for each in let_in}
        assert left == set(range(20))
        refused = [each for each in answers if each.status_code == 429]
        assert {each.headers["x-ratelimit-remaining"] for each in refused} == {"0"}
        assert all(int(each.headers["retry-after"]) >= 1 for each in refused)


# -- what comes twice ----------------------------------------------------------------------------


@covers("cluster.idempotency")
def test_a_create_that_comes_again_to_another_node_gets_the_first_answer(nodes, here, there, sid):
    first = asked(here, key=sid)
    again = asked(there, key=sid)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["location"].endswith(first.json()["sessionId"])
    assert in_index(nodes[0]) == 1
    # Its answer counts, whatever has become of the session since.
    there.delete(f"/v1/sessions/{first.json()['sessionId']}")
    assert asked(there, key=sid).json() == first.json()


def test_a_create_that_comes_to_both_nodes_at_once_opens_one_session(nodes, sid):
    answers = of_each(nodes, lambda client: asked(client, key=sid))
    assert {each.status_code for each in answers} == {201}
    assert len({each.json()["sessionId"] for each in answers}) == 1
    assert in_index(nodes[0]) == 1


def test_an_idempotency_key_with_another_body_is_refused_on_every_node(here, there, sid):
    assert asked(here, key=sid).status_code == 201
    for client in (here, there):
        refused = asked(client, key=sid, sessionId=f"other-{sid}")
        assert (refused.status_code, refused.json()["error"]) == (409, "idempotency_mismatch")


def test_another_tenants_idempotency_key_is_its_own(nodes, here, sid):
    first = asked(here, key=sid)
    with nodes[1].client(UMBRELLA) as umbrella:
        other = asked(umbrella, key=sid)
        assert other.status_code == 201
        assert other.json()["sessionId"] != first.json()["sessionId"]
        umbrella.delete(f"/v1/sessions/{other.json()['sessionId']}")


def test_a_create_that_failed_may_be_tried_again_on_any_node(here, there, sid):
    refused = asked(here, key=sid, blueprint="nothing")
    assert refused.status_code == 422
    assert asked(there, key=sid, blueprint="nothing").json() == refused.json()


@covers("cluster.idempotency-taken-over", "cluster.draining")
def test_a_claim_of_a_node_that_has_gone_is_free_and_one_that_drains_claims_for_the_other(sid):
    with cluster("one") as (stays,), stays.client() as here:
        with another("two", beside=stays) as leaves, leaves.client() as there:
            acquainted(stays, leaves)
            gone = asked(there, key=f"a-{sid}").json()
            leaves.call(leaves.gateway.service.begin_draining)
            passed = asked(there, key=f"b-{sid}")
            assert passed.status_code == 201
            assert stays.call(stays.gateway.store.count) == 1
            # What it has answered itself, it still answers, itself.
            assert asked(there, key=f"a-{sid}").json() == gone
            assert asked(here, key=f"a-{sid}").json() == gone
        assert asked(here, key=f"b-{sid}").json() == passed.json()
        anew = asked(here, key=f"a-{sid}")
        assert anew.status_code == 201
        assert anew.json()["sessionId"] != gone["sessionId"]


@covers("cluster.idempotency-taken-over")
def test_a_create_that_comes_again_after_its_node_was_held_to_be_dead_gets_the_first_answer(sid):
    with cluster("one", "two") as (one, two), one.client() as here, two.client() as there:
        acquainted(one, two)
        first = asked(there, key=sid)
        buried = two.incarnation
        one.call(lambda: one.gateway.node.engine.bury(buried, proven=True))
        two.call(two.gateway.node.begin_draining)  # it renews its lease, and hears of it
        eventually(lambda: two.incarnation != buried and in_index(one) == 1)
        acquainted(one, two)
        assert asked(here, key=sid).json() == first.json()
        assert in_index(one) == 1


# -- the meter -----------------------------------------------------------------------------------


@covers("cluster.meter", "cluster.budgets")
def test_the_usage_of_a_key_is_that_of_both_nodes_wherever_it_is_asked_for(here, there, sid):
    before = here.get("/v1/usage").json()["key"]["prompts"]
    create(here, sid)
    create(there, f"{sid}-2")
    turn_of(here, sid, "one two")
    turn_of(there, f"{sid}-2", "three")
    for client in (here, there):

        def sums(client=client):
            answer = client.get("/v1/usage?by=day&by=model").json()
            (row,) = answer["rows"]
            return answer["key"]["prompts"] == row["prompts"] == before + 2

        assert eventually(sums)


# -- health --------------------------------------------------------------------------------------


def test_health_says_how_the_node_stands_to_the_others(nodes, here):
    acquainted(*nodes)
    health = here.get("/healthz").json()["cluster"]
    assert health["node"] == "one"
    assert (health["condition"], health["engine"]) == ("joined", "supervisor")
    assert health["nodes"] == {"alive": 2, "stalled": 0, "suspect": 0, "leaving": 0}
    assert health["configDiffers"] == []


def test_the_sessions_in_health_are_those_of_all_nodes_and_of_the_asking_tenant(
    nodes, here, there, sid
):
    create(here, sid)
    create(there, f"{sid}-2")
    with nodes[0].client(UMBRELLA) as umbrella:
        for client, active in ((here, 2), (there, 2), (umbrella, 0)):
            assert eventually(
                lambda client=client, active=active: (
                    client.get("/healthz").json()["sessions"]["active"] == active
                )
            )


@covers("cluster.configuration")
def test_a_node_with_another_configuration_is_named_and_nothing_secret_is():
    with (
        cluster("one") as (one,),
        another("two", beside=one, limits={"streams_per_key": 7}) as two,
        one.client("") as client,
        two.client("") as other,
    ):
        assert eventually(lambda: client.get("/healthz").json()["cluster"]["configDiffers"])
        assert client.get("/healthz").json()["cluster"]["configDiffers"] == ["two"]
        assert other.get("/healthz").json()["cluster"]["configDiffers"] == ["one"]
        assert "secret" not in json.dumps(client.get("/healthz").json())


@covers("cluster.ready-when-cut-off")
def test_a_node_that_is_cut_off_stays_ready_serves_what_it_has_and_says_so(monkeypatch, sid):
    terms = LeaseTerms(lease_s=1, isolation_grace_s=60)
    monkeypatch.setattr(cluster_running, "ClusterMember", partial(ClusterMember, terms=terms))
    with cluster("one") as (node,), node.client() as client:
        create(client, sid)
        node.index.__exit__()

        def is_cut_off():
            return client.get("/healthz").json()["cluster"]["condition"] == "cut_off"

        assert eventually(is_cut_off)
        assert client.get("/readyz").status_code == 200
        assert [each[1] for each in turn_of(client, sid, "hello")][-1] == "agent_end"
        refused = asked(client)
        assert (refused.status_code, refused.json()["error"]) == (503, "unavailable")
        assert int(refused.headers["retry-after"]) >= 1


def test_operators_see_the_nodes_and_tenants_do_not(nodes, here):
    acquainted(*nodes)
    with nodes[1].client(OPERATOR) as operator:
        listed = operator.get("/ops/nodes").json()["nodes"]
    assert [each["name"] for each in listed] == ["one", "two"]
    assert [each["answering"] for each in listed] == [False, True]
    assert {each["state"] for each in listed} == {"alive"}
    assert len({each["configDigest"] for each in listed}) == 1
    assert all(0 < each["leaseLeftMs"] <= 10_000 for each in listed)
    assert here.get("/ops/nodes").status_code == 401


# -- draining ------------------------------------------------------------------------------------


def test_a_create_that_had_begun_when_its_node_drains_is_passed_on(sid, monkeypatch):
    with cluster("one", "two") as (one, two), one.client() as here:
        acquainted(one, two)
        once = Idempotency.once

        async def drained_before(answers, *args, **options):
            if answers is one.gateway.idempotency:
                one.gateway.node.begin_draining()
                one.gateway.service.begin_draining()
            return await once(answers, *args, **options)

        monkeypatch.setattr(Idempotency, "once", drained_before)
        create(here, sid)
        assert two.call(two.gateway.store.count) == 1


def test_a_draining_node_passes_creates_on_and_where_there_is_no_other_refuses_them(sid):
    with cluster("one", "two") as (one, two), one.client() as here, two.client() as there:
        acquainted(one, two)
        one.call(one.gateway.node.begin_draining)
        one.call(one.gateway.service.begin_draining)
        create(here, sid)
        assert two.call(two.gateway.store.count) == 1
        assert here.get(f"/v1/sessions/{sid}").status_code == 200
        two.call(two.gateway.node.begin_draining)
        two.call(two.gateway.service.begin_draining)
        assert eventually(lambda: asked(here).status_code == 503)
        assert asked(there).status_code == 503
