"""Usage: what the calling key and its tenant have used, and what their budgets leave them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from frontdesk.agents.records import TokenUsage
from frontdesk.errors import InvalidArgument
from frontdesk.gateway import urlsafe_text
from frontdesk.gateway.budgets import Budget
from frontdesk.gateway.dependencies import GatewayRoute, InGateway, InKey, encoded
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.openapi import answers
from frontdesk.gateway.queries import InMeterQuery, MeterQuery
from frontdesk.gateway.spending import day_of
from frontdesk.gateway.usage_readings import budget_reading, reading_of, row_of
from frontdesk.gateway.usage_table import NOTHING, MeteredUsage, UsageQuery
from frontdesk.schemas.usage_schemas import (
    KeyReading,
    TenantReading,
    UsageReport,
    UsageRow,
)

router: APIRouter = APIRouter(prefix="/v1/usage", tags=["usage"], route_class=GatewayRoute)

USED = MeteredUsage(prompts=1, tokens=TokenUsage(prompt=51, completion=6))
EXAMPLE = UsageReport(
    key=reading_of(KeyReading, USED, key_id="env:ci"),
    tenant=reading_of(TenantReading, USED, tenant_id="acme"),
    budgets=(
        budget_reading(
            Budget(
                name="tokens_per_day",
                scope="per_tenant",
                limit=1_000_000,
                used=57,
                resets_at_ms=1795392000000,
            )
        ),
    ),
    rows=(reading_of(UsageRow, USED, day="2026-11-22", model="test", key_id=None),),
    next=None,
)

CURSORS: dict[str, type[int] | type[str]] = {"day": int, "model": str, "key": str}


@router.get("", operation_id="getUsage", responses=answers(EXAMPLE))
async def usage(key: InKey, gateway: InGateway, query: InMeterQuery) -> Response:
    """Return the meters of the calling key and of its tenant, and their budgets.

    With `from` and `to`, of these days alone. `by` adds the tenant's sums by day, model or key.
    """
    tenant_id, by = str(key.tenant_id), tuple(dict.fromkeys(query.by or ()))
    asked = UsageQuery(
        tenant_id=tenant_id,
        by=by,
        first_day=0 if query.first is None else day_of(date.fromisoformat(query.first)),
        last_day=2**31 if query.last is None else day_of(date.fromisoformat(query.last)),
        after=cursor_of(query),
        limit=query.limit + 1,
    )
    found = await gateway.usage.sums(asked) if by else []
    of_key, of_tenant = await readings(gateway, asked, key.key_id, ever=query.ever)
    page, more = found[: query.limit], len(found) > query.limit
    budgets = gateway.budgets.of(tenant_id, key.key_id)
    return encoded(
        UsageReport(
            key=reading_of(KeyReading, of_key, key_id=key.key_id),
            tenant=reading_of(TenantReading, of_tenant, tenant_id=tenant_id),
            budgets=tuple(map(budget_reading, budgets)),
            rows=tuple(row_of(asked, each) for each in page),
            next=cursor(page[-1][0]) if more else None,
        )
    )


async def readings(
    gateway: Gateway, asked: UsageQuery, key_id: str, *, ever: bool
) -> tuple[MeteredUsage, MeteredUsage]:
    """Return what a key and its tenant have used: ever, or on the days that are asked for."""
    meter, tenant_id = gateway.usage, asked.tenant_id
    if ever:
        return meter.of_key(tenant_id, key_id), meter.of_tenant(tenant_id)
    days = replace(asked, by=(), after=None, limit=1)
    found = [await meter.sums(replace(days, api_key=each)) for each in (key_id, None)]
    of_key, of_tenant = [sums[0][1] if sums else NOTHING for sums in found]
    return of_key, of_tenant


def cursor(group: tuple[Any, ...]) -> str:
    """Return what continues a list after a group."""
    return urlsafe_text.encoded(msgspec.json.encode(group))


def cursor_of(query: MeterQuery) -> tuple[Any, ...] | None:
    """Return the group that a list continues after; `InvalidArgument` for what is no cursor."""
    if query.after is None:
        return None
    kinds = [CURSORS[each] for each in dict.fromkeys(query.by or ())]
    try:
        group = msgspec.json.decode(urlsafe_text.decoded(query.after))
        if list(map(type, group)) == kinds and kinds:
            return tuple(group)
    except (ValueError, TypeError):
        pass
    raise InvalidArgument("after", expected="a cursor from `next`", got=repr(query.after[:40]))
