"""What operators see: what runs here, and its numbers for a monitoring system.

Only operators' keys get here, and they get nowhere else.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from frontdesk import Session, __version__
from frontdesk.agents.ids import split
from frontdesk.gateway.dependencies import InGateway, encoded
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.openapi import problems

router = APIRouter(tags=["operations"])

EXPOSITION = "text/plain; version=0.0.4"


@router.get("/ops/status", responses={200: {"description": "what runs here"}, **problems()})
async def status(gateway: InGateway) -> Response:
    """Return what runs here: sessions, open streams, stuck turns, known keys."""
    return encoded({"version": __version__, "draining": gateway.draining, **_numbers(gateway)})


@router.get("/ops/sessions", responses={200: {"description": "all sessions"}, **problems()})
async def sessions(gateway: InGateway) -> Response:
    """Return every live session with the process that its agent runs in, oldest first."""
    return encoded({"sessions": [_shown(each) for each in gateway.store.list()]})


def _shown(session: Session) -> dict[str, Any]:
    tenant_id, session_id = split(session.session_id)
    return {
        "tenantId": tenant_id,
        "sessionId": session_id,
        "keyId": session.api_key,
        "blueprint": session.blueprint,
        "model": session.model,
        "pid": session.pid,
        "createdAt": session.created_at,
    }


@router.get(
    "/metrics",
    responses={200: {"description": "the numbers", "content": {EXPOSITION: {}}}, **problems()},
)
async def metrics(gateway: InGateway) -> Response:
    """Return the numbers in the text format that Prometheus reads."""
    lines = [
        line
        for name, value in _numbers(gateway).items()
        for line in (f"# TYPE frontdesk_{name} gauge", f"frontdesk_{name} {value}")
    ]
    return PlainTextResponse("\n".join(lines) + "\n", media_type=EXPOSITION)


def _numbers(gateway: Gateway) -> dict[str, Any]:
    return {
        "sessions": gateway.store.count(),
        "streams": len(gateway.streams),
        "stuck": gateway.service.stuck,
        "keys": len(gateway.ring),
        "metered_keys": gateway.meter.tracked_keys,
    }
