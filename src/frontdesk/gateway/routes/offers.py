"""What a caller may open: the blueprints, and the models that they answer with."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from frontdesk.gateway.dependencies import GatewayRoute, InGateway, InKey, encoded
from frontdesk.gateway.openapi import answers
from frontdesk.schemas.answer_schemas import BlueprintList, BlueprintOffer, ModelList, ModelOffer

router: APIRouter = APIRouter(prefix="/v1", tags=["blueprints"], route_class=GatewayRoute)

OFFER = BlueprintOffer(
    name="assistant",
    kind="pydantic-ai",
    isolation="task",
    default=True,
    models=("anthropic:*", "test"),
    options=("maxTokens", "maxTurns", "systemPrompt", "tools", "userData"),
    tools=("ask_user", "lookup_order"),
    plugins=(),
    attachments=("image/*", "text/*"),
    agent_options=(),
)
MODELS = ModelList(
    models=(
        ModelOffer(model="anthropic:*", pattern=True, blueprints=("assistant",)),
        ModelOffer(model="test", pattern=False, blueprints=("assistant",)),
    )
)


@router.get(
    "/blueprints",
    operation_id="listBlueprints",
    responses=answers(BlueprintList(blueprints=(OFFER,))),
)
async def blueprints(gateway: InGateway, _: InKey) -> Response:
    """Return the blueprints that sessions can be opened from, in the operator's order."""
    default = gateway.known.default
    offers = [
        BlueprintOffer.of(each, default=each.name == default) for each in await gateway.known.all()
    ]
    return encoded(BlueprintList(blueprints=tuple(offers)))


@router.get("/models", operation_id="listModels", responses=answers(MODELS))
async def models(gateway: InGateway, _: InKey) -> Response:
    """Return the models that can be asked for, and of which blueprints; some are patterns."""
    by_model: dict[str, list[str]] = {}
    for blueprint in await gateway.known.all():
        for model in blueprint.models:
            by_model.setdefault(model, []).append(blueprint.name)
    offers = [ModelOffer.of(model, tuple(names)) for model, names in by_model.items()]
    return encoded(ModelList(models=tuple(offers)))
