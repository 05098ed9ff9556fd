"""Google ADK's API server, with sessions in memory and an agent of one word."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator

from google.adk.agents import BaseAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.cli.fast_api import get_fast_api_app
from google.adk.cli.utils.base_agent_loader import BaseAgentLoader
from google.adk.events import Event
from google.genai.types import Content, Part

from bench.other_servers import WORD, serve


class Parrot(BaseAgent):
    """Say one word."""

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        content = Content(role="model", parts=[Part(text=WORD)])
        yield Event(invocation_id=ctx.invocation_id, author=self.name, content=content)


class OneAgent(BaseAgentLoader):
    """Know that agent only."""

    def load_agent(self, agent_name: str) -> BaseAgent:
        if agent_name != "parrot":
            raise ValueError(agent_name)
        return PARROT

    def list_agents(self) -> list[str]:
        return ["parrot"]


PARROT = Parrot(name="parrot")

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        serve(
            get_fast_api_app(
                agents_dir=folder,
                agent_loader=OneAgent(),
                session_service_uri="memory://",
                artifact_service_uri="memory://",
                memory_service_uri="memory://",
                web=False,
            )
        )
