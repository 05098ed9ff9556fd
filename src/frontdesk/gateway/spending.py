"""What was used in this day and this month, by tenant and by key: what budgets go by.

Beside the meter, which tells it of everything that it counts, and fills it from its file at the
start. Days and months are those of UTC. A clock that is set back begins no day again.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from typing import Literal

from frontdesk.agents.records import NO_USAGE, TokenUsage

Period = Literal["day", "month"]
PERIODS: tuple[Period, ...] = ("day", "month")

EPOCH = date(1970, 1, 1).toordinal()


def date_of(day: int) -> date:
    """Return a day of the meter as a date."""
    return date.fromordinal(EPOCH + day)


def day_of(when: date) -> int:
    """Return a date as the meter numbers it."""
    return when.toordinal() - EPOCH


def first_day(day: int, period: Period) -> int:
    """Return the day on which the period of a day began."""
    return day if period == "day" else day_of(date_of(day).replace(day=1))


def next_first_day(day: int, period: Period) -> int:
    """Return the day on which the period after that of a day begins."""
    if period == "day":
        return day + 1
    # Every month has 28 days, and none has 32.
    return first_day(first_day(day, "month") + 31, "month")


class Spending:
    """Sum what is used. Not for two threads at a time: its meter sees to that."""

    __slots__ = ("_day", "_sums")

    def __init__(self) -> None:
        self._day = 0
        self._sums: dict[Period, defaultdict[tuple[str, str | None], TokenUsage]] = {
            period: defaultdict(TokenUsage) for period in PERIODS
        }

    def add(self, day: int, tenant_id: str, api_key: str, tokens: TokenUsage) -> None:
        """Count what was used on a day, where its period is not over."""
        self._follow(day)
        for period, sums in self._sums.items():
            if day >= first_day(self._day, period):
                sums[tenant_id, None] += tokens
                sums[tenant_id, api_key] += tokens

    def of(self, day: int, tenant_id: str, api_key: str | None, *, period: Period) -> TokenUsage:
        """Return what a tenant, or one of its keys, has used in the period of a day."""
        self._follow(day)
        return self._sums[period].get((tenant_id, api_key), NO_USAGE)

    def all(self, day: int, *, period: Period) -> dict[tuple[str, str | None], TokenUsage]:
        """Return what each tenant (key None), and each of its keys, used in the period of a day."""
        self._follow(day)
        return dict(self._sums[period])

    def _follow(self, day: int) -> None:
        if day <= self._day:
            return
        for period, sums in self._sums.items():
            if first_day(day, period) > first_day(self._day, period):
                sums.clear()
        self._day = day
