"""Counters, gauges and histograms of one process: what counts adds to them.

Above the cells. Each knows the cell of every combination of labels that it has met, so that
counting is a lookup and an addition. Where there is no room for a further combination, it is
counted as that of which every label is `_other`.
"""

from __future__ import annotations

from bisect import bisect_left

from frontdesk.gateway.metrics.bounded_labels import OTHER
from frontdesk.gateway.metrics.definitions import METRICS, MetricDefinition
from frontdesk.gateway.metrics.metric_cells import MetricCells, SeriesKey

SINGLE, TOTAL = "", "sum"
"""What the cell of a counter or gauge is called, and that of a histogram's sum."""


class _Instrument:
    __slots__ = ("_cells", "_definition", "_known", "_parts", "_values")

    def __init__(self, name: str, cells: MetricCells, *, parts: tuple[str, ...]) -> None:
        self._definition: MetricDefinition = METRICS[name]
        self._cells, self._values, self._parts = cells, cells.values, parts
        self._known: dict[tuple[str, ...], int | None] = {}
        if not self._definition.labels:
            # It is there from the beginning, as 0: what is derived from it has a value.
            self._find(())

    def _find(self, labels: tuple[str, ...]) -> int | None:
        assert len(labels) == len(self._definition.labels), self._definition.name
        found = self._cells.cells(*self._keys(labels))
        if found is None:
            rest = (OTHER,) * len(labels)
            found = self._cells.cells(*self._keys(rest), reserved=True)
            if len(self._known) > self._MAX_FORGOTTEN:
                return found
        self._known[labels] = found
        return found

    _MAX_FORGOTTEN = 100_000
    """So many combinations are remembered at most, those without a cell of their own included."""

    def _keys(self, labels: tuple[str, ...]) -> list[SeriesKey]:
        return [(self._definition.name, part, *labels) for part in self._parts]


class Tally(_Instrument):
    """A counter, or a gauge that is kept by what comes and goes."""

    __slots__ = ()

    def __init__(self, name: str, cells: MetricCells) -> None:
        super().__init__(name, cells, parts=(SINGLE,))

    def add(self, *labels: str, amount: float = 1.0) -> None:
        """Add to the number of these labels."""
        cell = self._known.get(labels)
        if cell is None:
            cell = self._find(labels)
        if cell is not None:
            self._values[cell] += amount

    def cell(self, *labels: str) -> int:
        """Return which cell the number of these labels is; there has to be room for it."""
        cell = self._find(labels)
        assert cell is not None, "there is no room for a number that is always there"
        return cell

    def begin(self, *labels: str) -> None:
        """Have the number of these labels be there as 0: a first one then shows as an increase."""
        self.add(*labels, amount=0.0)

    def set(self, *labels: str, value: float) -> None:
        """Make it this number."""
        cell = self._known.get(labels)
        if cell is None:
            cell = self._find(labels)
        if cell is not None:
            self._values[cell] = value


class Distribution(_Instrument):
    """A histogram of seconds."""

    __slots__ = ("_bounds",)

    def __init__(self, name: str, cells: MetricCells) -> None:
        self._bounds: tuple[float, ...] = METRICS[name].buckets
        bounds = [*(f"{each:g}" for each in self._bounds), "+Inf"]
        super().__init__(name, cells, parts=(*bounds, TOTAL))

    def observe(self, seconds: float, *labels: str) -> None:
        """Count one that took so long."""
        cell = self._known.get(labels)
        if cell is None:
            cell = self._find(labels)
        if cell is not None:
            self._values[cell + bisect_left(self._bounds, seconds)] += 1.0
            self._values[cell + len(self._bounds) + 1] += seconds
