"""What a node tells of its cluster: nodes, lease, engine, and what it passes on to other nodes."""

from dataclasses import replace

import pytest

from frontdesk.cluster.errors import EngineUnavailable, LeaseLost, Recovering
from frontdesk.errors import SessionAlreadyExists
from frontdesk.gateway.metrics.cluster_metrics import ClusterMetrics
from frontdesk.gateway.metrics.exposition import exposed
from frontdesk.gateway.metrics.metric_cells import MetricCells
from gateway.cluster_running import cluster
from gateway.exposition import Scraped
from gateway.running import create, events, turn_of, until
from support.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes():
    with cluster("one", "two") as running:
        eventually(lambda: all(len(each.gateway.node.nodes()) == 2 for each in running))
        yield running


def test_a_node_sees_all_nodes_and_counts_its_own_sessions(nodes, sid):
    before = [Scraped.of(each) for each in nodes]
    with nodes[0].client() as here:
        create(here, sid)
    grown = [
        Scraped.of(node).sum("frontdesk_sessions") - then.sum("frontdesk_sessions")
        for node, then in zip(nodes, before, strict=True)
    ]
    assert grown == [1, 0]
    for node in nodes:
        scraped = Scraped.of(node)
        assert scraped.series("frontdesk_nodes", "state") == {"alive": 2}
        assert scraped.sum("frontdesk_node_configurations") == 1
        assert scraped.sum("frontdesk_node_cut_off") == 0
        assert 0 <= scraped.sum("frontdesk_lease_age_seconds") < 10
        calls = scraped.series("frontdesk_engine_call_seconds_count", "verb")
        assert {"join", "nodes"} <= calls.keys()


def test_the_lease_of_a_node_that_is_cut_off_is_old(nodes):
    def cut_off():
        gateway = nodes[0].gateway
        membership = gateway.node._membership
        standing = membership.standing
        membership.standing = replace(standing, lease_until_s=membership.hooks.now_s() - 20)
        gateway.metrics._poll()
        membership.standing = standing
        return Scraped(exposed([gateway.metrics._cells.counted()], accept="")[0].decode())

    scraped = nodes[0].call(cut_off)
    assert scraped.sum("frontdesk_node_cut_off") == 1
    assert scraped.sum("frontdesk_lease_age_seconds") >= 20


def test_what_is_passed_on_is_counted_where_it_came_in_and_answered_where_it_went(nodes, sid):
    with nodes[0].client() as here, nodes[1].client() as there:
        create(here, sid)
        before = [Scraped.of(each) for each in nodes]
        turn_of(there, sid, "hello")
        assert there.get(f"/v1/sessions/{sid}").status_code == 200
        assert there.get(f"/v1/sessions/{sid}-no").status_code == 404
        assert there.post(f"/v1/sessions/{sid}/prompt", json={"wrong": 1}).status_code == 400
        after = [Scraped.of(each) for each in nodes]

    def grown(number, name, **labels):
        return after[number].sum(name, **labels) - before[number].sum(name, **labels)

    assert grown(1, "frontdesk_forwards_total", outcome="answered") == 4
    assert grown(1, "frontdesk_forward_seconds_count") == 3, "a stream has no duration"
    assert grown(0, "frontdesk_forwards_total") == 0
    one = {"route": "/v1/sessions/{sessionId}"}
    assert grown(1, "frontdesk_http_requests_total", **one, status="200") == 1
    assert grown(0, "frontdesk_http_requests_total", **one) == 0, "a request is counted once"
    refused = [grown(each, "frontdesk_refusals_total", error="bad_request") for each in (0, 1)]
    assert refused == [1, 0], "a refusal is counted where it was made"
    assert grown(0, "frontdesk_turns_total") == 1
    assert grown(1, "frontdesk_turns_total") == 0


def test_a_stream_to_another_node_is_told_apart_on_both(nodes, sid):
    with nodes[0].client() as here, nodes[1].client() as there:
        create(here, sid, blueprint="patient")
        with events(there, sid) as stream:
            here.post(f"/v1/sessions/{sid}/prompt", json={"text": "x"})
            until(stream, "message_delta")
            assert Scraped.of(nodes[0]).sum("frontdesk_streams", kind="events") == 1
            assert Scraped.of(nodes[1]).sum("frontdesk_streams", kind="passed_on") == 1
            assert Scraped.of(nodes[1]).sum("frontdesk_streams", kind="events") == 0
        here.delete(f"/v1/sessions/{sid}")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EngineUnavailable("it is gone"), "unavailable"),
        (LeaseLost("one"), "lease_lost"),
        (Recovering(retry_after_s=1), "recovering"),
        (SessionAlreadyExists("s", holder=None), None),
        (None, None),
    ],
)
def test_only_what_the_engine_fails_to_do_is_its_error(error, kind):
    cells = MetricCells()
    ClusterMetrics(cells).on_call("create", 0.1, error)
    scraped = Scraped(exposed([cells.counted()], accept="")[0].decode())
    assert scraped.series("frontdesk_engine_errors_total", "kind") == ({kind: 1} if kind else {})
    assert scraped.sum("frontdesk_engine_call_seconds_count", verb="create") == 1
