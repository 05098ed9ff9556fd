"""Health, readiness and the agent card: what everybody may ask without a key."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastapi import APIRouter
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from frontdesk import __version__
from frontdesk.errors import FrontdeskError
from frontdesk.gateway.dependencies import GatewayRoute, InGateway, encoded
from frontdesk.gateway.errors import MalformedRequest
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.openapi import answer, answers
from frontdesk.gateway.problems import problem_of
from frontdesk.gateway.request_context import context_of
from frontdesk.schemas.operator_schemas import (
    ActiveSessions,
    AgentAuthentication,
    AgentCapabilities,
    AgentCard,
    ClusterHealth,
    Health,
    MeterState,
    NodesByState,
    Readiness,
    StorageHealth,
)
from frontdesk.sessions.errors import Draining

if TYPE_CHECKING:
    # Late: without a cluster, nothing of it is imported.
    from frontdesk.cluster.node import Node

router: APIRouter = APIRouter(tags=["health"], route_class=GatewayRoute)

COUNT_S = 0.05
"""How long the number of sessions on all nodes is waited for: who asks may have little time."""

HEALTHY = Health(
    status="ok",
    version=__version__,
    sessions=ActiveSessions(active=3),
    meter=MeterState(tracked_keys=2),
    timestamp="2026-11-22T09:30:00.000Z",
    cluster=ClusterHealth(
        node="desk-1/2",
        condition="joined",
        engine="supervisor",
        nodes=NodesByState(alive=4, stalled=0, suspect=0, leaving=0),
        config_differs=(),
    ),
    storage=StorageHealth(store="sqlite", available=True),
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
            active = await active_sessions(gateway, tenant_id)
            tracked = gateway.usage.tracked_keys_of(tenant_id)
    timestamp = datetime.now(UTC).isoformat(timespec="milliseconds")
    return encoded(
        Health(
            status="ok",
            version=__version__,
            sessions=ActiveSessions(active=active),
            meter=MeterState(tracked_keys=tracked),
            timestamp=timestamp.replace("+00:00", "Z"),
            cluster=None if gateway.node is None else cluster_health(gateway.node),
            storage=gateway.storage_health,
        )
    )


async def active_sessions(gateway: Gateway, tenant_id: str) -> int:
    """Return how many sessions of a tenant live: on all nodes, or here where nobody can say."""
    if gateway.node is not None:
        # Late: without a cluster, nothing of it is imported.
        from frontdesk.cluster.records import Selection

        with suppress(FrontdeskError, TimeoutError):
            async with asyncio.timeout(COUNT_S):
                return await gateway.node.count(Selection(tenant_id=tenant_id))
    return gateway.store.count_by_tenant(tenant_id)


def cluster_health(node: Node) -> ClusterHealth:
    """Return how a node stands to the others, by what it last heard of them."""
    # Late: without a cluster, nothing of it is imported.
    from frontdesk.cluster.local.engine import LocalEngine

    states = Counter(each.state.value for each in node.nodes())
    own = node.record
    return ClusterHealth(
        node=own.name,
        condition=node.condition.value,
        engine="supervisor" if isinstance(node.engine, LocalEngine) else "valkey",
        nodes=NodesByState(**{name: states[name] for name in NodesByState.__struct_fields__}),
        config_differs=tuple(
            each.node.name for each in node.nodes() if each.node.config_digest != own.config_digest
        ),
    )


@router.get("/readyz", operation_id="getReadiness", responses=answers(READY))
async def readyz(gateway: InGateway) -> Response:
    """Say whether new work is taken: 503 while starting or draining.

    A node that is cut off from its cluster, or whose storage takes nothing, says so in `/healthz`
    and stays ready: what is there can be read, and one engine or database that fails would take
    every node out of every balancer.
    """
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
