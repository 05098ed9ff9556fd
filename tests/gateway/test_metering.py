"""The meter: counts in memory, writes in its own thread, loses nothing."""

import asyncio
import sqlite3
import threading
from datetime import date

import pytest

from frontdesk.agents.records import MAX_USED_TOKENS, TokenUsage
from frontdesk.gateway.metering import MODELS_A_DAY, UsageMeter
from frontdesk.gateway.spending import PERIODS, date_of, day_of, first_day, next_first_day
from frontdesk.gateway.usage_table import DAY_MS, SCHEMA, MeteredUsage, UsageQuery
from gateway.requirements import covers
from support.waiting import eventually


def test_sums_are_by_key_and_by_tenant(state):
    with UsageMeter(state) as meter:
        half = TokenUsage(prompt=5, cost_usd=0.5)
        meter.record(tenant_id="acme", api_key="k1", prompts=1, tokens=half)
        meter.record(tenant_id="acme", api_key="k2", prompts=1, tokens=TokenUsage(completion=7))
        meter.record(tenant_id="other", api_key="k1", prompts=1)
        assert meter.of_key("acme", "k1") == MeteredUsage(1, TokenUsage(5, 0, 0, 0.5))
        assert meter.of_tenant("acme") == MeteredUsage(2, TokenUsage(5, 7, 0, 0.5))
        assert meter.tracked_keys == 3


@covers("meter.survives-restart")
def test_a_new_meter_goes_on_where_the_last_one_ended(state):
    for _ in range(3):
        with UsageMeter(state) as meter:
            quarter = TokenUsage(cost_usd=0.25)
            meter.record(tenant_id="acme", api_key="k", prompts=1, tokens=quarter)
    with UsageMeter(state) as meter:
        assert meter.of_key("acme", "k") == MeteredUsage(3, TokenUsage(cost_usd=0.75))


def test_sums_stop_at_the_greatest_number_in_memory_and_in_the_file(state):
    greatest = TokenUsage(prompt=MAX_USED_TOKENS)
    for _ in range(3):
        with UsageMeter(state) as meter:
            meter.record(tenant_id="acme", api_key="k", tokens=greatest)
            meter.record(tenant_id="acme", api_key="k", tokens=TokenUsage(prompt=1))
            assert meter.of_key("acme", "k") == MeteredUsage(0, greatest)


@covers("meter.behind-after-sigkill")
def test_what_is_counted_is_in_the_file_soon_without_any_close(state):
    with UsageMeter(state) as meter:
        meter.record(tenant_id="acme", api_key="k", prompts=1)
        eventually(lambda: written(state) == [("acme", "k", 1)])
        meter.record(tenant_id="acme", api_key="k", prompts=1)
        eventually(lambda: written(state) == [("acme", "k", 2)])


@covers("meter.disk-full")
def test_a_write_that_fails_is_made_up_for_later(state, monkeypatch, caplog):
    with UsageMeter(state, batch_s=0.01, retry_s=0.01) as meter:
        full = threading.Event()
        write = meter._write

        def fails_while_full(batch):
            if full.is_set():
                raise sqlite3.OperationalError("database or disk is full")
            write(batch)

        monkeypatch.setattr(meter, "_write", fails_while_full)
        full.set()
        meter.record(tenant_id="acme", api_key="k", prompts=1)
        eventually(lambda: "could not be written" in caplog.text)
        assert meter.of_key("acme", "k").prompts == 1
        full.clear()
        eventually(lambda: written(state) == [("acme", "k", 1)])


def test_threads_count_without_losing_any(state):
    with UsageMeter(state, batch_s=0.001) as meter:
        threads = [
            threading.Thread(
                target=lambda: [
                    meter.record(tenant_id="t", api_key="k", prompts=1) for _ in range(500)
                ]
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert written(state) == [("t", "k", 4000)]


def written(state):
    connection = sqlite3.connect(state.usage)
    try:
        return connection.execute("SELECT tenant_id, api_key, prompts FROM usage").fetchall()
    finally:
        connection.close()


# -- days ----------------------------------------------------------------------------------------


def at(clock, day, *, hour=12):
    """Move the wall clock to an hour of a day."""
    clock.set_wall_ms(day_of(date.fromisoformat(day)) * DAY_MS + hour * 3_600_000)


def rows(meter, **query):
    """Ask for sums as a route does, and wait for them."""
    found = asyncio.run(meter.sums(UsageQuery(**{"tenant_id": "acme", "limit": 100, **query})))
    return [(*group, used.prompts, used.tokens.total) for group, used in found]


@pytest.fixture
def meter(state, clock):
    with UsageMeter(state, clock=clock) as opened:
        yield opened


def fill(meter, clock):
    """Use something on three days, of two models, with two keys and by two tenants."""
    for day, tenant, key, model, prompts in [
        ("2026-03-01", "acme", "k1", "small", 1),
        ("2026-03-01", "acme", "k2", "large", 2),
        ("2026-03-02", "acme", "k1", "large", 4),
        ("2026-03-31", "acme", "k1", "small", 8),
        ("2026-03-31", "acme", "k1", "small", 16),
        ("2026-03-02", "other", "k1", "small", 32),
    ]:
        at(clock, day)
        tokens = TokenUsage(prompt=prompts, completion=prompts)
        meter.record(tenant_id=tenant, api_key=key, model=model, prompts=prompts, tokens=tokens)


FIRST, SECOND, LAST = [day_of(date(2026, 3, day)) for day in (1, 2, 31)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"by": ("day",)}, [(FIRST, 3, 6), (SECOND, 4, 8), (LAST, 24, 48)]),
        ({"by": ("model",)}, [("large", 6, 12), ("small", 25, 50)]),
        ({"by": ("key",)}, [("k1", 29, 58), ("k2", 2, 4)]),
        ({"by": ("key", "model")}, [("k1", "large", 4, 8), ("k1", "small", 25, 50),
                                    ("k2", "large", 2, 4)]),
        ({}, [(31, 62)]),
        ({"api_key": "k2"}, [(2, 4)]),
        ({"first_day": SECOND}, [(28, 56)]),
        ({"first_day": SECOND, "last_day": SECOND}, [(4, 8)]),
        ({"first_day": LAST + 1}, []),
        ({"by": ("day",), "limit": 2}, [(FIRST, 3, 6), (SECOND, 4, 8)]),
        ({"by": ("day",), "after": (SECOND,)}, [(LAST, 24, 48)]),
        ({"by": ("key", "model"), "after": ("k1", "large"), "limit": 1}, [("k1", "small", 25, 50)]),
        ({"tenant_id": "other", "by": ("day",)}, [(SECOND, 32, 64)]),
        ({"tenant_id": "nobody"}, []),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("written", [True, False], ids=["written", "disk-full"])
@covers("meter.by-day")
def test_sums_by_day_model_and_key_are_those_of_one_tenant_on_the_days_that_were_asked_for(
    meter, clock, monkeypatch, query, expected, written
):
    if not written:

        def full(_):
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(meter, "_write", full)
    fill(meter, clock)
    assert rows(meter, **query) == expected
    monkeypatch.undo()


def test_what_is_partly_written_is_in_one_sum(meter, clock, monkeypatch):
    fill(meter, clock)
    assert rows(meter, by=("model",)) == [("large", 6, 12), ("small", 25, 50)]
    monkeypatch.setattr(meter, "_write", lambda _: (_ for _ in ()).throw(sqlite3.Error("full")))
    fill(meter, clock)
    assert rows(meter, by=("model",)) == [("large", 12, 24), ("small", 50, 100)]
    assert rows(meter, by=("model",), limit=1) == [("large", 12, 24)]
    monkeypatch.undo()


def test_days_are_forgotten_after_a_while_and_sums_are_not(state, clock):
    with UsageMeter(state, clock=clock, stored_days=2) as meter:
        fill(meter, clock)
        at(clock, "2026-04-01")
        meter.record(tenant_id="acme", api_key="k1", prompts=1)
        assert rows(meter, by=("day",)) == [(LAST, 24, 48), (LAST + 1, 1, 0)]
        assert meter.of_tenant("acme").prompts == 32


def test_turns_of_unknown_use_are_counted_and_survive_a_restart(state, clock):
    with UsageMeter(state, clock=clock) as meter:
        meter.record(tenant_id="acme", api_key="k", unknown_turns=1)
    with UsageMeter(state, clock=clock) as meter:
        meter.record(tenant_id="acme", api_key="k", unknown_turns=1)
        assert meter.of_key("acme", "k").unknown_turns == 2
        (found,) = asyncio.run(meter.sums(UsageQuery(tenant_id="acme")))
        assert found[1].unknown_turns == 2


def test_models_that_clients_make_up_do_not_fill_the_file(state, clock):
    with UsageMeter(state, clock=clock) as meter:
        for number in range(MODELS_A_DAY + 5):
            meter.record(tenant_id="acme", api_key="k", model=f"m{number}", prompts=1)
        meter.record(tenant_id="acme", api_key="k", model="m0", prompts=1)
    with UsageMeter(state, clock=clock) as meter:
        meter.record(tenant_id="acme", api_key="k", model="another", prompts=1)
        meter.record(tenant_id="other", api_key="k", model="another", prompts=1)
        found = rows(meter, by=("model",), limit=2000)
        assert len(found) == MODELS_A_DAY + 1
        assert ("(other)", 6, 0) in found
        assert ("m0", 2, 0) in found
        assert rows(meter, tenant_id="other", by=("model",)) == [("another", 1, 0)]
        clock.advance(86_400)
        meter.record(tenant_id="acme", api_key="k", model="another", prompts=1)
        assert ("another", 1, 0) in rows(meter, by=("model",), limit=2000)


def test_a_file_from_before_days_keeps_its_sums(state):
    before = sqlite3.connect(state.usage, isolation_level=None)
    before.execute(SCHEMA[0])
    before.execute("PRAGMA user_version=1")
    before.execute("INSERT INTO usage VALUES ('acme', 'k', 3, 5, 7, 1, 0.5)")
    before.close()
    with UsageMeter(state) as meter:
        assert meter.of_key("acme", "k") == MeteredUsage(3, TokenUsage(5, 7, 1, 0.5))
        assert rows(meter) == []
        meter.record(tenant_id="acme", api_key="k", prompts=1)
        assert rows(meter) == [(1, 0)]
        assert meter.of_key("acme", "k").prompts == 4


def test_the_spending_of_a_day_and_a_month_begins_anew_and_survives_a_restart(state, clock):
    def spent(meter):
        return [
            meter.spent("acme", key, period=period).total
            for key in ("k1", None)
            for period in ("day", "month")
        ]

    with UsageMeter(state, clock=clock) as meter:
        fill(meter, clock)
        assert spent(meter) == [48, 58, 48, 62]
    with UsageMeter(state, clock=clock) as meter:
        assert spent(meter) == [48, 58, 48, 62]
        at(clock, "2026-03-30")  # a clock that is set back begins nothing anew
        assert spent(meter) == [48, 58, 48, 62]
        at(clock, "2026-04-01", hour=0)
        assert spent(meter) == [0, 0, 0, 0]
        meter.record(tenant_id="acme", api_key="k1", tokens=TokenUsage(prompt=5))
        at(clock, "2026-04-02")
        assert spent(meter) == [0, 5, 0, 5]


@pytest.mark.parametrize("day", ["2026-01-31", "2026-02-28", "2028-02-29", "2026-12-31"])
def test_a_period_ends_where_the_next_begins(day):
    last = day_of(date.fromisoformat(day))
    for period in PERIODS:
        assert next_first_day(last, period) == last + 1
        assert first_day(last + 1, period) == last + 1
    assert date_of(first_day(last, "month")).day == 1
