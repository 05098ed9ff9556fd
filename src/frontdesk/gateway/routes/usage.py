"""Usage: what the calling key has used, and its tenant."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from frontdesk.agents.records import TokenUsage
from frontdesk.gateway.dependencies import GatewayRoute, InGateway, InKey, encoded
from frontdesk.gateway.metering import MeteredUsage
from frontdesk.gateway.openapi import answers
from frontdesk.gateway.usage_schemas import KeyReading, TenantReading, UsageReport

router: APIRouter = APIRouter(prefix="/v1/usage", tags=["usage"], route_class=GatewayRoute)

USED = MeteredUsage(prompts=1, tokens=TokenUsage(prompt=51, completion=6))
EXAMPLE = UsageReport(
    key=KeyReading.of(USED, key_id="env:ci"), tenant=TenantReading.of(USED, tenant_id="acme")
)


@router.get("", operation_id="getUsage", responses=answers(EXAMPLE))
async def usage(key: InKey, gateway: InGateway) -> Response:
    """Return the meters of the calling key and of its tenant."""
    tenant_id = str(key.tenant_id)
    of_key = gateway.meter.of_key(tenant_id, key.key_id)
    of_tenant = gateway.meter.of_tenant(tenant_id)
    return encoded(
        UsageReport(
            key=KeyReading.of(of_key, key_id=key.key_id),
            tenant=TenantReading.of(of_tenant, tenant_id=tenant_id),
        )
    )
