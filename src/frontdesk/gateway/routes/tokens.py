"""Session tokens: what opens one session for a while, for a browser."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.gateway.body_schemas import TokenBody
from frontdesk.gateway.callers import NO_SECRET
from frontdesk.gateway.dependencies import (
    GatewayRoute,
    InConversation,
    InGateway,
    InKey,
    encoded,
)
from frontdesk.gateway.errors import MalformedRequest
from frontdesk.gateway.openapi import answers
from frontdesk.schemas.answer_schemas import SessionToken

router: APIRouter = APIRouter(
    prefix="/v1/sessions/{sessionId}", tags=["tokens"], route_class=GatewayRoute
)

ON_SESSION = ("not_found", "session_dead")


@router.post(
    "/tokens",
    operation_id="createSessionToken",
    responses=answers(
        SessionToken(token="fds_WyJlbnY6Y2ki.GfT1", expires_at=1795339800000),  # noqa: S106
        *ON_SESSION,
    ),
)
async def create(
    body: TokenBody, conversation: InConversation, gateway: InGateway, key: InKey
) -> Response:
    """Make a token that opens this session only, with some of the caller's scopes, for a while."""
    longest = gateway.config.auth.token_ttl_s
    ttl_s = longest if body.ttl_s is None else body.ttl_s
    if ttl_s > longest:
        raise MalformedRequest(f"must be at most {longest}", field="ttlS")
    if key.forwarded and key.digest == NO_SECRET and key.signing_key is None:
        # Known where it was shown and not here: nobody would take the token.
        raise OwnerUnreachable(conversation.session_id, problem="it does not know this key")
    token, expires_at = gateway.tokens.make(
        key,
        conversation,
        scopes=body.scopes,
        expires_at=gateway.clock.wall_ms() + ttl_s * 1000,
    )
    return encoded(SessionToken(token=token, expires_at=expires_at))
