"""The table: rows with a bound each, grids of figures side by side, and how both are written down.

Below every group and above nothing: it knows neither stores nor clocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Unit = Literal["ns", "B", "n"]
"""Times, sizes, and numbers of things."""

Verdict = Literal["ok", "missed", "not measured", ""]

_SCALES: dict[Unit, tuple[tuple[float, str], ...]] = {
    "ns": ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")),
    "B": ((1024.0**2, "MiB"), (1.0, "B")),
    "n": (),
}


@dataclass(frozen=True, slots=True)
class Bound:
    """What a row must reach.

    `at_least` bounds how many times faster (or smaller) than the baseline ours is, `at_most` how
    many times the baseline ours costs, `within` our figure itself, in the unit of the row.
    """

    kind: Literal["at_least", "at_most", "within"]
    limit: float

    def __str__(self) -> str:
        return f"{'≥' if self.kind == 'at_least' else '≤'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One measured relation. None stands for a figure that could not be taken."""

    name: str
    ours: float | None
    baseline: float | None = None
    against: str = ""
    bound: Bound | None = None
    unit: Unit = "ns"

    @property
    def ratio(self) -> float | None:
        """Return ours over the baseline, or the other way round where the bound is `at_least`."""
        if self.ours is None or not self.baseline:
            return None
        if self.bound is not None and self.bound.kind == "at_least":
            return self.baseline / self.ours if self.ours else None
        return self.ours / self.baseline

    @property
    def verdict(self) -> Verdict:
        """Say whether the bound was kept."""
        if self.bound is None:
            return ""
        judged = self.ours if self.bound.kind == "within" else self.ratio
        if judged is None:
            return "not measured"
        kept = (
            judged >= self.bound.limit
            if self.bound.kind == "at_least"
            else (judged <= self.bound.limit)
        )
        return "ok" if kept else "missed"

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        return (
            self.name,
            amount(self.ours, self.unit),
            self.against,
            amount(self.baseline, self.unit) if self.against else "",
            _ratio_text(self),
            _bound_text(self),
            self.verdict,
        )


@dataclass(frozen=True, slots=True)
class Grid:
    """Figures side by side: a column for each size, or whatever `columns` names."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, tuple[float | None, ...]], ...]
    unit: Unit = "ns"


@dataclass(frozen=True, slots=True)
class Section:
    """What one group measured."""

    name: str
    rows: tuple[Row, ...]
    grids: tuple[Grid, ...] = ()
    notes: tuple[str, ...] = ()
    controls: tuple[float, ...] = ()
    """What the control measure said each time it was taken, in nanoseconds a step."""


ROW_HEADINGS = ("what", "ours", "against", "baseline", "ratio", "must be", "verdict")


def amount(figure: float | None, unit: Unit) -> str:
    """Write a figure with the unit that keeps it short.

    >>> amount(1_234_567, "ns")
    '1.23 ms'
    """
    if figure is None:
        return "not measured"
    for scale, name in _SCALES[unit]:
        if abs(figure) >= scale:
            return f"{_short(figure / scale)} {name}"
    return _short(figure) if unit == "n" else f"{_short(figure)} {unit}"


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _ratio_text(row: Row) -> str:
    if row.ratio is None:
        return ""
    faster = row.bound is not None and row.bound.kind == "at_least"
    return f"{_short(row.ratio)} times {'better' if faster else 'the cost'}"


def _bound_text(row: Row) -> str:
    if row.bound is None:
        return ""
    if row.bound.kind == "within":
        return f"≤ {amount(row.bound.limit, row.unit)}"
    return str(row.bound)


def table_of_rows(sections: Iterable[Section]) -> str:
    """Return every row of every section as one Markdown table."""
    return markdown(ROW_HEADINGS, [row.cells() for part in sections for row in part.rows])


def table_of_grid(grid: Grid) -> str:
    """Return a grid as a Markdown table with its title."""
    lines = [(name, *(amount(it, grid.unit) for it in figures)) for name, figures in grid.lines]
    return f"**{grid.title}**\n\n" + markdown(("", *grid.columns), lines)


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table that is aligned for the terminal too."""
    widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
    ruler = ["-" * width for width in widths]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in (headings, ruler, *lines)
    )
