"""What all workers have counted, as the one text that a scrape gets.

Counters and histograms are the sums over all processes that ever counted here, dead ones included;
gauges are those of processes that live. The text is written by prometheus-client, in the form that
the scraper asks for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import fsum
from typing import TYPE_CHECKING

from frontdesk.gateway.metrics.definitions import (
    METRICS,
    Merging,
    MetricDefinition,
    MetricKind,
)
from frontdesk.gateway.metrics.instruments import TOTAL
from frontdesk.gateway.metrics.metric_cells import CountedCells, SeriesKey

if TYPE_CHECKING:
    from prometheus_client.core import Metric

Labels = tuple[str, ...]
Merged = dict[str, dict[Labels, dict[str, float]]]
"""By the metric's name and its labels: what each of its cells is."""


def merged(processes: Iterable[CountedCells]) -> Merged:
    """Return the numbers of several processes as one.

    Whoever adds them up gets the same: rounding by order would have counters fall by a hair from
    one worker's answer to the next, which scrapers take for a restart.
    """
    found: defaultdict[SeriesKey, list[float]] = defaultdict(list)
    for process in processes:
        for key, value in process.values.items():
            definition = METRICS.get(key[0])  # another version of Frontdesk may have counted it
            if definition is not None and (process.alive or not definition.is_gauge):
                found[key].append(value)
    numbers: Merged = {name: defaultdict(dict) for name in METRICS}
    for (name, part, *labels), values in found.items():
        greatest = METRICS[name].merging is Merging.GREATEST
        numbers[name][tuple(labels)][part] = max(values) if greatest else fsum(values)
    return numbers


def exposed(processes: Iterable[CountedCells], *, accept: str) -> tuple[bytes, str]:
    """Return the text of a scrape and its media type, as the scraper accepts it."""
    # Late: it costs a start of the gateway a hundredth of a second, and is needed by scrapes only.
    from prometheus_client.core import Metric
    from prometheus_client.exposition import choose_encoder

    families: list[Metric] = []
    for name, series in merged(processes).items():
        definition = METRICS[name]
        # As the format has it: the samples of a counter end in `_total`, its name does not.
        family = Metric(name.removesuffix("_total"), definition.meaning, definition.kind.value)
        for labels, cells in sorted(series.items()):
            named = dict(zip(definition.labels, labels, strict=True))
            for suffix, more, value in _samples(definition, cells):
                family.add_sample(family.name + suffix, {**named, **more}, value)
        families.append(family)
    encode, media_type = choose_encoder(accept)
    return encode(_Families(families)), media_type


class _Families:
    """What prometheus-client takes for a collector."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _samples(
    definition: MetricDefinition, cells: dict[str, float]
) -> Iterable[tuple[str, dict[str, str], float]]:
    if definition.kind is not MetricKind.HISTOGRAM:
        yield "_total" if definition.kind is MetricKind.COUNTER else "", {}, sum(cells.values())
        return
    count = 0.0
    for bound in sorted(cells.keys() - {TOTAL}, key=float):
        # Of each cell its own; cumulative only here, so that no scrape sees half an observation.
        count += cells[bound]
        yield "_bucket", {"le": bound}, count
    yield "_count", {}, count
    yield "_sum", {}, cells[TOTAL]
