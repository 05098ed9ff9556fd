"""MCP servers of the operator's, which an ACP agent is told of as its session is opened.

Secrets are named, never written: the file of the configuration has the names of environment
variables, whose values go to the agent over its pipe.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from acp.schema import (
    AcpMcpServer,
    EnvVariable,
    HttpHeader,
    HttpMcpServer,
    McpCapabilities,
    McpServerStdio,
    SseMcpServer,
)

from frontdesk.agents.errors import CreateFailed
from frontdesk.errors import InvalidArgument

AgentsServer = HttpMcpServer | SseMcpServer | AcpMcpServer | McpServerStdio


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """One server: a program that the agent starts (`command`), or one at an address (`url`).

    `environment` are the names of the gateway's variables that the program gets; of `headers` the
    values are such names.
    """

    name: str
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    url: str = ""
    transport: Literal["http", "sse"] = "http"
    headers: Mapping[str, str] = field(default_factory=dict)


def check_variables(servers: Sequence[McpServer]) -> None:
    """Raise `InvalidArgument` where a variable is named that the gateway does not have."""
    for server in servers:
        for name in (*server.environment, *server.headers.values()):
            if name not in os.environ:
                place = f"mcp_servers: {server.name}"
                raise InvalidArgument(place, expected="a variable that is set", got=repr(name))


def servers_for_agent(
    servers: Sequence[McpServer], *, capabilities: McpCapabilities | None, path: str | None
) -> list[AgentsServer]:
    """Return the servers as an agent is told of them; `CreateFailed` where it cannot have one.

    `path` is where their programs are looked up.
    """
    return [
        _program(each, path=path) if each.command else _address(each, capabilities)
        for each in servers
    ]


def _program(server: McpServer, *, path: str | None) -> McpServerStdio:
    program = shutil.which(server.command[0], path=path)
    if program is None:
        raise CreateFailed(f"the program of the MCP server {server.name!r} is not installed here")
    return McpServerStdio(
        name=server.name,
        command=os.path.abspath(program),
        args=list(server.command[1:]),
        env=[EnvVariable(name=name, value=os.environ[name]) for name in server.environment],
    )


def _address(server: McpServer, capabilities: McpCapabilities | None) -> AgentsServer:
    transport = server.transport
    if not getattr(capabilities, transport, False):
        raise CreateFailed(
            f"the agent takes no MCP servers over {transport}, as {server.name!r} is one"
        )
    headers = [
        HttpHeader(name=name, value=os.environ[value]) for name, value in server.headers.items()
    ]
    if transport == "http":
        return HttpMcpServer(name=server.name, url=server.url, headers=headers, type="http")
    return SseMcpServer(name=server.name, url=server.url, headers=headers, type="sse")
