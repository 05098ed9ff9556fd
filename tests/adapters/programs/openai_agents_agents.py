"""Agents on the OpenAI Agents SDK as a team has them: a tool asks the user by the context."""

import asyncio
from pathlib import Path

import agents
from agents import Agent, RunContextWrapper, function_tool
from pydantic import BaseModel

agents.set_default_openai_api("chat_completions")


class City(BaseModel):
    """A structured answer."""

    city: str
    population: int


@function_tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@function_tool
async def broken() -> str:
    """Fail."""
    raise ValueError("not for clients")


@function_tool
async def stuck(path: str) -> str:
    """Never come to an end."""
    Path(f"{path}.begun").touch()
    try:
        await asyncio.Event().wait()
    finally:
        Path(f"{path}.ended").touch()
    return "never"


@function_tool(needs_approval=True)
async def refund(order: int) -> str:
    """Pay back an order."""
    return f"paid back {order}"


@function_tool
async def ask_user(wrapper: RunContextWrapper, question: str) -> str:
    """Ask the user."""
    return str(await wrapper.context.ask(question))


agent = Agent(
    "helper",
    model="small",
    instructions="Be brief.",
    tools=[add, broken, stuck, refund, ask_user],
)

structured = Agent("geographer", model="small", output_type=City)
