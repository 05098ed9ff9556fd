"""The MCP SDK's session manager for streamable HTTP, with a tool that answers one word."""

from __future__ import annotations

from typing import Any

from mcp import types
from mcp.server.lowlevel import Server

from bench.other_servers import WORD, serve


async def list_tools(_: Any, __: Any) -> types.ListToolsResult:
    """There is one tool."""
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    return types.ListToolsResult(tools=[types.Tool(name="parrot", input_schema=schema)])


async def call_tool(_: Any, __: Any) -> types.CallToolResult:
    """Say one word."""
    return types.CallToolResult(content=[types.TextContent(type="text", text=WORD)])


if __name__ == "__main__":
    server = Server("parrot", on_list_tools=list_tools, on_call_tool=call_tool)
    serve(server.streamable_http_app(max_sessions=None))
