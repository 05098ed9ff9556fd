"""Agents of Google's ADK as a team has them: they know nothing of Frontdesk."""

import asyncio
from pathlib import Path

from google.adk.agents import LlmAgent
from google.adk.tools import FunctionTool, LongRunningFunctionTool
from pydantic import BaseModel


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


def ask_user(question: str) -> None:
    """Ask the user: the answer comes from outside."""


agent = LlmAgent(
    name="helpdesk",
    model="gemini-small",
    instruction="Be brief.",
    tools=[
        add,
        broken,
        stuck,
        FunctionTool(refund, require_confirmation=True),
        LongRunningFunctionTool(ask_user),
    ],
)

structured = LlmAgent(name="cities", model="gemini-small", output_schema=City)
