"""Pydantic AI agents as a team has them: they know nothing of Frontdesk."""

import asyncio
from pathlib import Path

from pydantic import BaseModel
from pydantic_ai import Agent, Tool
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import ExternalToolset


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


ELSEWHERE = ExternalToolset(
    [
        ToolDefinition(
            name="ask_user",
            description="Ask the user.",
            parameters_json_schema={
                "type": "object",
                "properties": {"question": {"type": "string"}},
                "required": ["question"],
            },
        )
    ]
)

agent = Agent(
    "openai-chat:small",
    instructions="Be brief.",
    tools=[add, broken, stuck, Tool(refund, requires_approval=True)],
    toolsets=[ELSEWHERE],
)

structured = Agent("openai-chat:small", output_type=City)
