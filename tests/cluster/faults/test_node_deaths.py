"""Nodes that die, stand still or stall: what the others see, when, and what is left."""

import time

import pytest

from cluster.faults.kinds import EITHER, EVERY, VALKEY_9, on
from cluster.faults.steps import heard_as, ids, when_free
from cluster.history import WatchTold
from support.cluster_nodes import HOLD_S, PATIENCE_S, TERMS
from support.waiting import eventually

pytestmark = pytest.mark.slow

LEASE_S = TERMS["lease_s"]


@on(EVERY)
def test_what_a_killed_node_had_is_lost_and_never_before_its_lease_and_hold_are_over(nodes):
    doomed, other = nodes.start_all("doomed", "other")
    other.ask("watch", watcher="other")
    doomed.create(*ids("d", 20), kind="process")
    other.create(*ids("o", 5))
    nodes.settled()
    doomed.kill()
    killed = time.monotonic()
    heard_as(doomed, "suspect", other)
    # Its ids are neither found to be free nor given away, and its sessions are listed still.
    assert len(other.ask("list")["sessions"]) == 25
    assert other.refusal("create", session="acme/d0") == "OwnerSuspect"
    freed = when_free(other, "acme/d0")
    # It renewed at the latest when it was killed, at the earliest a quarter of a lease before.
    assert freed - killed > LEASE_S * 3 / 4 + HOLD_S - 1
    there = nodes.settled()
    assert set(there) == {*ids("o", 5), "acme/d0"}


@on(VALKEY_9)
def test_the_last_node_of_three_goes_on_alone(nodes):
    first, second, last = nodes.start_all("first", "second", "last")
    for node in (first, second, last):
        node.create(*ids(node.name, 30))
    nodes.settled()
    first.kill()
    second.kill()
    assert set(nodes.settled()) == set(ids("last", 30))
    when_free(last, "acme/first0")
    assert last.refusal("find", session="acme/second0") == "SessionNotFound"


@on(EITHER)
def test_half_of_the_nodes_expiring_at_once_are_buried_by_the_rest_once_each(nodes):
    half = nodes.start_all("a", "b")
    rest = nodes.start_all("c", "d")
    for node in rest:
        node.ask("watch", watcher=node.name)
    for node in half:
        node.create(*ids(node.name, 250))  # three batches of a burial each
    nodes.settled()
    for node in half:
        node.kill()
    assert nodes.settled() == {}
    ended = [one for one in nodes.events() if isinstance(one, WatchTold) and one.kind == "ended"]
    assert len(ended) == 2 * 500


@on(EITHER)
def test_a_node_that_stood_still_for_longer_than_its_lease_has_lost_nothing(nodes):
    still, other = nodes.start_all("still", "other")
    still.create(*ids("s", 10), kind="process")
    nodes.settled()
    still.stop()
    heard_as(still, "suspect", other)
    assert other.refusal("create", session="acme/s0") == "OwnerSuspect"
    still.go_on()
    heard_as(still, "alive", other)
    assert other.refusal("create", session="acme/s0") == "SessionAlreadyExists"
    assert set(nodes.settled()) == set(ids("s", 10))


@on(EITHER)
def test_a_node_that_stood_still_until_it_was_dead_comes_back_without_what_was_taken(nodes):
    still, other = nodes.start_all("still", "other")
    other.ask("watch", watcher="other")
    minted = ids("s", 10)
    fences = dict(zip(minted, still.create(*minted, minted=True), strict=True))
    still.create("acme/chosen")
    nodes.settled()
    still.stop()
    when_free(other, "acme/s3")
    eventually(lambda: "still" not in other.ask("nodes"), within_s=PATIENCE_S)
    still.go_on()
    assert still.await_event("superseded")["session"] == "acme/s3"
    # What anybody may have by now is stopped before it is asked who has it.
    assert still.await_event("isolated")["session"] == "acme/chosen"
    there = nodes.settled()
    assert there["acme/s3"][1] == "other"
    assert set(there) == set(minted)
    assert all(there[one][0] > fences[one] for one in there), "new fences after a death"


@on(EITHER)
def test_a_node_whose_loop_stands_is_stalled_and_no_more_once_it_moves(nodes):
    stuck, other = nodes.start_all("stuck", "other")
    stuck.create(*ids("s", 3))
    nodes.settled()
    moved = stuck.send("block", seconds=LEASE_S * 2.5)
    heard_as(stuck, "stalled", other)
    assert other.ask("find", session="acme/s0")["state"] == "stalled"
    moved()
    heard_as(stuck, "alive", other)
    assert set(nodes.settled()) == set(ids("s", 3))


@on(EITHER)
def test_a_node_whose_loop_never_moves_again_ends_itself(nodes):
    stuck = nodes.start("stuck", stalled_exit_s=LEASE_S * 2)
    stuck.create(*ids("s", 3))
    stuck.send("block", seconds=PATIENCE_S * 5)
    eventually(lambda: not stuck.alive, within_s=PATIENCE_S)
    assert "do_block" in nodes.told(), "the stacks are in the log"
    stuck.gone()


@on(EITHER)
def test_a_node_that_leaves_holds_nothing_back(nodes):
    leaving, other = nodes.start_all("leaving", "other")
    other.ask("watch", watcher="other")
    leaving.create(*ids("l", 150))
    nodes.settled()
    leaving.leave()
    other.create("acme/l0")
    assert set(nodes.settled()) == {"acme/l0"}


@on(EITHER)
def test_a_node_started_again_under_its_name_is_another_one(nodes):
    first, other = nodes.start_all("same", "other")
    first.create(*ids("s", 3))
    nodes.settled()
    first.kill()
    again = nodes.start("same")
    again.create("acme/new")
    assert other.refusal("create", session="acme/s0") in {"SessionAlreadyExists", "OwnerSuspect"}
    assert set(nodes.settled()) == {"acme/new"}


@on(EVERY)
def test_nodes_killed_and_stopped_under_load_leave_a_history_without_fault(nodes):
    contested = ids("contested", 4)
    one, two, three = nodes.start_all("one", "two", "three")
    for node in (one, two, three):
        node.ask("watch", watcher=node.name)
        node.ask("load", clients=3, chosen=contested)
    three.stop()
    heard_as(three, "suspect", one)
    two.kill()
    three.go_on()
    heard_as(two, "gone", one)
    for node in (one, three):
        node.ask("rest")
    nodes.settled()
