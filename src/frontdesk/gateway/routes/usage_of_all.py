"""Usage as operators see it: what each key of each tenant has used."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from frontdesk.errors import InvalidArgument
from frontdesk.gateway import urlsafe_text
from frontdesk.gateway.dependencies import GatewayRoute, InGateway, encoded
from frontdesk.gateway.openapi import answers
from frontdesk.gateway.queries import InPage
from frontdesk.gateway.routes.usage import USED
from frontdesk.gateway.usage_readings import reading_of
from frontdesk.schemas.usage_schemas import OperatorUsage, TenantKeyReading

router: APIRouter = APIRouter(tags=["operations"], route_class=GatewayRoute)

EXAMPLE = OperatorUsage(
    rows=(reading_of(TenantKeyReading, USED, tenant_id="acme", key_id="env:ci"),), next=None
)


@router.get("/ops/usage", operation_id="getUsageOfAll", responses=answers(EXAMPLE))
async def usage_of_all(gateway: InGateway, query: InPage) -> Response:
    """Return what each key of each tenant has ever used, in the order of tenants and keys.

    Of several nodes: what was counted on all of them.
    """
    known = sorted(gateway.usage.totals().items())
    if query.after is not None:
        after = owner_in(query.after)
        known = [(owner, used) for owner, used in known if owner > after]
    page = known[: query.limit]
    rows = tuple(
        reading_of(TenantKeyReading, used, tenant_id=owner.tenant_id, key_id=owner.api_key)
        for owner, used in page
    )
    last = urlsafe_text.encoded(msgspec.json.encode(tuple(page[-1][0]))) if page else None
    return encoded(OperatorUsage(rows=rows, next=last if len(known) > len(page) else None))


def owner_in(cursor: str) -> tuple[str, str]:
    """Return whose row a list continues after; `InvalidArgument` for what is no cursor."""
    try:
        return msgspec.json.decode(urlsafe_text.decoded(cursor), type=tuple[str, str])
    except ValueError:
        raise InvalidArgument(
            "after", expected="a cursor from `next`", got=repr(cursor[:40])
        ) from None
