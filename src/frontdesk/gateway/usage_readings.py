"""What the meter and the budgets say, as clients are told it. Between the meter and its routes."""

from __future__ import annotations

from typing import Any, TypeVar

from frontdesk.gateway.budgets import Budget
from frontdesk.gateway.spending import date_of
from frontdesk.gateway.usage_table import MeteredUsage, UsageQuery, UsageSum
from frontdesk.schemas.usage_schemas import BudgetReading, MeterReading, UsageRow

R = TypeVar("R", bound=MeterReading)


def reading_of(kind: type[R], used: MeteredUsage, **owner: Any) -> R:
    """Return what was used as a reading of a kind; `owner` are the fields that say whose it is."""
    return kind(
        prompts=used.prompts,
        prompt_tokens=used.tokens.prompt,
        completion_tokens=used.tokens.completion,
        cached_tokens=used.tokens.cached,
        total_tokens=used.tokens.total,
        cost_usd=used.tokens.cost_usd,
        unknown_turns=used.unknown_turns,
        **owner,
    )


def row_of(query: UsageQuery, found: UsageSum) -> UsageRow:
    """Return a sum of the meter as a row of the query's."""
    group, used = found
    place = dict(zip(query.by, group, strict=True))
    day = place.get("day")
    return reading_of(
        UsageRow,
        used,
        day=None if day is None else date_of(day).isoformat(),
        model=place.get("model"),
        key_id=place.get("key"),
    )


def budget_reading(budget: Budget) -> BudgetReading:
    """Return where a budget stands."""
    return BudgetReading(
        budget=budget.name,
        scope=budget.scope,
        limit=budget.limit,
        used=budget.used,
        left=budget.left,
        resets_at=budget.resets_at_ms,
    )
