"""LangGraph graphs as a team has them, made with LangChain: they know nothing of Frontdesk."""

import asyncio
from pathlib import Path

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.agents.structured_output import ProviderStrategy
from langchain.chat_models import init_chat_model
from langgraph.types import interrupt
from pydantic import BaseModel

model = init_chat_model("openai:small", configurable_fields=("model", "model_provider"))


class City(BaseModel):
    """A structured answer."""

    city: str
    population: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def broken() -> str:
    """Fail."""
    raise ValueError("not for clients")


async def stuck(path: str) -> str:
    """Never come to an end."""
    Path(f"{path}.begun").touch()
    try:
        await asyncio.Event().wait()
    finally:
        Path(f"{path}.ended").touch()
    return "never"


async def refund(order: int) -> str:
    """Pay back an order."""
    return f"paid back {order}"


async def ask_user(question: str) -> str:
    """Ask the user."""
    return interrupt(question)


agent = create_agent(
    model,
    [add, broken, stuck, refund, ask_user],
    system_prompt="Be brief.",
    middleware=[HumanInTheLoopMiddleware({"refund": {"allowed_decisions": ["approve", "reject"]}})],
)

structured = create_agent(model, response_format=ProviderStrategy(City))
