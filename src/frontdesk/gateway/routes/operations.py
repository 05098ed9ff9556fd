"""What operators see: what runs here, and its numbers for a monitoring system.

Only operators' keys get here, and they get nowhere else.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from frontdesk import __version__
from frontdesk.agents.ids import check_tenant
from frontdesk.errors import FrontdeskError
from frontdesk.gateway.dependencies import GatewayRoute, InGateway, encoded
from frontdesk.gateway.errors import NodeNotFound
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.listed_nodes import all_listed, listed
from frontdesk.gateway.log_events import log_operator_action
from frontdesk.gateway.logs import lines_dropped
from frontdesk.gateway.openapi import answers, problems
from frontdesk.gateway.problems import problem_of
from frontdesk.gateway.request_context import context_of
from frontdesk.gateway.routes.operator_sessions import TenantInPath
from frontdesk.schemas.operator_schemas import (
    ErasedTenant,
    GatewayNumbers,
    GatewayStatus,
    ListedNode,
    ListedNodes,
)

router: APIRouter = APIRouter(tags=["operations"], route_class=GatewayRoute)

NodeInPath = Annotated[
    str,
    Path(
        alias="node",
        description="the node's name, or its incarnation, as `GET /ops/nodes` has them",
        examples=["desk-1/2"],
    ),
]
ERASED = ErasedTenant(tenant_id="acme", status="erased", conversations=12)
EXPOSITION = "text/plain; version=0.0.4"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
SUMMED = ("sessions", "streams", "stuck", "log_lines_dropped")
"""Numbers that add up over nodes; the others know the same things."""
STATUS = GatewayStatus(
    version=__version__,
    sessions=3,
    streams=2,
    stuck=0,
    keys=4,
    metered_keys=2,
    log_lines_dropped=0,
    draining=False,
)
NODES = ListedNodes(
    nodes=(
        ListedNode(
            name="desk-1/2",
            incarnation="5f0c2a9e1b7d4c365f0c2a9e1b7d4c36",
            state="alive",
            lease_left_ms=8200,
            sessions=3,
            draining=False,
            version=__version__,
            config_digest="1b7d4c365f0c2a9e",
            answering=True,
        ),
    )
)


@router.get("/ops/status", operation_id="getGatewayStatus", responses=answers(STATUS))
async def status(gateway: InGateway) -> Response:
    """Return what runs here: sessions, open streams, stuck turns, known keys.

    Of several nodes: `sessions`, `streams`, `stuck` and `log_lines_dropped` are those of all that
    answer, the rest is of the one that was asked.
    """
    numbers = msgspec.structs.asdict(numbers_here(gateway))
    if gateway.forwarding is not None:
        of_all = (await gateway.forwarding.numbers()).values()
        for name in SUMMED:
            numbers[name] = sum(getattr(each, name) for each in of_all)
    draining = not gateway.takes_sessions
    return encoded(GatewayStatus(**numbers, version=__version__, draining=draining))


@router.get("/ops/nodes", operation_id="listNodes", responses=answers(NODES))
async def nodes(gateway: InGateway) -> Response:
    """Return the nodes of the cluster: state, lease, sessions, version, configuration."""
    return encoded(ListedNodes(nodes=all_listed(gateway.node)))


@router.post(
    "/ops/nodes/{node:path}/drain",
    operation_id="drainNode",
    responses=answers(
        msgspec.structs.replace(NODES.nodes[0], draining=True), "not_found", "unavailable"
    ),
)
async def drain_node(request: Request, gateway: InGateway, named: NodeInPath) -> Response:
    """Have a node leave new sessions to others; those that it has go on, and so does the node.

    Asked again, it stays as it is. What ends the process is whoever runs it, by SIGTERM.
    """
    operator = context_of(request.scope).key
    log = partial(
        log_operator_action, key_id=None if operator is None else operator.key_id, action="drain"
    )
    try:
        if gateway.node is None or gateway.forwarding is None:
            raise NodeNotFound(named)
        status, new = await gateway.forwarding.drain(named)
    except FrontdeskError as error:
        log(target=named[:200], result=problem_of(error).refusal.error)
        raise
    log(target=status.node.name, result="ok" if new else "already")
    return encoded(msgspec.structs.replace(listed(status, gateway.node), draining=True))


@router.delete(
    "/ops/tenants/{tenant}/conversations",
    operation_id="eraseTenant",
    responses=answers(ERASED, "unavailable"),
)
async def erase_tenant(request: Request, gateway: InGateway, tenant: TenantInPath) -> Response:
    """End all sessions of a tenant, and erase what is stored of them, with the tenant's key.

    The meter stays. Asked again, it erases what has come since. Logged, with the operator's key.
    """
    operator, tenant = context_of(request.scope).key, check_tenant(tenant)
    key_id = None if operator is None else operator.key_id
    log = partial(log_operator_action, key_id=key_id, action="erase", target=tenant)
    try:
        if gateway.forwarding is None:
            erased = await gateway.service.stored.erase_tenant(tenant)
        else:
            erased = await gateway.forwarding.erase_tenant(tenant)
    except FrontdeskError as error:
        log(result=problem_of(error).refusal.error)
        raise
    log(result="ok")
    return encoded(ErasedTenant(tenant_id=tenant, status="erased", conversations=erased))


@router.get(
    "/metrics",
    operation_id="getMetrics",
    responses={
        200: {"description": "the metrics", "content": {EXPOSITION: {}, OPEN_METRICS: {}}},
        **problems(),
    },
)
async def metrics(request: Request, gateway: InGateway) -> Response:
    """Return the metrics in the text format of Prometheus, or in OpenMetrics where that is asked.

    Any worker answers for all of its service; of several machines each answers for itself.
    """
    text, media_type = await gateway.metrics.exposition(request.headers.get("accept", ""))
    return Response(text, headers={"content-type": media_type})


def numbers_here(gateway: Gateway) -> GatewayNumbers:
    """Return the numbers of this process."""
    return GatewayNumbers(
        sessions=gateway.store.count(),
        streams=len(gateway.streams),
        stuck=gateway.service.stuck,
        keys=len(gateway.ring),
        metered_keys=gateway.meter.tracked_keys,
        log_lines_dropped=lines_dropped(),
    )
