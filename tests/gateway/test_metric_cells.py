"""What workers have counted: it outlives them, it is read by any of them, and it has a bound."""

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.records import TokenUsage
from frontdesk.gateway.metrics.bounded_labels import (
    MAX_TENANTS,
    OTHER,
    OfferedNames,
    TenantNames,
)
from frontdesk.gateway.metrics.exposition import exposed, merged
from frontdesk.gateway.metrics.gateway_metrics import (
    DORMANT,
    DORMANT_ENDS,
    ENDS,
    RESUMES,
    STARTS,
    GatewayMetrics,
)
from frontdesk.gateway.metrics.instruments import Distribution, Tally
from frontdesk.gateway.metrics.metric_cells import (
    FILE_BYTES,
    MAX_CELLS,
    RESERVED_CELLS,
    MetricCells,
    read_cells,
    remove_cells,
)
from frontdesk.gateway.metrics.route_patterns import RoutePatterns
from frontdesk.gateway.metrics.session_metrics import CountedMeter
from frontdesk.sessions.hooks import NoMeter
from frontdesk.testing import ManualClock

COUNTING = """
import sys
from pathlib import Path
from frontdesk.gateway.metrics.instruments import Tally
from frontdesk.gateway.metrics.metric_cells import MetricCells

cells = MetricCells(Path(sys.argv[1]))
Tally("frontdesk_prompts_queued", cells).add(amount=3)
cells.begin()
events = Tally("frontdesk_events_total", cells)
while True:
    events.add()
    print(flush=True)
"""


def worker(state, number, *, stored=False):
    return GatewayMetrics(state.worker(number), clock=ManualClock(), stored=stored)


def of_all(metrics):
    return merged(metrics._processes(metrics._cells.counted()))


def number(numbers, name, *labels):
    return sum(numbers[name].get(labels, {}).values())


def test_a_worker_that_is_killed_loses_nothing_that_it_counted_and_its_gauges_at_once(tmp_path):
    file = tmp_path / "1.cells"
    command = [sys.executable, "-c", COUNTING, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        printed = 0
        while printed < 1000:
            printed += len(os.read(process.stdout.fileno(), 4096))
        assert merged([read_cells(file)])["frontdesk_prompts_queued"][()] == {"": 3.0}
        process.send_signal(signal.SIGKILL)
        printed += len(process.stdout.read())
    counted = read_cells(file)
    numbers = merged([counted])
    assert not counted.alive
    assert numbers["frontdesk_prompts_queued"] == {}
    # Between the addition and the line it may have been killed.
    assert number(numbers, "frontdesk_events_total") - printed in (0, 1)


def test_a_successor_goes_on_from_there_and_counts_the_sessions_of_the_dead_one_as_lost(state):
    first = worker(state, 1)
    starts, ends = Tally(STARTS, first._cells), Tally(ENDS, first._cells)
    starts.add("acme", "parrot", amount=5)
    ends.add("acme", "parrot", "normal", amount=2)
    starts.add("acme", "other", amount=1)
    ends.add("acme", "other", "crashed", amount=1)
    Tally("frontdesk_agents_stuck", first._cells).set(value=7)
    del first, starts, ends
    second = worker(state, 1)
    numbers = of_all(second)
    assert number(numbers, STARTS, "acme", "parrot") == 5
    assert number(numbers, ENDS, "acme", "parrot", "normal") == 2
    assert number(numbers, ENDS, "acme", "parrot", "lost") == 3
    assert number(numbers, ENDS, "acme", "other", "lost") == 0
    assert number(numbers, "frontdesk_agents_stuck") == 0
    del second
    third = of_all(worker(state, 1))
    assert number(third, ENDS, "acme", "parrot", "lost") == 3, "they are lost once"


def test_stored_sessions_of_a_dead_worker_are_dormant_and_none_that_was_so_before_hides_one(state):
    first = worker(state, 1, stored=True)
    for name, *reason, amount in (
        (STARTS, 5), (DORMANT, "closed", 3), (RESUMES, "kept", 1), (ENDS, "deleted", 2),
        (DORMANT_ENDS, 1),
    ):  # fmt: skip
        Tally(name, first._cells).add("acme", "parrot", *reason, amount=amount)
    # Those that died there were opened at another worker, or before the service began anew.
    Tally(ENDS, first._cells).add("acme", "old", "deleted", amount=4)
    Tally(DORMANT_ENDS, first._cells).add("acme", "old", amount=4)
    Tally(RESUMES, first._cells).add("acme", "old", "kept", amount=1)
    del first
    numbers = of_all(worker(state, 1, stored=True))
    assert number(numbers, DORMANT, "acme", "parrot", "lost") == 2
    assert number(numbers, DORMANT, "acme", "old", "lost") == 1
    assert number(numbers, ENDS, "acme", "parrot", "lost") == 0


def test_any_worker_answers_for_all_and_sums_what_adds_up(state):
    workers = [worker(state, each) for each in (1, 2, 3)]
    for each in workers:
        each._cells.begin()
        Tally("frontdesk_events_total", each._cells).add(amount=2)
        each.sessions._turn_s.observe(0.3)
        each.cluster._nodes.set("alive", value=3)
        each.process.refresh()
    for each in workers:
        numbers = of_all(each)
        assert number(numbers, "frontdesk_events_total") == 6
        assert number(numbers, "frontdesk_nodes", "alive") == 3, "what each sees is not added up"
        assert numbers["frontdesk_turn_seconds"][()]["0.5"] == 3
        assert set(numbers["process_open_fds"]) == {("1",), ("2",), ("3",)}


def test_a_gateway_that_is_alone_writes_no_file(state):
    GatewayMetrics(state, clock=ManualClock())
    assert not (state.path / "metrics").exists()


def test_a_service_that_starts_begins_anew(state):
    worker(state, 7)
    remove_cells(state.metrics())
    assert list(state.metrics().iterdir()) == []


@pytest.mark.slow
def test_the_files_of_a_worker_do_not_grow(state):
    metrics = worker(state, 1)
    cells = metrics._cells
    requests = Tally("frontdesk_http_requests_total", cells)
    for each in range(MAX_CELLS + 10):
        requests.add(f"/{each}", "GET", "200")
    (file,) = state.metrics().glob("*.cells")
    assert file.stat().st_size == FILE_BYTES
    counted = {key for key in cells.counted().values if key[0] == "frontdesk_http_requests_total"}
    assert MAX_CELLS - RESERVED_CELLS - 500 < len(counted) < MAX_CELLS
    numbers = of_all(metrics)
    total = sum(sum(each.values()) for each in numbers["frontdesk_http_requests_total"].values())
    assert total == MAX_CELLS + 10, "what has no room is counted with the rest"
    assert number(numbers, "frontdesk_http_requests_total", OTHER, OTHER, OTHER) > 0
    # And a histogram, which needs several cells side by side.
    Distribution("frontdesk_http_request_seconds", cells).observe(0.1, "/late")
    assert sum(of_all(metrics)["frontdesk_http_request_seconds"][(OTHER,)].values()) > 0


@pytest.mark.parametrize("content", [b"", b"not ours", bytes(FILE_BYTES)])
def test_a_file_that_is_none_of_ours_is_begun_anew_and_read_by_nobody(tmp_path, content):
    file = tmp_path / "1.cells"
    file.write_bytes(content)
    assert read_cells(file) is None
    Tally("frontdesk_events_total", MetricCells(file)).add()
    assert number(merged([read_cells(file)]), "frontdesk_events_total") == 1


def test_a_directory_that_cannot_be_written_costs_the_others_these_numbers_only(tmp_path, caplog):
    cells = MetricCells(tmp_path / "no-such-directory" / "1.cells")
    events = Tally("frontdesk_events_total", cells)
    events.add()
    assert number(merged([cells.counted()]), "frontdesk_events_total") == 1
    assert "the metrics of this worker are not in those of the others" in caplog.text


def test_workers_agree_on_the_tenants_that_have_a_label(tmp_path):
    file = tmp_path / "tenants"
    workers = [TenantNames(file) for _ in range(4)]
    for each in range(1000):
        workers[each % 4].label(f"t{each}")
    called = {each.label(f"t{tenant}") for each in workers for tenant in range(1000)}
    assert len(called) == MAX_TENANTS + 1
    assert OTHER in called
    assert [each.label("t5") for each in workers] == ["t5"] * 4
    assert [each.label("t999") for each in workers] == [OTHER] * 4


def test_a_thousand_tenants_make_two_hundred_labels_and_one_for_the_rest():
    cells, offered = MetricCells(), OfferedNames()
    offered.follow([Blueprint(name="a", kind="x", factory=None, models=("known", "made:*"))])
    meter = CountedMeter(NoMeter(), cells, tenants=TenantNames(), offered=offered)
    for each in range(1000):
        for model in ("known", f"made:{each}", f"unknown-{each}"):
            meter.record(
                tenant_id=f"t{each}", api_key=None, model=model, tokens=TokenUsage(prompt=1)
            )
    tokens = merged([cells.counted()])["frontdesk_tokens_total"]
    assert len({tenant for tenant, _, _ in tokens}) == MAX_TENANTS + 1
    assert {model for _, model, _ in tokens} == {"known", "made:*", OTHER}
    assert tokens[OTHER, "known", "prompt"] == {"": 1000 - MAX_TENANTS}
    assert sum(each[""] for each in tokens.values()) == 3000


def test_a_line_of_the_tenants_that_was_torn_is_no_tenant(tmp_path):
    file = tmp_path / "tenants"
    file.write_bytes(b"acme\numbr")
    assert TenantNames(file).label("umbrella") == "umbrella"
    assert file.read_bytes() == b"acme\numbrella\n"


@given(st.lists(st.floats(0, 100), max_size=50))
def test_a_histogram_counts_each_once_and_cumulates_in_the_text(seconds):
    cells = MetricCells()
    turns = Distribution("frontdesk_turn_seconds", cells)
    for each in seconds:
        turns.observe(each)
    text = exposed([cells.counted()], accept="")[0].decode()
    buckets = {
        float(line.split('"')[1]): float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith("frontdesk_turn_seconds_bucket")
    }
    for bound, count in buckets.items():
        assert count == sum(each <= bound for each in seconds)


@given(st.lists(st.floats(0, 1000), min_size=3, max_size=5))
def test_the_sum_over_workers_is_the_same_whoever_adds_it_up(values):
    each_worker = []
    for value in values:
        cells = MetricCells()
        Tally("frontdesk_cost_usd_total", cells).add("acme", "test", amount=value)
        each_worker.append(cells.counted())
    forth, back = merged(each_worker), merged(reversed(each_worker))
    assert forth == back


def test_what_another_version_has_counted_is_left_alone(tmp_path):
    file = tmp_path / "1.cells"
    cells = MetricCells(file)
    cells.values[cells.cells(("frontdesk_of_another_version", ""))] = 5
    assert "frontdesk_of_another_version" not in merged([read_cells(file)])


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/", "/"),
        ("/v1/sessions", "/v1/sessions"),
        ("/v1/sessions/a", "/v1/sessions/{sessionId}"),
        ("/v1/sessions/a/events", "/v1/sessions/{sessionId}/events"),
        ("/v1/sessions/a/nothing", OTHER),
        ("/v1/sessions/a/events/b", OTHER),
        ("/v1", OTHER),
        ("", OTHER),
        ("/dashboard/app/api.js", "/dashboard/{path}"),
        ("/dashboard/login", "/dashboard/login"),
        ("/nothing", OTHER),
    ],
)
def test_a_path_is_counted_as_its_route(path, pattern):
    routes = RoutePatterns(
        [
            "/",
            "/v1/sessions",
            "/v1/sessions/{session_id}",
            "/v1/sessions/{sessionId}/events",
            "/dashboard/login",
            "/dashboard/{path:path}",
        ]
    )
    assert routes.pattern(path) == pattern
