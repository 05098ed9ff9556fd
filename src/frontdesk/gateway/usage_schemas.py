"""What clients are told of their use: the readings of the meter, by whose they are.

Beside the other answers, above the meter.
"""

from __future__ import annotations

from typing import Any, Self

from frontdesk.gateway.answer_schemas import Answer
from frontdesk.gateway.metering import MeteredUsage


class MeterReading(Answer, frozen=True, kw_only=True):
    """What was used."""

    prompts: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    total_tokens: int
    cost_usd: float

    @classmethod
    def of(cls, used: MeteredUsage, **owner: Any) -> Self:
        return cls(
            prompts=used.prompts,
            prompt_tokens=used.tokens.prompt,
            completion_tokens=used.tokens.completion,
            cached_tokens=used.tokens.cached,
            total_tokens=used.tokens.total,
            cost_usd=used.tokens.cost_usd,
            **owner,
        )


class KeyReading(MeterReading, frozen=True, kw_only=True):
    """What a key has used."""

    key_id: str


class TenantReading(MeterReading, frozen=True, kw_only=True):
    """What all keys of a tenant have used."""

    tenant_id: str


class UsageReport(Answer, frozen=True, kw_only=True):
    """What the calling key has used, and all keys of its tenant together."""

    key: KeyReading
    tenant: TenantReading
