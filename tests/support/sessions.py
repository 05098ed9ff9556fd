"""A session service to test with: opened, read from, left without a task or an entry behind."""

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager

import msgspec

from frontdesk import SessionStore
from frontdesk.agents import Blueprints, CallbackTool, CreateSession, blueprint
from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.errors import ToolFailed
from frontdesk.agents.task import TaskAgent
from frontdesk.schemas.answer_schemas import Messages, SessionStats, SessionStatus, SessionSummary
from frontdesk.sessions.context import SessionSettings
from frontdesk.sessions.service import SessionService

BOUND_S = 20
"""How long a test waits for what must come."""

PORTS = ("clock", "meter", "budgets", "guardrails", "call_tool", "observer", "commits", "keeping")


@asynccontextmanager
async def open_service(*blueprints, limits=None, **options):
    """Open a service over a store of its own; nothing of it may be left when it is closed."""
    ports = {name: options.pop(name) for name in PORTS if name in options}
    settings = SessionSettings(**{"abort_grace_s": 0.2, "end_grace_s": 1.0, **options})
    before = asyncio.all_tasks()
    with SessionStore(limits=limits) as store:
        service = SessionService(store, Blueprints(blueprints), settings=settings, **ports)
        async with service:
            service.store = store
            yield service
        assert store.closed or store.count() == 0
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        assert not left - set(service._context.stuck), left


async def open_session(service, *, tenant="acme", key="key-1", **order):
    """Open a session for a tenant."""
    return await service.tenant(tenant, key).create(CreateSession(**{"model": "none", **order}))


@blueprint("parrot")
async def parrot(turn):
    """Say the prompt, word by word."""
    for word in turn.text.split():
        yield word + " "


def scripted(script, name="scripted", **rules):
    """Make a blueprint of a function of the test's own."""
    return blueprint(name, **rules)(script)


class Stream:
    """Read a conversation's events in a test: what came is kept, waits are bounded."""

    def __init__(self, conversation, *, bound_s=BOUND_S, **options):
        self.bound_s = bound_s
        self.reader = conversation.subscribe(**{"since": "0", **options})
        self.events = []
        self.over = False
        self._unread = []

    async def until(self, *names, count=1):
        """Read until the last of `count` events of these names; return what came meanwhile."""
        came = []
        async with asyncio.timeout(self.bound_s):
            while count:
                event = await self._next()
                came.append(event)
                count -= event.name in names
        return came

    async def rest(self):
        """Read to the end of the stream."""
        came = []
        async with asyncio.timeout(self.bound_s):
            while (event := await self._next()) is not None:
                came.append(event)
        return came

    async def _next(self):
        while not self._unread:
            batch = await self.reader.next()
            if batch is None:
                self.over = True
                return None
            self._unread = list(batch)
        self.events.append(self._unread.pop(0))
        return self.events[-1]

    def close(self):
        self.reader.close()


def as_json(record):
    """Return a record as a client sees it."""
    return msgspec.json.decode(msgspec.json.encode(record))


def info_of(conversation):
    """Return what a client is shown of a conversation."""
    return as_json(SessionSummary.of(conversation))


def stats_of(conversation):
    """Return the numbers that a client is shown of a conversation."""
    return as_json(SessionStats.of(conversation))


def status_of(conversation):
    """Return what a client is shown of what a conversation waits for."""
    return as_json(SessionStatus.of(conversation))


def messages_of(conversation, **page):
    """Return the history as a client is shown it."""
    shown = conversation.history.page(**page)
    return as_json(Messages(messages=shown.messages, next=shown.next))


def data_of(event):
    """Return the data of an event."""
    return json.loads(event.json)


def names(events):
    """Return what kind of events came."""
    return [event.name for event in events]


def text(events):
    """Return what was said."""
    return "".join(data_of(event)["delta"] for event in events if event.name == "message_delta")


async def passes(number=5):
    """Let the loop call back whoever is due."""
    for _ in range(number):
        await asyncio.sleep(0)


async def soon(condition):
    """Wait until something holds that no event tells of."""
    async with asyncio.timeout(BOUND_S):
        while not condition():
            await asyncio.sleep(0.001)


# -- agents and factories of the tests' own --------------------------------------------------------


async def waiting(turn):
    """Say that the turn has begun, and wait to be stopped."""
    yield "begun"
    await asyncio.Event().wait()


waiter = scripted(waiting, name="waiter")


def deaf_agent(released):
    async def deaf(turn):
        yield "deaf"
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    return scripted(deaf, name="deaf")


class FactoryOfTheTest:
    """A factory of the test's own: `starting` runs where an agent is made."""

    def __init__(self, starting, agent=None):
        self.starting, self.agent = starting, agent

    def check(self, context):
        pass

    async def start(self, context):
        await self.starting(context)
        return self.agent or TaskAgent(waiting)


def made_by(factory, **rules):
    return Blueprint(name="made", kind="python", factory=factory, **rules)


class FakeAgent:
    """An agent that is not a task: the registry monitors a future."""

    def __init__(self):
        self.registry_agent = asyncio.get_running_loop().create_future()
        self.ended = 0

    async def run_turn(self, port):
        await asyncio.Event().wait()

    async def end(self, grace_s):
        self.ended += 1
        if not self.registry_agent.done():
            self.registry_agent.set_result(None)


async def nothing(context):
    pass


class RecordingMeter:
    """A meter that remembers."""

    def __init__(self):
        self.recorded = []

    def record(self, **what):
        self.recorded.append(what)

    def total(self, name):
        return sum(each.get(name, 0) for each in self.recorded)


class RecordingToolCaller:
    """A tool caller of the test's own."""

    def __init__(self):
        self.calls = []

    async def call(self, tool, *, call_id, args, session_id, tenant_id, api_key):
        self.calls.append((tool.name, args, session_id, api_key))
        if args == "fail":
            raise ToolFailed(tool.name, problem="it broke")
        return {"echo": args}


def callback_tool(name="look", **rest):
    return CallbackTool(**{"name": name, "callback_url": "https://tools.example/", **rest})
