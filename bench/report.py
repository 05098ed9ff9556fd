"""The report of a run: one table of every row, the grids, the notes, the machine.

Above `table` and `machine`, below `__main__`. As Markdown for people and the documentation, as JSON
for programs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from bench.machine import Machine, noise_line
from bench.table import Row, Section, table_of_grid, table_of_rows

HOW_TO_READ = """\
Every row is one relation, measured in one run on one machine. `times better` is the baseline
divided by ours, `times the cost` ours divided by the baseline. Absolute figures depend on the
machine; the ratios are what is promised. Run it yourself with `make bench`."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a run found out."""

    machine: Machine
    sections: tuple[Section, ...]
    remarks: tuple[str, ...]

    @property
    def rows(self) -> list[Row]:
        """Return the rows of all sections."""
        return [row for section in self.sections for row in section.rows]

    @property
    def kept(self) -> bool:
        """Say whether every bound was measured and kept."""
        return all(row.verdict in ("ok", "") for row in self.rows)

    @property
    def noise(self) -> str:
        """Say how steady the machine was."""
        return noise_line([value for section in self.sections for value in section.controls])


def as_markdown(report: Report) -> str:
    """Write the report as a page of the documentation."""
    grids = [table_of_grid(grid) for section in report.sections for grid in section.grids]
    notes = [note for section in report.sections for note in section.notes]
    parts = (
        "# Benchmarks",
        HOW_TO_READ,
        _listed(report.remarks),
        table_of_rows(report.sections),
        "## Side by side" if grids else "",
        *grids,
        "## How it is measured",
        _listed(notes),
        "## The machine",
        _listed([*report.machine.lines(), report.noise]),
    )
    return "\n\n".join(filter(None, parts)) + "\n"


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as plain values."""
    return {
        "machine": asdict(report.machine),
        "noise": report.noise,
        "remarks": list(report.remarks),
        "rows": [
            {**asdict(row), "group": section.name, "ratio": row.ratio, "verdict": row.verdict}
            for section in report.sections
            for row in section.rows
        ],
        "grids": [asdict(grid) for section in report.sections for grid in section.grids],
        "notes": [note for section in report.sections for note in section.notes],
    }


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
