"""An agent is told of the operator's MCP servers, and of no secret but in its session's opening."""

import json
import logging
import sys

import pytest

from frontdesk.agents.acp.mcp_servers import McpServer
from frontdesk.agents.errors import CreateFailed
from frontdesk.errors import InvalidArgument
from support.acp import open_acp_service, open_acp_session, open_session, session_command, turn_of
from support.sessions import text

pytestmark = pytest.mark.anyio

PROGRAM = McpServer(
    name="files", command=(sys.executable, "-m", "files"), environment=("TOKEN_OF_FILES",)
)
ADDRESS = McpServer(
    name="search", url="https://search.example/mcp", headers={"Authorization": "SEARCH_HEADER"}
)
EVENTS = McpServer(name="events", url="http://events.example/sse", transport="sse")


@pytest.fixture(autouse=True)
def secrets(monkeypatch):
    monkeypatch.setenv("TOKEN_OF_FILES", "secret-1")
    monkeypatch.setenv("SEARCH_HEADER", "Bearer secret-2")


async def test_an_agent_is_told_of_programs_with_their_variables(caplog):
    caplog.set_level(logging.DEBUG)
    async with open_acp_session(session_command("Served"), mcp_servers=(PROGRAM,)) as conversation:
        (told,) = json.loads(text(await turn_of(conversation, "which?")))
        assert told == {
            "name": "files",
            "command": sys.executable,
            "args": ["-m", "files"],
            "env": [{"name": "TOKEN_OF_FILES", "value": "secret-1"}],
        }
    assert "secret-1" not in caplog.text + repr(PROGRAM)


async def test_an_agent_is_told_of_addresses_with_their_headers():
    command = session_command("Served", "http", "sse")
    async with open_acp_session(command, mcp_servers=(ADDRESS, EVENTS)) as conversation:
        told = json.loads(text(await turn_of(conversation, "which?")))
        header = {"name": "Authorization", "value": "Bearer secret-2"}
        assert told == [
            {"type": "http", "name": "search", "url": ADDRESS.url, "headers": [header]},
            {"type": "sse", "name": "events", "url": EVENTS.url, "headers": []},
        ]


@pytest.mark.parametrize(
    ("ways", "server", "problem"),
    [
        ((), ADDRESS, "takes no MCP servers over http, as 'search' is one"),
        (("http",), EVENTS, "takes no MCP servers over sse, as 'events' is one"),
        (
            (),
            McpServer(name="gone", command=("no-such-program",)),
            "program of the MCP server 'gone' is not installed",
        ),
    ],
)
async def test_a_server_that_the_agent_cannot_have_refuses_its_session(ways, server, problem):
    command = session_command("Served", *ways)
    async with open_acp_service(command, mcp_servers=(server,)) as service:
        with pytest.raises(CreateFailed, match=problem):
            await open_session(service)


async def test_a_variable_that_is_not_set_is_named_at_the_start():
    server = McpServer(name="files", command=("true",), environment=("NOT_SET_ANYWHERE",))
    with pytest.raises(InvalidArgument, match=r"files.*NOT_SET_ANYWHERE"):
        async with open_acp_service(session_command("Served"), mcp_servers=(server,)):
            pass
