"""Pydantic AI agents that use more of the library than the suite asks of every framework."""

import dataclasses

from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, NativeOutput, RunContext
from pydantic_ai.capabilities import ProcessHistory
from pydantic_ai.messages import NativeToolCallPart, NativeToolReturnPart
from pydantic_ai.models.function import DeltaThinkingPart, FunctionModel

from adapters.programs.pydantic_ai_agents import City, add
from frontdesk.agents import CreateFailed, TurnDeps, ask_user

MODEL = "openai-chat:small"


@dataclasses.dataclass
class Shop:
    """Deps of a team's own."""

    tenant: str
    log: list


OPENED = []


async def shop_of(turn):
    """Open a shop for a turn, and close it behind it."""
    shop = Shop(turn.session.tenant_id, [])
    OPENED.append(shop)
    yield shop
    shop.log.append("closed")


def plain_shop(turn):
    """Return a shop."""
    return Shop(f"plain {turn.session.tenant_id}", [])


async def awaited_shop(turn):
    """Return a shop, later."""
    return Shop(f"awaited {turn.session.tenant_id}", [])


keeper_of_a_shop = Agent(MODEL, deps_type=Shop, instructions=lambda ctx: f"Of {ctx.deps.tenant}.")


@keeper_of_a_shop.tool
def whose(ctx: RunContext[Shop]) -> str:
    """Say whose shop this is."""
    ctx.deps.log.append("asked")
    return ctx.deps.tenant


asks = Agent(MODEL, deps_type=TurnDeps, tools=[ask_user])

prompted = Agent(MODEL, system_prompt="You are old.", instructions="Be brief.", tools=[add])


def last_two(messages):
    """Keep the last two messages."""
    return messages[-2:]


forgetful = Agent(MODEL, capabilities=[ProcessHistory(last_two)])

native = Agent(MODEL, output_type=NativeOutput(City))

either = Agent(MODEL, output_type=[str, City])


async def shouted(text: str) -> str:
    """Return the answer in capitals."""
    return text.upper()


strict = Agent(MODEL, output_type=City, retries=2)


@strict.output_validator
def inhabited(city: City) -> City:
    """Refuse a city without people, and tell the model."""
    if not city.population:
        raise ModelRetry("nobody lives there")
    return city


async def searching(messages, info):
    """Think, search by the provider's own tool, and answer."""
    yield {0: DeltaThinkingPart(content="where was it")}
    yield {1: NativeToolCallPart("web_search", {"query": "bern"}, tool_call_id="n1")}
    yield {2: NativeToolReturnPart("web_search", {"found": 3}, tool_call_id="n1")}
    yield "found it"


searcher = Agent(FunctionModel(stream_function=searching))

without_model = Agent()


def made_for(context):
    """Return an agent of this session's tenant."""
    if context.user_data == "refuse":
        raise CreateFailed("this customer has no agent")
    if context.user_data == "fail":
        raise KeyError("not for clients")
    if context.user_data == "nothing":
        return None
    return Agent(MODEL, instructions=f"For {context.tenant_id}.")


class NotAnAgent(BaseModel):
    """Something else."""


nothing = 42


def made_for_all():
    """Return an agent that is the same for everybody."""
    return Agent(MODEL, instructions="For all.")
