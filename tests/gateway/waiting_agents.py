"""A Pydantic AI agent whose tools write down what they do, in a file that outlives it."""

import os

from pydantic_ai import Agent, Tool
from pydantic_ai.models.function import FunctionModel

from frontdesk.agents import TurnDeps, ask_user
from support.programs.pydantic_programs import obedient


def _do(what):
    with open(os.environ["WITNESSED"], "a", encoding="utf-8") as file:
        file.write(f"{what}\n")
        file.flush()
        os.fsync(file.fileno())
    return what


async def refund(order: int) -> str:
    """Pay back an order."""
    return _do(f"refund {order}")


async def transfer(amount: int) -> str:
    """Send money, once somebody has agreed."""
    return _do(f"transfer {amount}")


agent = Agent(
    FunctionModel(stream_function=obedient),
    deps_type=TurnDeps,
    tools=[refund, Tool(transfer, requires_approval=True), ask_user],
)
