"""The wall clock of the engine's server jumps, forward and back: leases run on as they did."""

import time

import pytest

from cluster.faults.engines import PROGRAMS, Server
from cluster.faults.kinds import VALKEY_9
from cluster.faults.steps import condition, heard_as, ids, when_free
from cluster.history import ClockJumped
from support.cluster_nodes import HOLD_S, TERMS, Nodes
from support.shifted_clock import ShiftedClock
from support.waiting import eventually

pytestmark = pytest.mark.slow

LEASE_S = TERMS["lease_s"]
HOUR_S = 3600


@pytest.fixture
def clock(tmp_path):
    """The clock of the engine's server."""
    return ShiftedClock(tmp_path)


@pytest.fixture(params=[VALKEY_9])
def nodes(request, clock, tmp_path):
    """Nodes on an engine whose server has that clock."""
    server = Server(PROGRAMS[request.param])
    server.environment = clock.environment
    with server, Nodes(server, tmp_path) as nodes:
        clock.assert_in_force(server.pid)
        yield nodes
        nodes.check()


def test_the_servers_clock_is_really_moved(clock, nodes):
    def now():
        return int(nodes.engine.command("TIME")[0])

    nodes.start("one")
    before = now()
    clock.shift(HOUR_S)
    # The server does not look at its clock for each command.
    eventually(lambda: now() >= before + HOUR_S)


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S], ids=["forward", "back"])
def test_a_jump_of_the_servers_clock_ends_nobodys_session(clock, nodes, jump_s):
    one, two = nodes.start_all("one", "two")
    two.ask("watch", watcher="two")
    one.create(*ids("one", 20))
    there = nodes.settled()
    for turn in range(1, 4):
        clock.shift(jump_s * turn)
        nodes.write(ClockJumped, by_s=jump_s)
        until = time.monotonic() + LEASE_S
        while time.monotonic() < until:
            # A jump is at most half a lease of the engine's time, and renewals go on.
            assert condition(one) == condition(two) == "joined"
            assert two.ask("nodes")["one"][0] == "alive"
    [fence] = two.create("acme/new")
    assert fence > max(each for each, _ in there.values())
    assert nodes.settled() == {**there, "acme/new": [fence, "two"]}


def test_a_clock_that_went_back_does_not_make_a_dead_node_live_longer(clock, nodes):
    doomed, other = nodes.start_all("doomed", "other")
    doomed.create(*ids("d", 5))
    nodes.settled()
    doomed.kill()
    killed = time.monotonic()
    clock.shift(-HOUR_S)
    nodes.write(ClockJumped, by_s=-HOUR_S)
    heard_as(doomed, "suspect", other)
    freed = when_free(other, "acme/d0")
    assert freed - killed > LEASE_S * 3 / 4 + HOLD_S - 1 - LEASE_S / 2
    assert set(nodes.settled()) == {"acme/d0"}
