"""Rates over all nodes: counted in the engine, by each node alone while that does not answer."""

import asyncio

import pytest

from cluster.inprocess import InProcessEngine, InProcessServer
from frontdesk.gateway import cluster_rate
from frontdesk.gateway.cluster_rate import ClusterRate
from frontdesk.gateway.errors import RateLimited
from frontdesk.gateway.rate_limit import RateLimit
from gateway.requirements import covers

pytestmark = pytest.mark.anyio

LIMIT = 10


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Wait for an engine that answers as long as a loaded machine may take."""
    monkeypatch.setattr(cluster_rate, "WAIT_S", 20)


class Rates:
    """Two nodes that count for the same keys."""

    def __init__(self, clock):
        self.server = InProcessServer()
        self.engines = [InProcessEngine(self.server) for _ in range(2)]
        self.alone = [
            RateLimit(per_minute=LIMIT, what="requests", clock=clock) for _ in self.engines
        ]
        self.nodes = [
            ClusterRate(rate, engine=engine, clock=clock)
            for rate, engine in zip(self.alone, self.engines, strict=True)
        ]


async def hits(rate, number, identifier="k"):
    """Ask so often; return how many were let in."""
    allowed = 0
    for _ in range(number):
        try:
            await rate.hit(identifier)
        except RateLimited:
            continue
        allowed += 1
    return allowed


@covers("cluster.rates")
async def test_a_key_has_its_rate_once_over_both_nodes(clock):
    rates = Rates(clock)
    one, other = rates.nodes
    assert await hits(one, 6) == 6
    assert await hits(other, 6) == 4
    assert await hits(one, 1) == 0
    assert await hits(other, LIMIT, "another") == LIMIT


async def test_in_a_burst_on_both_nodes_no_more_is_let_in_than_the_limit(clock):
    one, other = Rates(clock).nodes
    let_in = await asyncio.gather(*(hits(each, 1) for each in (one, other) for _ in range(30)))
    assert sum(let_in) == LIMIT


async def test_what_is_left_is_what_is_left_over_both_nodes(clock):
    one, other = Rates(clock).nodes
    await hits(one, 4)
    left = await other.hit("k")
    assert (left.limit, left.remaining) == (LIMIT, LIMIT - 5)
    assert 1 <= left.reset_s <= 60
    await hits(one, LIMIT)
    with pytest.raises(RateLimited) as refused:
        await other.hit("k")
    assert refused.value.limit == LIMIT
    assert 1 <= refused.value.retry_after_s <= 60


@covers("cluster.rates-alone")
async def test_while_the_engine_does_not_answer_each_node_counts_alone(clock):
    rates = Rates(clock)
    one, other = rates.nodes
    await hits(one, 6)
    rates.server.down = True
    # What it let in itself counts on: it has four left, and the other has never let in any.
    assert await hits(one, LIMIT) == 4
    assert await hits(other, 2 * LIMIT) == LIMIT


async def test_an_engine_that_hangs_is_waited_for_shortly_and_not_by_every_request(
    clock, monkeypatch
):
    monkeypatch.setattr(cluster_rate, "WAIT_S", 0.05)
    rates = Rates(clock)
    one, _ = rates.nodes
    asked = 0

    async def hang(*args, **kwargs):
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()

    rates.engines[0].take = hang
    assert await hits(one, 5) == 5
    assert asked == 1
    clock.advance(cluster_rate.ALONE_S)
    assert await hits(one, 1) == 1
    assert asked == 2


async def test_an_engine_that_answers_again_is_asked_again(clock):
    rates = Rates(clock)
    one, other = rates.nodes
    rates.server.down = True
    await hits(one, 3)
    rates.server.down = False
    clock.advance(cluster_rate.ALONE_S)
    await hits(one, 5)
    assert await hits(other, LIMIT) == LIMIT - 5


async def test_a_limit_that_is_changed_counts_from_then_on(clock):
    rates = Rates(clock)
    one, other = rates.nodes
    await hits(one, 5)
    for alone in rates.alone:
        alone.change(per_minute=7)
    assert await hits(other, LIMIT) == 2
