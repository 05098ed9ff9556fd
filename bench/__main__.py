"""The command: `python -m bench [GROUP ...]`, from the root of the repository.

Chooses groups, runs them, prints one report. A further group is a module with `measure(plan)` and a
line in `GROUPS`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import (
    agents,
    beam,
    dashboard,
    durable,
    forwarding,
    gateway,
    imports,
    local_engine,
    others,
    postgresql,
    processes,
    registry,
    valkey_engine,
)
from bench.machine import load_line, this_machine
from bench.plan import QUICK, Plan
from bench.report import Report, as_json, as_markdown
from bench.table import Section

GROUPS: dict[str, Callable[[Plan], Section]] = {
    "registry": registry.measure,
    "processes": processes.measure,
    "imports": imports.measure,
    "gateway": gateway.measure,
    "agents": agents.measure,
    "local-engine": local_engine.measure,
    "forwarding": forwarding.measure,
    "valkey-engine": valkey_engine.measure,
    "durable": durable.measure,
    "postgresql": postgresql.measure,
    "dashboard": dashboard.measure,
    "others": others.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen groups; return 1 only with `--strict` and a bound that was not kept."""
    options = _options(arguments)
    if options.install:
        others.install()
    report = _run(options.groups or list(GROUPS), QUICK if options.quick else Plan(), options.quick)
    print(json.dumps(as_json(report), indent=2) if options.json else as_markdown(report))
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(as_markdown(report))
    return 1 if options.strict and not report.kept else 0


def _run(names: Sequence[str], plan: Plan, quick: bool) -> Report:
    elixir, load = beam.version(), load_line()
    sections = tuple(GROUPS[name](plan) for name in names)
    remarks = [f"before the run, {load}"]
    if quick:
        remarks.insert(0, "QUICK: tiny sizes, once each. It shows that the benchmark runs; the ")
        remarks[0] += "figures say nothing."
    if elixir is None and "registry" in names:
        remarks.insert(0, beam.MISSING)
    return Report(this_machine(elixir=elixir or "not installed"), sections, tuple(remarks))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What the store costs.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the Markdown there")
    parser.add_argument("--strict", action="store_true", help="fail unless every bound is kept")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only show that it runs")
    parser.add_argument("--install", action="store_true", help="first install the other servers")
    options = parser.parse_args(arguments)
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    sys.exit(main())
