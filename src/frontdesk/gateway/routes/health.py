"""Health, readiness and the agent card: what everybody may ask without a key."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from frontdesk import __version__
from frontdesk.gateway.dependencies import InGateway, encoded
from frontdesk.gateway.openapi import answers
from frontdesk.gateway.problems import problem_of
from frontdesk.gateway.schemas import Health, Readiness
from frontdesk.sessions.errors import Draining

router = APIRouter(tags=["health"])

HEALTHY = {
    "status": "ok",
    "version": "0.1.0",
    "sessions": {"active": 3},
    "meter": {"tracked_keys": 2},
    "timestamp": "2026-11-22T09:30:00.000Z",
}


@router.get(
    "/healthz",
    responses={200: {"model": Health, "content": {"application/json": {"example": HEALTHY}}}},
)
async def healthz(gateway: InGateway) -> Response:
    """Say that the server lives, and how much there is to do."""
    timestamp = datetime.now(UTC).isoformat(timespec="milliseconds")
    return encoded(
        {
            "status": "ok",
            "version": __version__,
            "sessions": {"active": gateway.store.count() if gateway.open else 0},
            "meter": {"tracked_keys": gateway.meter.tracked_keys if gateway.open else 0},
            "timestamp": timestamp.replace("+00:00", "Z"),
        }
    )


@router.get("/readyz", responses=answers(200, Readiness, {"status": "ready"}))
async def readyz(gateway: InGateway) -> Response:
    """Say whether new work is taken: 503 while starting or draining."""
    if not gateway.ready:
        return problem_of(Draining()).response
    return encoded({"status": "ready"})


@router.get(
    "/.well-known/agent.json", response_model=None, responses={200: {"description": "the card"}}
)
async def agent_card(request: Request) -> Response:
    """Describe this server to other agents."""
    return encoded(
        {
            "name": "Frontdesk",
            "description": "Sessions with AI agents over HTTP, server-sent events and WebSocket.",
            "version": __version__,
            "url": str(request.base_url).rstrip("/") + "/v1",
            "documentationUrl": str(request.base_url).rstrip("/") + "/docs",
            "capabilities": {"streaming": True, "pushNotifications": False},
            "defaultInputModes": ["text/plain"],
            "defaultOutputModes": ["text/plain"],
            "authentication": {"schemes": ["apiKey", "bearer"]},
            "skills": [],
        }
    )
