"""The meter: counts in memory, writes in its own thread, loses nothing."""

import sqlite3
import threading

from frontdesk.agents.records import MAX_USED_TOKENS, TokenUsage
from frontdesk.gateway.metering import MeteredUsage, UsageMeter
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
