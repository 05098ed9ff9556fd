"""What clients are told of their use: the readings of the meter, by whose they are,
and where their budgets stand.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from frontdesk.schemas.answer_schemas import Answer


class MeterReading(Answer, frozen=True, kw_only=True):
    """What was used. What `unknownTurns` turns used is not among it: their agents did not say."""

    prompts: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    total_tokens: int
    cost_usd: float
    unknown_turns: int


class KeyReading(MeterReading, frozen=True, kw_only=True):
    """What a key has used."""

    key_id: str


class TenantReading(MeterReading, frozen=True, kw_only=True):
    """What all keys of a tenant have used."""

    tenant_id: str


class TenantKeyReading(MeterReading, frozen=True, kw_only=True):
    """What a key of a tenant has used, as operators see it."""

    tenant_id: str
    key_id: str


class OperatorUsage(Answer, frozen=True, kw_only=True):
    """What each key of each tenant has ever used, by tenant and key.

    `next` is what `after` continues with, null on the last page.
    """

    rows: tuple[TenantKeyReading, ...]
    next: str | None


class UsageRow(MeterReading, frozen=True, kw_only=True):
    """What was used of a tenant's, on a day, of a model, by a key: null where not summed apart."""

    day: Annotated[str | None, msgspec.Meta(description="YYYY-MM-DD, UTC")]
    model: str | None
    key_id: str | None


class BudgetReading(Answer, frozen=True, kw_only=True):
    """A budget that the calling key's prompts count for, in tokens or USD."""

    budget: str
    scope: Literal["per_tenant", "per_api_key"]
    limit: float
    used: float
    left: float
    resets_at: Annotated[int, msgspec.Meta(description="milliseconds since 1970, UTC")]


class UsageReport(Answer, frozen=True, kw_only=True):
    """What the calling key has used, and all keys of its tenant together; the budgets of both.

    `rows` are the sums that `by` asks for; `next` is what `after` continues with, null on the last
    page.
    """

    key: KeyReading
    tenant: TenantReading
    budgets: tuple[BudgetReading, ...]
    rows: tuple[UsageRow, ...]
    next: str | None
