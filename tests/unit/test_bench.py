"""The benchmark itself: it runs, it judges rightly, and it never passes over what it cannot take.

Tiny sizes and no time limits: what the store costs is for `make bench` to say, not for a test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LIBRARY_GROUPS = ("registry", "processes", "imports")
"""The groups that need no server and no agent: those that take seconds."""


@pytest.fixture(autouse=True)
def _bench_is_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    source = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT / "src"))))
    environment = {**os.environ, "PYTHONPATH": source}
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def quick_report(tmp_path_factory):
    page = tmp_path_factory.mktemp("bench") / "docs" / "benchmarks.md"
    done = _run(*LIBRARY_GROUPS, "--quick", "--json", "--write", str(page))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), page.read_text()


def _bounds(report):
    return [row for row in report["rows"] if row["bound"]]


def test_a_run_has_a_row_for_every_cost_that_the_contract_bounds(quick_report):
    report, _ = quick_report
    names = [row["name"] for row in _bounds(report)]
    for cost in ("get at", "create at", "delete at", "list_by_tenant,", "end of an agent"):
        assert any(name.startswith(cost) for name in names), cost
    for cost in ("memory a session", "death of a process", "import frontdesk"):
        assert any(name.startswith(cost) for name in names), cost


def test_every_figure_of_ours_is_measured_and_more_than_nothing(quick_report):
    report, _ = quick_report
    shares = [row for row in report["rows"] if row["name"].startswith("end of an agent")]
    others = [row for row in report["rows"] if row not in shares]
    assert all(row["ours"] is not None for row in shares)
    assert all(row["ours"] > 0 for row in others if "resident" not in row["name"])


def test_the_crowd_of_processes_is_watched_by_one_thread(quick_report):
    report, _ = quick_report
    assert any("watched by 1 thread." in note for note in report["notes"])


def test_the_page_shows_the_rows_the_sizes_and_the_machine(quick_report):
    report, page = quick_report
    assert all(row["name"] in page for row in report["rows"])
    assert "| 200" in page
    assert "| 800" in page
    assert report["machine"]["processor"] in page
    assert report["noise"] in page
    assert "default collector" in page
    assert "after gc.freeze()" in page


@pytest.fixture
def run_that_took_nothing(monkeypatch, capsys, tmp_path):
    from bench import __main__ as command
    from bench import registry

    monkeypatch.setenv("PATH", str(tmp_path))
    group = {"registry": lambda plan: registry.section_of(registry.Takes(plan))}
    monkeypatch.setattr(command, "GROUPS", group)

    def run(*arguments):
        code = command.main(["--quick", "--json", *arguments])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_a_machine_without_elixir_is_told_that_those_rows_are_not_measured(run_that_took_nothing):
    from bench import beam

    assert beam.figures(sessions=100, tenants=1) == {}
    _, report = run_that_took_nothing()
    against_beam = [row for row in _bounds(report) if row["against"].startswith("BEAM")]
    assert against_beam
    assert {row["verdict"] for row in against_beam} == {"not measured"}
    assert any("elixir is not installed" in remark for remark in report["remarks"])
    assert report["machine"]["elixir"] == "not installed"


def test_only_strict_fails_where_a_bound_was_not_kept_or_not_measured(run_that_took_nothing):
    assert run_that_took_nothing()[0] == 0
    assert run_that_took_nothing("--strict")[0] == 1


def test_an_unknown_group_is_refused_by_name():
    done = _run("cluster-of-nothing")
    assert done.returncode == 2
    assert "no such group: cluster-of-nothing" in done.stderr


def test_a_row_is_judged_by_its_bound():
    from bench.table import Bound, Row

    faster = Row("get", 100.0, 250.0, "BEAM", Bound("at_least", 2))
    assert (faster.ratio, faster.verdict) == (2.5, "ok")
    assert Row("get", 200.0, 250.0, "BEAM", Bound("at_least", 2)).verdict == "missed"
    dearer = Row("get", 90.0, 20.0, "bare dict", Bound("at_most", 4))
    assert (dearer.ratio, dearer.verdict) == (4.5, "missed")
    assert Row("get", 80.0, 20.0, "bare dict", Bound("at_most", 4)).verdict == "ok"
    assert Row("death", 249.0, bound=Bound("within", 250)).verdict == "ok"
    assert Row("death", 251.0, bound=Bound("within", 250)).verdict == "missed"


def test_a_row_without_its_baseline_is_not_measured_rather_than_kept():
    from bench.table import Bound, Row

    assert Row("get", 100.0, None, "BEAM", Bound("at_least", 2)).verdict == "not measured"
    assert Row("get", None, 100.0, "BEAM", Bound("at_most", 2)).verdict == "not measured"
    assert Row("get", 100.0, None, "BEAM").verdict == ""


def test_a_figure_is_written_with_the_unit_that_keeps_it_short():
    from bench.table import amount

    assert amount(12.34, "ns") == "12.3 ns"
    assert amount(12_340.0, "ns") == "12.3 µs"
    assert amount(123_400_000.0, "ns") == "123 ms"
    assert amount(504.0, "B") == "504 B"
    assert amount(None, "ns") == "not measured"


def test_the_noise_is_the_spread_of_the_control_measure():
    from bench.machine import noise_line

    assert "taken 3 times: least 20.0, median 22.0, greatest 30.0" in noise_line([22, 20, 30])
    assert "spread 50 %" in noise_line([22, 20, 30])
    assert noise_line([]) == "control measure: not taken"


def test_a_scene_that_fails_says_what_went_wrong():
    from bench import registry_scenes
    from bench.scene import SceneFailed, play

    with pytest.raises(SceneFailed) as failure:
        play(
            registry_scenes.costs, subject="nobody", sessions=1, tenants=1, frozen=False, lookups=1
        )
    assert "KeyError: 'nobody'" in failure.value.report
