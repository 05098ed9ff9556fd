"""A framework's agent behind a real session service, and a model that the test scripts."""

from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import TypeAdapter

from adapters.model_server import VARIABLES, ModelServer
from frontdesk.gateway.blueprint_config import blueprint_of
from frontdesk.gateway.blueprint_kinds import BlueprintServices
from frontdesk.gateway.blueprint_settings import BlueprintSettings
from frontdesk.gateway.ssrf import AddressGuard
from frontdesk.sessions.conversation import Conversation
from support.sessions import Stream, data_of, open_service, open_session, soon

ENDS = ("agent_end", "agent_abort")


def settings_of(framework, isolation, *, agent="agent", **more):
    """Return the table that an operator would write. A setting of None is not in it."""
    table = {"kind": framework.kind, "isolation": isolation}
    if framework.targets:
        table["target"] = framework.targets[agent]
    if isolation == "process":
        table["environment"] = sorted(VARIABLES)
    table |= {**framework.table, **more}
    return TypeAdapter(BlueprintSettings).validate_python(
        {name: value for name, value in table.items() if value is not None}
    )


@asynccontextmanager
async def opened(settings, *, keeper, **options):
    """Open a service over the blueprint of one table; when it is closed, no agent is left."""
    services = BlueprintServices(keeper=keeper, guard=AddressGuard(()))
    async with open_service(blueprint_of("served", settings, services), **options) as service:
        yield service
    await soon(lambda: not len(keeper))


@dataclass
class Scene:
    """One session, its stream, and the model behind it."""

    framework: object
    service: object
    server: ModelServer
    session: Conversation
    stream: Stream

    async def turn(self, prompt="go"):
        """Run a turn and return its events."""
        self.session.prompt(prompt)
        return await self.stream.until(*ENDS)

    async def another(self):
        """Return the scene of a second session beside this one."""
        session = await open_session(self.service, model=self.framework.model)
        return Scene(self.framework, self.service, self.server, session, Stream(session))


@asynccontextmanager
async def scene(
    framework, isolation, script, *, keeper, agent="agent", order=None, table=None, **options
):
    """Open a session of a framework's agent, whose model does what the script says."""
    settings = settings_of(framework, isolation, agent=agent, **(table or {}))
    async with (
        ModelServer(framework.dialect, script) as server,
        opened(settings, keeper=keeper, **options) as service,
    ):
        session = await open_session(service, **{"model": framework.model, **(order or {})})
        stream = Stream(session, bound_s=30)
        yield Scene(framework, service, server, session, stream)
        stream.close()


def tool_ends(events):
    """Return how each tool that ran ended: name, status, and the result."""
    ends = [data_of(event) for event in events if event.name == "tool_execution_end"]
    return [(each["toolName"], each["status"], each.get("result")) for each in ends]


def last_message(events):
    """Return the last message of a turn that ended well."""
    assert events[-1].name == "agent_end", [(each.name, data_of(each)) for each in events]
    return data_of(events[-1])["lastMessage"]["content"]
