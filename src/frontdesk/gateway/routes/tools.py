"""Callback tools of a session: attach one, detach one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from frontdesk.agents.records import CallbackTool
from frontdesk.gateway.body_schemas import ToolBody
from frontdesk.gateway.dependencies import (
    GatewayRoute,
    InConversation,
    InGateway,
    InKey,
    encoded,
    location_of,
)
from frontdesk.gateway.openapi import answers
from frontdesk.schemas.answer_schemas import AttachedTool, DetachedTool

router: APIRouter = APIRouter(
    prefix="/v1/sessions/{sessionId}/tools", tags=["tools"], route_class=GatewayRoute
)

ON_SESSION = ("not_found", "session_dead", "not_resumable")


@router.post(
    "",
    operation_id="attachTool",
    status_code=201,
    responses=answers(
        AttachedTool(name="lookup_order", status="attached"),
        *ON_SESSION,
        "registration_failed",
        status=201,
    ),
)
async def attach(
    request: Request, body: ToolBody, conversation: InConversation, gateway: InGateway, key: InKey
) -> Response:
    """Attach a tool that the gateway runs by posting to its URL."""
    await gateway.callbacks.guard.target(body.callback_url, tenant_id=conversation.tenant_id)
    tool = CallbackTool(
        name=body.name,
        callback_url=body.callback_url,
        description=body.description,
        parameters=body.parameters,
        timeout_ms=body.timeout_ms,
    )
    conversation.attach_tool(tool, api_key=key.key_id)
    place = f"/v1/sessions/{conversation.session_id}/tools/{body.name}"
    return encoded(
        AttachedTool(name=body.name, status="attached"),
        status=201,
        location=location_of(request, place),
    )


@router.delete(
    "/{name}",
    operation_id="detachTool",
    responses=answers(DetachedTool(name="lookup_order", status="detached"), *ON_SESSION),
)
async def detach(
    conversation: InConversation, name: Annotated[str, Path(examples=["lookup_order"])]
) -> Response:
    """Take a tool from the session."""
    conversation.detach_tool(name)
    return encoded(DetachedTool(name=name, status="detached"))
