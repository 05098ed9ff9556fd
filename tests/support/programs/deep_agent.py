"""A deep agent of LangChain's behind its ACP server: what its makers' README has a user write.

It runs in an environment that has `deepagents-acp`; its model is Anthropic's, wherever the usual
variables say.
"""

import asyncio

from acp import run_agent
from deepagents import create_deep_agent
from deepagents.backends import FilesystemBackend
from deepagents_acp.server import AgentServerACP
from langgraph.checkpoint.memory import MemorySaver

CHECKPOINTS = MemorySaver()


def build(context):
    return create_deep_agent(
        model="anthropic:claude-haiku-4-5",
        backend=FilesystemBackend(root_dir=context.cwd, virtual_mode=True),
        interrupt_on={"write_file": True},
        checkpointer=CHECKPOINTS,
    )


if __name__ == "__main__":
    asyncio.run(run_agent(AgentServerACP(agent=build)))
