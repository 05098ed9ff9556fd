"""How sessions have ended: a tenant's own, and everybody's for operators."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from frontdesk.gateway.dependencies import GatewayRoute, InGateway, InKey, encoded
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.openapi import answers
from frontdesk.schemas.row_schemas import EndedSession, EndedSessions

router: APIRouter = APIRouter(route_class=GatewayRoute)

ENDS = EndedSessions(
    ends=(
        EndedSession(
            tenant_id="acme",
            session_id="support-42",
            fence="17",
            reason="signalled(SIGKILL)",
            at=1795339860000,
            age_ms=60000,
            turns=2,
            tokens=114,
            cost_usd=0.0012,
            blueprint="assistant",
            model="test",
            key_id="env:ci",
            node="desk-1/2",
            log_id="5f0c2a9e1b7d4c36",
        ),
    ),
    partial=False,
)


@router.get("/v1/ends", operation_id="listEnds", tags=["sessions"], responses=answers(ENDS))
async def ends(key: InKey, gateway: InGateway) -> Response:
    """Return how the tenant's last 1,000 sessions ended, the newest first."""
    return await _of_all_nodes(gateway, str(key.tenant_id))


@router.get("/ops/ends", operation_id="listAllEnds", tags=["operations"], responses=answers(ENDS))
async def all_ends(gateway: InGateway) -> Response:
    """Return how the last 1,000 sessions of all tenants ended, the newest first."""
    return await _of_all_nodes(gateway, None)


async def _of_all_nodes(gateway: Gateway, tenant_id: str | None) -> Response:
    if gateway.forwarding is None:
        found, partial = gateway.rows.ends.newest(tenant_id), False
    else:
        found, partial = await gateway.forwarding.last_ends(tenant_id)
    return encoded(EndedSessions(ends=tuple(found), partial=partial))
