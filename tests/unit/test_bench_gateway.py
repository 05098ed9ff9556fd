"""The groups with servers: they run against real ones, and their client reads answers rightly.

Tiny sizes and no time limits. What the gateway costs is for `make bench` to say, not for a test.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
WHOLE = HEAD + b"content-length: 5\r\n\r\nhello"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"


@pytest.fixture(autouse=True)
def _bench_is_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def quick_report(group):
    source = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT / "src"))))
    done = subprocess.run(
        [sys.executable, "-m", "bench", group, "--quick", "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def bounds(report):
    return {row["name"]: row for row in report["rows"] if row["bound"]}


@pytest.fixture(scope="module")
def gateway_rows():
    return bounds(quick_report("gateway"))


@pytest.mark.slow
def test_the_gateway_has_a_measured_row_for_every_cost_that_the_contract_bounds(gateway_rows):
    rows = gateway_rows
    for cost in (
        "GET of a session",
        "an event to each of",
        "memory of an idle session with a task",
        "tasks of an idle session with a task",
        "memory of an idle open stream",
        "a client that leaves",
        "prompt posted to the agent's first event",
        "40 sessions and 40 open streams",
        "prompt to its answer among them",
    ):
        assert any(name.startswith(cost) for name in rows), cost
    assert all(row["ours"] is not None for row in rows.values())


@pytest.mark.slow
def test_what_is_counted_of_the_gateway_is_exact_at_any_size(gateway_rows):
    rows = gateway_rows
    assert rows["tasks of an idle session with a task"]["ours"] == 1
    assert rows["40 sessions and 40 open streams in one process, lost of them"]["ours"] == 0


@pytest.mark.slow
def test_agents_have_a_measured_row_for_every_cost_that_the_contract_bounds():
    rows = bounds(quick_report("agents"))
    for cost in (
        "session with a task opened",
        "session with a process opened, the built-in assistant",
        "session with a process opened, a Python function",
        "3 assistants in processes of their own, each opened",
    ):
        assert any(name.startswith(cost) for name in rows), cost
    assert all(row["ours"] is not None for row in rows.values())
    left = "3 assistants in processes of their own, alive when the gateway has ended"
    assert rows[left]["ours"] == 0


@pytest.mark.slow
def test_the_local_engine_has_a_measured_row_for_every_cost_that_the_contract_bounds():
    rows = bounds(quick_report("local-engine"))
    for cost in (
        "create on the local engine, one after another",
        "a change on one worker, until another is told",
        "kill -9 of a worker with 150 sessions",
        "a call while 500 sessions of a dead worker end",
    ):
        assert any(name.startswith(cost) for name in rows), cost
    assert all(row["ours"] is not None for row in rows.values())


@pytest.mark.slow
def test_the_other_servers_hold_the_same_dialogue():
    from bench import others

    if not others.PYTHON.exists():
        pytest.skip("the other servers are not installed: python -m bench others --install")
    report = quick_report("others")
    assert {row["against"] for row in report["rows"]} == set(others.NAMES.values())
    times = [row for row in report["rows"] if row["unit"] == "ns"]
    assert all(row["ours"] > 0 and row["baseline"] > 0 for row in times)


def test_other_servers_that_are_not_installed_are_told_of_and_not_passed_over(
    monkeypatch, tmp_path
):
    from bench import others
    from bench.plan import QUICK

    monkeypatch.setattr(others, "PYTHON", tmp_path / "no-python")
    section = others.measure(QUICK)
    assert {row.against for row in section.rows} == set(others.NAMES.values())
    assert {row.cells()[1] for row in section.rows} == {"not measured"}
    assert "bench others --install" in section.notes[0]


@pytest.mark.parametrize("answer", [WHOLE, CHUNKED])
def test_an_answer_is_taken_out_of_the_bytes_only_when_it_is_whole(answer):
    from bench.wire import answer_in

    for end in range(len(answer)):
        assert answer_in(answer[:end]) == (None, answer[:end])
    taken, rest = answer_in(answer + b"HTTP/1.1 2")
    assert (taken.status, taken.body, rest) == (200, b"hello", b"HTTP/1.1 2")
    assert taken.header("content-type") == "text/plain"


def test_a_marker_is_counted_once_however_the_bytes_are_cut():
    from bench.wire import Listener

    data = b": welcome\n\ndata: 1\n\ndata: 2\n\n"
    for cut in range(len(data)):
        listener = Listener(b"", marker=b"data: ", keeps=True)
        listener.data_received(data[:cut])
        listener.data_received(data[cut:])
        assert (listener.count, listener.kept) == (2, data)


def test_a_listener_follows_another_marker_in_what_it_has_kept():
    from bench.wire import Listener

    listener = Listener(b"", marker=b"first", keeps=True)
    listener.data_received(b"first la")
    listener.follow(b"last")
    listener.data_received(b"st")
    assert listener.count == 1
    assert asyncio.run(listener.until()) > 0


def test_a_number_of_things_is_written_without_a_unit():
    from bench.table import Bound, Row

    row = Row("tasks", 1.0, bound=Bound("within", 1), unit="n")
    assert row.cells()[1] == "1"
    assert row.cells()[5:] == ("≤ 1", "ok")
    assert Row("lost", 3, bound=Bound("within", 0), unit="n").verdict == "missed"
