"""Feeds over several nodes: each node's rows, and a node that is silent, is back, or dies."""

import json
import os
import signal

import pytest

from gateway.cluster_running import cluster
from gateway.command import IN_MEMORY
from gateway.feeds import Held, feed, snapshot_of
from gateway.requirements import covers
from gateway.running import OPERATOR, UMBRELLA, create, turn_of
from gateway.worker_processes import WITHIN_S, workers
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def pair():
    """Two gateways with one registry, which know each other, each behind a proxy."""
    with cluster("one", "two", proxied=True) as running:
        for each in running:
            assert eventually(lambda each=each: len(each.gateway.node.nodes()) == 2)
        yield running


@covers("feed.nodes")
def test_a_reader_on_one_node_follows_the_sessions_of_another(pair):
    one, two = pair
    with one.client() as here, two.client() as there:
        create(there, "before")
        with feed(here) as opened:
            held = opened.until(snapshot_of)
            assert held.ids == {"before"}
            assert held.nodes == {"nodes": [], "silent": [], "count": 2, "partial": False}
            create(there, "there")
            create(here, "here")
            opened.until(lambda held: held.ids == {"before", "there", "here"})
            assert held.rows["acme", "there"]["node"] == "two"
            turn_of(there, "there", "hello")
            opened.until(lambda held: held.rows["acme", "there"]["turns"] == 1)
            there.delete("/v1/sessions/there")
            opened.until(lambda held: held.ends)
        assert [(each["sessionId"], each["reason"]) for each in held.ends] == [("there", "deleted")]
        assert sum(each["starts"] for each in held.minutes.values()) == 1
        for client in (here, there):
            (end,) = client.get("/v1/ends").json()["ends"]
            assert (end["sessionId"], end["node"]) == ("there", "two")


@covers("feed.tenants")
def test_over_nodes_another_tenants_feed_has_no_byte_of_mine(pair):
    one, two = pair
    with one.client(UMBRELLA) as umbrella, two.client() as acme, two.client(UMBRELLA) as theirs:
        create(acme, "planted-before")
        with feed(umbrella) as opened:
            opened.until(snapshot_of)
            create(acme, "planted-after")
            turn_of(acme, "planted-after", "hello")
            acme.delete("/v1/sessions/planted-after")
            create(theirs, "last")
            held = opened.until(lambda held: "last" in held.ids)
            scope = one.gateway.scopes._scopes["umbrella"]
            rows = [row for source in scope.sources() for row in source.rows("umbrella")]
            assert {row.tenant_id for row in rows} == {"umbrella"}
    said = json.dumps(held.frames)
    assert "planted" not in said
    assert "acme" not in said
    assert '"two"' in said  # a tenant sees which node its own session is on, and no list of nodes
    assert all(name != "nodes" or not each["nodes"] for name, each in held.frames)


@covers("feed.resume")
def test_a_reader_that_comes_back_to_another_node_loses_nothing(pair):
    one, two = pair
    with one.client() as here, two.client() as there:
        create(there, "stays")
        with feed(there), feed(here) as opened:
            # Both follow: the positions of one are held by the other.
            held = opened.until(snapshot_of)
            create(there, "new")
            here.delete("/v1/sessions/stays")
            create(here, "here")
            copy = Held()
            copy.rows, copy.snapshots = dict(held.rows), held.snapshots
            with feed(there, held=copy, since=held.position) as moved:
                moved.until(lambda held: held.ids == {"new", "here"})
    assert [each["sessionId"] for each in copy.ends] == ["stays"]


@covers("feed.nodes")
def test_rows_of_a_node_that_does_not_answer_are_suspect_until_it_does(pair):
    one, two = pair
    with one.client(OPERATOR) as operator, two.client() as there:
        create(there, "there")
        with feed(operator, "/ops/feed") as opened:
            opened.until(lambda held: "there" in held.ids)
            two.proxy.refuse()
            opened.until(lambda held: held.rows["acme", "there"]["state"] == "suspect")
            opened.until(lambda held: held.nodes["silent"] == ["two"] and held.nodes["partial"])
            assert [each["name"] for each in opened.held.nodes["nodes"]] == ["one", "two"]
            two.proxy.heal()
            opened.until(lambda held: held.rows["acme", "there"]["state"] == "idle")
            opened.until(lambda held: not held.nodes["silent"])
            turn_of(there, "there", "hello")
            opened.until(lambda held: held.rows["acme", "there"]["turns"] == 1)
        assert opened.held.ends == []


@covers("feed.nodes")
def test_of_a_node_that_does_not_answer_from_the_first_the_index_tells_the_rows(pair):
    one, two = pair
    with one.client() as here, two.client() as there:
        create(there, "there")
        two.proxy.refuse()
        with feed(here) as opened:
            held = opened.until(lambda held: "there" in held.ids)
            assert held.rows["acme", "there"]["state"] == "suspect"
            assert held.rows["acme", "there"]["node"] == "two"
            two.proxy.heal()
            opened.until(lambda held: held.rows.get(("acme", "there"), {}).get("state") == "idle")
            there.delete("/v1/sessions/there")
            opened.until(lambda held: not held.ids)


@covers("feed.costs-nothing")
def test_a_node_makes_rows_for_others_only_while_they_read(pair):
    one, two = pair
    with one.client() as here, two.client() as there:
        create(there, "there")
        assert not two.gateway.rows.reading
        with feed(here) as opened:
            opened.until(snapshot_of)
            assert eventually(lambda: two.gateway.rows.reading)
        assert eventually(
            lambda: not (two.gateway.rows.reading or len(one.gateway.scopes)), within_s=40
        )


@covers("feed.nodes", "feed.ends-once")
def test_a_worker_that_is_killed_while_it_is_read_is_told_of_once_for_each_session(tmp_path):
    with workers(tmp_path, 3, config=IN_MEMORY) as service:
        with service.client_of(1) as first, service.client_of(2) as second:
            lost = {f"lost-{number}" for number in range(5)}
            for each in lost:
                create(second, each)
            create(first, "stays")
            with feed(first) as opened:
                opened.until(lambda held: held.ids == {*lost, "stays"})
                life = service.life(2)
                os.kill(life.pid, signal.SIGKILL)
                held = opened.until(lambda held: held.ids == {"stays"})
                assert sorted(end["sessionId"] for end in held.ends) == sorted(lost)
                assert {end["reason"] for end in held.ends} == {"lost"}
                service.await_another(2, life)
                create(first, "after")
                opened.until(lambda held: held.ids == {"stays", "after"})

            def listed():
                ends = first.get("/v1/ends").json()["ends"]
                return sorted(each["sessionId"] for each in ends) == sorted(lost)

            assert eventually(listed, within_s=WITHIN_S)
        assert service.server.terminate() == 0


@covers("feed.nodes")
def test_stored_sessions_of_a_worker_that_is_killed_are_dormant_and_in_no_list_of_ends(tmp_path):
    with workers(tmp_path, 3) as service:
        with service.client_of(1) as first, service.client_of(2) as second:
            lost = {f"lost-{number}" for number in range(3)}
            for each in lost:
                create(second, each)
            create(second, "unstored", ephemeral=True)
            with feed(first) as opened:
                opened.until(lambda held: held.ids == {*lost, "unstored"})
                life = service.life(2)
                os.kill(life.pid, signal.SIGKILL)
                held = opened.until(lambda held: held.ids == lost and held.ends)
                opened.until(
                    lambda held: {each["state"] for each in held.rows.values()} == {"dormant"}
                )
                assert [end["sessionId"] for end in held.ends] == ["unstored"]
                path = "/v1/sessions/lost-1"
                eventually(lambda: first.get(path).status_code == 200, within_s=WITHIN_S)
                turn_of(first, "lost-1", "hello")
                opened.until(lambda held: held.rows["acme", "lost-1"]["turns"] == 1)
                assert held.rows["acme", "lost-1"]["state"] != "dormant"
                assert first.delete(path).status_code == 200
                opened.until(lambda held: held.ids == lost - {"lost-1"})
                opened.until(lambda held: sum_of(held, "lost") == 4)
            ends = eventually(lambda: first.get("/v1/ends").json()["ends"], within_s=WITHIN_S)
            assert {each["sessionId"] for each in ends} == {"lost-1", "unstored"}
            # Each is told of once, by one of those that live.
            left = service.lines(event="session_dormant", reason="lost", level="warning")
            assert sorted(each["session_id"] for each in left) == sorted(lost)
            (end,) = service.lines(event="session_ended", reason="lost", level="warning")
            assert end["session_id"] == "unstored"
        assert service.server.terminate() == 0


def sum_of(held, reason):
    return sum(each["ends"].get(reason, 0) for each in held.minutes.values())
