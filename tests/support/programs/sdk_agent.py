"""An agent on the protocol's official Python SDK, as its users write one: `python sdk_agent.py`.

It says every prompt again, asks before it "writes", and stops when it is cancelled.
"""

import asyncio

import acp
from acp.helpers import (
    start_tool_call,
    tool_diff_content,
    update_agent_message_text,
    update_tool_call,
)
from acp.schema import PermissionOption, ToolCallUpdate


class Echo(acp.Agent):
    """One session of it at a time."""

    def on_connect(self, conn):
        self.client = conn
        self.cancelled = asyncio.Event()

    async def initialize(self, protocol_version, client_capabilities=None, **_):
        return acp.InitializeResponse(protocol_version=protocol_version)

    async def new_session(self, cwd, mcp_servers=None, **_):
        return acp.NewSessionResponse(session_id="s")

    async def cancel(self, session_id, **_):
        self.cancelled.set()

    async def prompt(self, prompt, session_id, **_):
        text = "".join(block.text for block in prompt)
        self.cancelled.clear()
        await self.client.session_update(session_id, update_agent_message_text(text))
        if text == "write":
            return await self.write(session_id)
        if text == "dawdle":
            await self.cancelled.wait()
            return acp.PromptResponse(stop_reason="cancelled")
        return acp.PromptResponse(stop_reason="end_turn")

    async def write(self, session_id):
        diff = [tool_diff_content("/a.txt", "new\n", "old\n")]
        start = start_tool_call("c1", "Edit a.txt", kind="edit", status="pending", content=diff)
        await self.client.session_update(session_id, start)
        options = [PermissionOption(option_id="yes", name="Do it", kind="allow_once")]
        answer = await self.client.request_permission(
            session_id, ToolCallUpdate(tool_call_id="c1"), options
        )
        done = answer.outcome.outcome == "selected"
        end = update_tool_call("c1", status="completed" if done else "failed")
        await self.client.session_update(session_id, end)
        return acp.PromptResponse(stop_reason="end_turn")


if __name__ == "__main__":
    asyncio.run(acp.run_agent(Echo()))
