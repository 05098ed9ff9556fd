"""The command: `python -m bench.structure [--calls] [CHECKOUT ...]`, from the repository's root.

Prints one table with a column for each checkout, which needs its own `.venv`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.structure.paths import Crossed, crossings
from bench.structure.sources import (
    Module,
    import_cycles,
    in_several_layers,
    longer_than,
    modules_of,
    private_names_of_others,
    share_used_once,
    uses_of_any,
)
from bench.structure.words import banned_in

HERE = Path(__file__).resolve().parents[2]
MAX_LINES = 40

Crossings = dict[str, dict[str, Crossed]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each checkout and print the table, with `--calls` also what was called."""
    parser = argparse.ArgumentParser(prog="python -m bench.structure", description=__doc__)
    parser.add_argument("checkouts", nargs="*", type=Path, metavar="CHECKOUT", default=[HERE])
    parser.add_argument("--calls", action="store_true", help="print the files and calls as well")
    options = parser.parse_args(arguments)
    columns, crossed = [], []
    for checkout in (each.absolute() for each in options.checkouts):
        crossed.append(crossings(checkout))
        columns.append(dict([*_crossing_rows(crossed[-1]), *_source_rows(modules_of(checkout))]))
    print("| |", " | ".join(map(str, options.checkouts)), "|")
    print("|---|", "---|" * len(columns), sep="")
    for row in columns[0]:
        print(f"| {row} |", " | ".join(column[row] for column in columns), "|")
    if options.calls:
        for checkout, each in zip(options.checkouts, crossed, strict=True):
            _print_calls(checkout, each)
    return 0


def _crossing_rows(crossed: Crossings) -> Iterator[tuple[str, str]]:
    for event, by_role in crossed.items():
        for role, each in by_role.items():
            if each.files:
                yield f"{event}, {role}: files / depth", f"{len(each.files)} / {each.depth}"


def _source_rows(modules: tuple[Module, ...]) -> Iterator[tuple[str, str]]:
    lines = sorted(each.lines for module in modules for each in module.functions)
    median, p90 = statistics.median(lines), lines[len(lines) * 9 // 10]
    yield "modules", str(len(modules))
    yield "functions", str(len(lines))
    yield "lines of a function: median, p90, most", f"{median:g}, {p90}, {lines[-1]}"
    yield "private functions used once", f"{share_used_once(modules):.1f} %"
    yield f"functions over {MAX_LINES} lines", str(len(longer_than(MAX_LINES, modules)))
    yield "import cycles", str(len(import_cycles(modules)))
    yield "private names across modules", str(len(private_names_of_others(modules)))
    yield "`Any` in `store/`", str(uses_of_any(modules, "store").total())
    yield "classes and modules of one name", str(len(in_several_layers(modules)))
    yield "names with banned words", str(len(banned_in(modules)))


def _print_calls(checkout: Path, crossed: Crossings) -> None:
    for event, by_role in crossed.items():
        for role, each in by_role.items():
            if each.files:
                print(f"\n## {checkout}: {event}, {role}\n")
                print(", ".join(each.files), end="\n\n")
            for call in each.calls:
                print("  " * len(call.stack), call.stack[-1], "(goes on)" if call.again else "")


if __name__ == "__main__":
    sys.exit(main())
