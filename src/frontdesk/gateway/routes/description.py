"""The API description, for programs and for people. Neither needs a key, nor a network beyond this.

They describe all the others and not themselves.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from frontdesk.gateway.dependencies import GatewayRoute, location_of
from frontdesk.gateway.docs_page import POLICY, page_of

router: APIRouter = APIRouter(route_class=GatewayRoute, include_in_schema=False)


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """Return the description in the form of OpenAPI 3.1."""
    document: dict[str, Any] = request.app.openapi()
    if url := location_of(request, ""):
        document = {**document, "servers": [{"url": url}]}
    return Response(msgspec.json.encode(document), media_type="application/json")


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Return the description as a page: no script, nothing from elsewhere."""
    state = request.app.state
    if not hasattr(state, "docs_page"):
        # Made once: it takes milliseconds, and nobody needs a key to ask.
        state.docs_page = page_of(request.app.openapi())
    return Response(
        state.docs_page,
        media_type="text/html",
        headers={
            "Content-Security-Policy": POLICY,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )
