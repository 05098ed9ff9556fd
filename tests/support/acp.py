"""A service with ACP agents to test with: a keeper under it, and nothing left when it is closed."""

import contextlib
import os
import sys
import tempfile

import support.programs.acp_agents
from frontdesk.agents.acp.blueprint import AcpOptions, acp_blueprint
from frontdesk.agents.process.factory import ProcessOptions
from frontdesk.keeper.client import Keeper
from support import sessions
from support.sessions import Stream, open_service

ACP_OPTIONS = (
    "files",
    "auth_method",
    "start_timeout_s",
    "cancel_patience_s",
    "home",
    "homes",
    "usage",
    "settings",
    "mcp_servers",
)
RULES = ("limits", "env", "account")


def command_of(habit):
    """Return the command line of one of the tests' own programs."""
    return (sys.executable, support.programs.acp_agents.__file__, habit)


def session_command(habit, *arguments):
    """Return the command line of one of those that have something of a session's own."""
    place = support.programs.acp_agents.__file__.replace("acp_agents", "acp_sessions")
    return (sys.executable, place, habit, *arguments)


def acp(keeper, command, **options):
    """Make a blueprint of a command line, or of one of the tests' own programs."""
    acp_options = {name: options.pop(name) for name in ACP_OPTIONS if name in options}
    rules = {name: options.pop(name) for name in RULES if name in options}
    return acp_blueprint(
        "coder",
        command_of(command) if isinstance(command, str) else command,
        keeper=keeper,
        acp=AcpOptions(**acp_options),
        rules=ProcessOptions(**rules),
        **options,
    )


@contextlib.asynccontextmanager
async def open_acp_service(command, *, service=None, **options):
    """Open a service whose one blueprint is an ACP agent; `service` are its settings."""
    with place_for_places() as places:
        async with Keeper() as keeper:
            async with open_service(acp(keeper, command, **options), **(service or {})) as opened:
                opened.keeper = keeper
                yield opened
            assert not len(keeper), "a process is left"
        assert not os.listdir(places), "a directory is left"


@contextlib.contextmanager
def place_for_places():
    """Have the directories that are made for sessions made in one of their own."""
    former = tempfile.tempdir
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        tempfile.tempdir = place
        try:
            yield place
        finally:
            tempfile.tempdir = former


async def open_session(service, **order):
    """Open a session whose agent answers with the model that it has chosen itself."""
    return await sessions.open_session(service, **{"model": "default", **order})


async def turn_of(conversation, text):
    """Run one turn and return its events."""
    stream = Stream(conversation, since=None, from_now=True)
    conversation.prompt(text)
    try:
        return await stream.until("agent_end", "agent_abort")
    finally:
        stream.close()


@contextlib.asynccontextmanager
async def open_acp_session(command, *, order=None, **options):
    """Open a service and one session in it."""
    async with open_acp_service(command, **options) as service:
        yield await open_session(service, **(order or {}))
