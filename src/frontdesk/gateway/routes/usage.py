"""Usage: what the calling key has used, and its tenant."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from frontdesk.gateway.dependencies import InGateway, InKey, encoded
from frontdesk.gateway.metering import MeteredUsage
from frontdesk.gateway.openapi import answers
from frontdesk.gateway.schemas import UsageAnswer

router = APIRouter(prefix="/v1/usage", tags=["usage"])

READING = {
    "prompts": 1,
    "promptTokens": 51,
    "completionTokens": 6,
    "cachedTokens": 0,
    "totalTokens": 57,
    "costUsd": 0.0,
}


@router.get(
    "",
    responses=answers(
        200,
        UsageAnswer,
        {"key": {"keyId": "env:ci", **READING}, "tenant": {"tenantId": "acme", **READING}},
    ),
)
async def usage(key: InKey, gateway: InGateway) -> Response:
    """Return the meters of the calling key and of its tenant."""
    tenant_id = str(key.tenant_id)
    of_key = gateway.meter.of_key(tenant_id, key.key_id)
    of_tenant = gateway.meter.of_tenant(tenant_id)
    return encoded(
        {
            "key": {"keyId": key.key_id, **_shown(of_key)},
            "tenant": {"tenantId": tenant_id, **_shown(of_tenant)},
        }
    )


def _shown(used: MeteredUsage) -> dict[str, Any]:
    tokens = used.tokens
    return {
        "prompts": used.prompts,
        "promptTokens": tokens.prompt,
        "completionTokens": tokens.completion,
        "cachedTokens": tokens.cached,
        "totalTokens": tokens.total,
        "costUsd": tokens.cost_usd,
    }
