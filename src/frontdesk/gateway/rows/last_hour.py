"""What began and ended in the last hour, minute by minute, for each tenant and for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from frontdesk.clock import Clock
from frontdesk.schemas.row_schemas import Minute

MINUTE_MS = 60_000
MINUTES = 60
STARTS = ""
"""In place of a reason: it began."""


class LastHour:
    """Counts of starts and ends. Counting costs two dict operations."""

    __slots__ = ("_by_minute", "_clock")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_minute: dict[int, Counter[tuple[str, str]]] = {}

    def count(self, tenant_id: str, what: str = STARTS) -> None:
        """Count a start, or an end of this kind of reason."""
        minute = self._clock.wall_ms() // MINUTE_MS
        counts = self._by_minute.get(minute)
        if counts is None:
            counts = self._by_minute[minute] = Counter()
            for old in [each for each in self._by_minute if each <= minute - MINUTES]:
                del self._by_minute[old]
        counts[tenant_id, what] += 1

    def minutes(self, tenant_id: str | None, *, since_ms: int = 0) -> tuple[Minute, ...]:
        """Return the minutes from a moment on in which something happened; None is all tenants."""
        newest = self._clock.wall_ms() // MINUTE_MS
        return tuple(
            _minute(minute, counts, tenant_id)
            for minute, counts in sorted(self._by_minute.items())
            if minute > newest - MINUTES and (minute + 1) * MINUTE_MS > since_ms
        )


def minutes_of(sources: Iterable[Sequence[Minute]]) -> tuple[Minute, ...]:
    """Return minute by minute what began and ended on all nodes together."""
    starts: Counter[int] = Counter()
    ends: dict[int, Counter[str]] = {}
    for source in sources:
        for minute in source:
            starts[minute.at] += minute.starts
            ends.setdefault(minute.at, Counter()).update(minute.ends)
    return tuple(
        Minute(at=at, starts=starts[at], ends=dict(of_minute))
        for at, of_minute in sorted(ends.items())
    )


def _minute(minute: int, counts: Mapping[tuple[str, str], int], tenant_id: str | None) -> Minute:
    summed: Counter[str] = Counter()
    for (of_tenant, what), number in counts.items():
        if tenant_id is None or of_tenant == tenant_id:
            summed[what] += number
    starts = summed.pop(STARTS, 0)
    return Minute(at=minute * MINUTE_MS, starts=starts, ends=dict(summed))
