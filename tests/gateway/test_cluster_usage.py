"""The meter over all nodes: what each has counted is published as a whole, and summed."""

from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from cluster.inprocess import InProcessEngine, InProcessServer
from frontdesk.agents.records import TokenUsage
from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.gateway import cluster_usage
from frontdesk.gateway.budgets import TenantBudgets
from frontdesk.gateway.cluster_usage import ClusterUsage
from frontdesk.gateway.metering import UsageMeter
from frontdesk.gateway.settings import Config
from frontdesk.gateway.spending import date_of
from frontdesk.gateway.state_dir import StateDir
from frontdesk.gateway.usage_table import UsageQuery
from frontdesk.sessions.errors import BudgetExceeded
from frontdesk.testing import ManualClock
from gateway.requirements import covers

pytestmark = pytest.mark.anyio

NOON_MS = 1_774_872_000_000
DAY_S = 86_400


@pytest.fixture
def day():
    return ManualClock(wall_ms=NOON_MS)


@asynccontextmanager
async def node(server, directory, clock):
    """Open a node's meter, and the meter of all nodes over it."""
    with UsageMeter(StateDir.make(directory), clock=clock, batch_s=0.01) as meter:
        usage = ClusterUsage(meter, engine=InProcessEngine(server))
        async with usage:
            usage.meter = meter
            yield usage


@asynccontextmanager
async def two_nodes(tmp_path, clock):
    server = InProcessServer()
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(node(server, tmp_path / "one", clock))
        other = await stack.enter_async_context(node(server, tmp_path / "other", clock))
        one.server = other.server = server
        yield one, other


def use(usage, tokens, *, key="k-acme", tenant="acme", model="m"):
    usage.meter.record(
        tenant_id=tenant,
        api_key=key,
        model=model,
        prompts=1,
        tokens=TokenUsage(prompt=tokens, cost_usd=0.5),
    )


async def rounds(*nodes):
    """Have each publish and read, twice: the first may have read before the last published."""
    for _ in range(2):
        for each in nodes:
            await each._round()


@covers("cluster.meter")
async def test_what_is_used_on_one_node_is_known_on_the_other(tmp_path, day):
    async with two_nodes(tmp_path, day) as (one, other):
        use(one, 10)
        use(other, 5)
        use(other, 3, key="k-2")
        use(other, 100, tenant="umbrella")
        await rounds(one, other)
        for each in (one, other):
            assert each.of_key("acme", "k-acme").tokens.prompt == 15
            assert each.of_tenant("acme").tokens.prompt == 18
            assert each.of_tenant("acme").prompts == 3
            assert each.spent("acme", None, period="day").prompt == 18
            assert each.spent("acme", "k-2", period="month").prompt == 3
            assert each.tracked_keys_of("acme") == 2


async def test_what_is_told_twice_counts_once(tmp_path, day):
    async with two_nodes(tmp_path, day) as (one, other):
        use(one, 10)
        for _ in range(3):
            use(other, 1)
            await rounds(one, other)
        assert one.of_tenant("acme").tokens.prompt == 13


@covers("cluster.meter-days")
async def test_sums_by_day_model_and_key_are_over_both_nodes(tmp_path, day):
    async with two_nodes(tmp_path, day) as (one, other):
        use(one, 10, model="a")
        use(other, 5, model="a")
        use(other, 7, model="b", key="k-2")
        day.advance(DAY_S)
        use(one, 1, model="a")
        await rounds(one, other)
        today = day.wall_ms() // 86_400_000
        query = UsageQuery(tenant_id="acme", by=("day", "model", "key"), limit=10)
        expected = [
            ((today - 1, "a", "k-acme"), 15),
            ((today - 1, "b", "k-2"), 7),
            ((today, "a", "k-acme"), 1),
        ]
        for each in (one, other):
            found = await each.sums(query)
            assert [(group, used.tokens.prompt) for group, used in found] == expected
        only = UsageQuery(tenant_id="acme", first_day=today, last_day=today)
        assert [used.tokens.prompt for _, used in await other.sums(only)] == [1]
        assert date_of(today).year == 2026


async def test_pages_of_sums_over_both_nodes_miss_and_repeat_nothing(tmp_path, day):
    async with two_nodes(tmp_path, day) as (one, other):
        for number in range(12):
            use((one, other)[number % 2], number + 1, model=f"m{number:02}")
            use((one, other)[number % 3 == 0], 1, model=f"m{number:02}")
        await rounds(one, other)
        seen, after = [], None
        while True:
            page = await one.sums(UsageQuery(tenant_id="acme", by=("model",), after=after, limit=5))
            seen += [(group[0], used.tokens.prompt) for group, used in page]
            if len(page) < 5:
                break
            after = page[-1][0]
        assert seen == [(f"m{number:02}", number + 2) for number in range(12)]


@covers("cluster.meter-of-dead-nodes")
async def test_what_a_node_had_used_counts_when_it_has_gone_and_once_when_it_comes_back(
    tmp_path, day
):
    server = InProcessServer()
    async with node(server, tmp_path / "one", day) as one:
        async with node(server, tmp_path / "other", day) as other:
            use(other, 40)
        await rounds(one)
        assert one.of_tenant("acme").tokens.prompt == 40
        query = UsageQuery(tenant_id="acme", by=("key",), limit=5)
        assert [used.tokens.prompt for _, used in await one.sums(query)] == [40]
        async with node(server, tmp_path / "other", day) as other:
            await rounds(one, other)
            assert one.of_tenant("acme").tokens.prompt == 40
            assert other.of_tenant("acme").tokens.prompt == 40


async def test_an_engine_that_has_lost_all_is_told_all_again(tmp_path, day):
    async with two_nodes(tmp_path, day) as (one, other):
        use(other, 40)
        day.advance(DAY_S)
        use(other, 2)
        await rounds(one, other)
        one.server.wipe()
        await rounds(one, other)
        await rounds(one, other)
        assert one.of_tenant("acme").tokens.prompt == 42
        query = UsageQuery(tenant_id="acme", by=("day",), limit=5)
        assert [used.tokens.prompt for _, used in await one.sums(query)] == [40, 2]


async def test_while_the_engine_does_not_answer_the_others_stand_as_they_were_read_last(
    tmp_path, day, caplog
):
    async with two_nodes(tmp_path, day) as (one, other):
        use(other, 40)
        await rounds(one, other)
        one.server.down = True
        use(one, 1)
        await rounds(one, other)
        assert one.of_tenant("acme").tokens.prompt == 41
        with pytest.raises(EngineUnavailable):
            await one.sums(UsageQuery(tenant_id="acme", by=("day",), limit=5))
        told = [each for each in caplog.records if "not shared" in each.message]
        assert len(told) == 2  # once a node, not once a round
        one.server.down = False
        await rounds(one, other)
        assert other.of_tenant("acme").tokens.prompt == 41


@covers("cluster.budgets")
async def test_a_budget_is_used_up_by_what_all_nodes_used_and_begins_again_with_its_day(
    tmp_path, day
):
    config = Config(budgets={"tokens_per_day": 50})
    async with two_nodes(tmp_path, day) as (one, other):
        budgets = TenantBudgets(config, meter=one, clock=day)
        use(one, 20)
        use(other, 29)
        await rounds(one, other)
        budgets.check("acme", "k-acme")
        use(other, 1)
        await rounds(one, other)
        with pytest.raises(BudgetExceeded):
            budgets.check("acme", "k-acme")
        budgets.check("umbrella", "k-umbrella")
        day.advance(DAY_S)
        budgets.check("acme", "k-acme")


async def test_what_does_not_fit_into_one_part_is_published_in_several(tmp_path, day, monkeypatch):
    monkeypatch.setattr(cluster_usage, "PART_BYTES", 300)
    async with two_nodes(tmp_path, day) as (one, other):
        for number in range(20):
            use(other, number + 1, key=f"k-{number}")
        await rounds(one, other)
        assert one.of_tenant("acme").tokens.prompt == 210
        parts = await one._engine.totals("usage")
        assert len(parts) > 3
        assert max(map(len, parts.values())) <= 300
        query = UsageQuery(tenant_id="acme", by=("key",), limit=50)
        assert len(await one.sums(query)) == 20


@pytest.mark.parametrize(
    ("own", "workers", "counted"), [("1", 2, 1 + 8), ("2", 2, 0), (None, 1, 2 + 4 + 8)]
)
async def test_what_was_counted_by_workers_that_there_are_no_more_still_counts(
    tmp_path, day, own, workers, counted
):
    directory = StateDir.make(tmp_path / "state")
    # A gateway that was alone used 1, three workers 2, 4 and 8.
    for number, used in ((None, 1), (1, 2), (2, 4), (3, 8)):
        state = directory if number is None else directory.worker(number)
        with UsageMeter(state, clock=day) as meter:
            meter.record(tenant_id="acme", api_key="k", tokens=TokenUsage(prompt=used))
    state = directory if own is None else directory.worker(int(own))
    server = InProcessServer()
    await cluster_usage.publish_unattended(
        state, workers=workers, engine=InProcessEngine(server), clock=day
    )
    async with node(server, tmp_path / "other", day) as other:
        assert other.of_tenant("acme").tokens.prompt == counted
        found = await other.sums(UsageQuery(tenant_id="acme"))
        assert sum(used.tokens.prompt for _, used in found) == counted


async def test_nothing_that_is_published_holds_a_secret_or_a_text(tmp_path, day):
    async with two_nodes(tmp_path, day) as (one, other):
        use(other, 5)
        await rounds(one, other)
        topics = one.server.index._totals
        content = b"".join(part for named in topics.values() for part in named.values())
        assert b"k-acme" in content
        assert set(topics) == {"usage", "usage days", f"usage {other.today}"}
