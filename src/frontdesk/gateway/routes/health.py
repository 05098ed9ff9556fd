"""Health, readiness and the agent card: what everybody may ask without a key."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from frontdesk import __version__
from frontdesk.gateway.dependencies import GatewayRoute, InGateway, encoded
from frontdesk.gateway.errors import MalformedRequest
from frontdesk.gateway.openapi import answer, answers
from frontdesk.gateway.operator_schemas import (
    ActiveSessions,
    AgentAuthentication,
    AgentCapabilities,
    AgentCard,
    Health,
    MeterState,
    Readiness,
)
from frontdesk.gateway.problems import problem_of
from frontdesk.gateway.request_context import context_of
from frontdesk.sessions.errors import Draining

router: APIRouter = APIRouter(tags=["health"], route_class=GatewayRoute)

HEALTHY = Health(
    status="ok",
    version=__version__,
    sessions=ActiveSessions(active=3),
    meter=MeterState(tracked_keys=2),
    timestamp="2026-11-22T09:30:00.000Z",
)
READY = Readiness(status="ready")
CARD = AgentCard(
    name="Frontdesk",
    description="Sessions with AI agents over HTTP, server-sent events and WebSocket.",
    version=__version__,
    url="https://agents.example.com/v1",
    documentation_url="https://agents.example.com/docs",
    capabilities=AgentCapabilities(streaming=True, push_notifications=False),
    default_input_modes=("text/plain",),
    default_output_modes=("text/plain",),
    authentication=AgentAuthentication(schemes=("apiKey", "bearer")),
    skills=(),
)


@router.get("/healthz", operation_id="getHealth", responses={200: answer(HEALTHY)})
async def healthz(request: Request, gateway: InGateway) -> Response:
    """Say that the server lives, and how many sessions and keys in use the asking tenant has.

    Whoever shows no key gets no numbers, but zeros: they are nobody else's business.
    """
    active = tracked = 0
    if gateway.open:
        tenant_id = gateway.authenticator.tenant_of(context_of(request.scope))
        if tenant_id is not None:
            active = gateway.store.count_by_tenant(tenant_id)
            tracked = gateway.meter.tracked_keys_of(tenant_id)
    timestamp = datetime.now(UTC).isoformat(timespec="milliseconds")
    return encoded(
        Health(
            status="ok",
            version=__version__,
            sessions=ActiveSessions(active=active),
            meter=MeterState(tracked_keys=tracked),
            timestamp=timestamp.replace("+00:00", "Z"),
        )
    )


@router.get("/readyz", operation_id="getReadiness", responses=answers(READY))
async def readyz(gateway: InGateway) -> Response:
    """Say whether new work is taken: 503 while starting or draining."""
    if not gateway.ready:
        return problem_of(Draining()).response
    return encoded(READY)


@router.get("/.well-known/agent.json", operation_id="getAgentCard", responses={200: answer(CARD)})
async def agent_card(request: Request, gateway: InGateway) -> Response:
    """Describe this server to other agents."""
    url = gateway.base_url(request.scope)
    if url is None:
        raise MalformedRequest("the header Host cannot be read")
    return encoded(replace(CARD, url=url + "/v1", documentation_url=url + "/docs"))
