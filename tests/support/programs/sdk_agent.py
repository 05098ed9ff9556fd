"""An agent on the protocol's official Python SDK, as its users write one: `python sdk_agent.py`.

It says every prompt again, asks before it "writes", and stops when it is cancelled. What it is
started with (`image`, `audio`, `embedded_context`) it announces that it takes, and tells of.
"""

import asyncio
import base64
import hashlib
import sys

import acp
from acp.helpers import (
    start_tool_call,
    tool_diff_content,
    update_agent_message_text,
    update_tool_call,
)
from acp.schema import AgentCapabilities, PermissionOption, PromptCapabilities, ToolCallUpdate


class Echo(acp.Agent):
    """One session of it at a time."""

    def on_connect(self, conn):
        self.client = conn
        self.cancelled = asyncio.Event()

    async def initialize(self, protocol_version, client_capabilities=None, **_):
        takes = AgentCapabilities(
            prompt_capabilities=PromptCapabilities(**dict.fromkeys(sys.argv[1:], True))
        )
        return acp.InitializeResponse(protocol_version=protocol_version, agent_capabilities=takes)

    async def new_session(self, cwd, mcp_servers=None, **_):
        return acp.NewSessionResponse(session_id="s")

    async def cancel(self, session_id, **_):
        self.cancelled.set()

    async def prompt(self, prompt, session_id, **_):
        text = "".join(map(told, prompt))
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


def told(block):
    """Say a block of text, and of another what it is."""
    if block.type == "text":
        return block.text
    if block.type == "resource":
        found = block.resource
        content = found.text.encode() if hasattr(found, "text") else base64.b64decode(found.blob)
        return f"|{type(found).__name__} {found.uri} {digest(content)}"
    return f"|{block.type} {block.mime_type} {digest(base64.b64decode(block.data))}"


def digest(content):
    return hashlib.sha256(content).hexdigest()[:12]


if __name__ == "__main__":
    asyncio.run(acp.run_agent(Echo()))
