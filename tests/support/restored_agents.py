"""One agent at a time, without a conversation, as a task or a process: what they remember."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from frontdesk.agents.events import MessageDelta
from frontdesk.agents.process.factory import ProcessAgentFactory
from frontdesk.agents.process.messages import ProgramSource
from frontdesk.agents.process.worker import program_of
from frontdesk.agents.protocol import start_restored
from frontdesk.agents.records import Approval, Message, Restored, SessionContext, TurnContext
from frontdesk.agents.targets import import_target
from frontdesk.agents.task import TaskAgentFactory
from frontdesk.agents.testing import RecordingTurnPort
from frontdesk.keeper.client import Keeper

EITHER = ("task", pytest.param("process", marks=pytest.mark.slow))
"""How an agent may live. A process takes a while to start."""

CONTEXT = SessionContext(session_id="s", tenant_id="acme", blueprint="b", model="none")


class KeepingPort(RecordingTurnPort):
    """Record a turn's events and what it leaves; `answers` has what clients say, by question."""

    def __init__(self, context=CONTEXT, prompt="", *, history=(), suspended=None, answers=()):
        super().__init__(context, prompt)
        self.context = TurnContext(
            text=prompt,
            request_id="req_1",
            session=context,
            model=context.model,
            history=tuple(history),
            suspended=suspended,
        )
        self.events, self.memories, self.suspension, self.used = [], [], None, []
        self.answers = dict(answers)
        self.asked = {}
        self.waiting = asyncio.Event()
        """Set once something waits that has no answer."""

    @property
    def said(self):
        """Return all its text."""
        return "".join(event.delta for event in self.events if isinstance(event, MessageDelta))

    def emit(self, event):
        """Record it."""
        self.events.append(event)

    def usage(self, used):
        """Record it."""
        self.used.append(used)

    def remember(self, memory):
        """Record it."""
        self.memories.append(memory)

    def suspend(self, memory):
        """Record it."""
        self.suspension = memory

    async def approval(self, tool, args=None, *, hint=None, details=None, reference=None):
        """Answer by the tool's name; wait for ever where there is no answer."""
        self.asked[reference] = tool
        status = await self._answer(tool)
        return Approval(status)

    async def ask(self, question, *, reference=None):
        """Answer by the question; wait for ever where there is no answer."""
        self.asked[reference] = question
        return await self._answer(question)

    async def _answer(self, question):
        if question not in self.answers:
            self.waiting.set()
            await asyncio.get_running_loop().create_future()
        return self.answers[question]


@asynccontextmanager
async def open_factory(isolation, target, **options):
    """Give a factory of a program's agents, which live as tasks or in processes."""
    if isolation == "task":
        found = import_target(target)
        yield TaskAgentFactory(program_of(found(**options) if options else found, target=target))
        return
    async with Keeper() as keeper:
        yield ProcessAgentFactory(keeper, ProgramSource(target=target, options=options or None))


async def restored_agent(factory, restored=None, *, context=CONTEXT):
    """Start an agent, of a session that is new or not; return it with how much it knows."""
    if restored is None:
        return await factory.start(context), None
    return await start_restored(factory, context, restored)


async def run(agent, prompt="", **options):
    """Run one turn to its end, and return its port."""
    port = KeepingPort(prompt=prompt, **options)
    async with asyncio.timeout(30):
        await agent.run_turn(port)
    return port


def told(*pairs):
    """Return a history of prompts and answers."""
    roles = ("user", "assistant")
    return tuple(Message(roles[n % 2], text) for n, text in enumerate(pairs))


def left(*memories, history=(), unremembered=0):
    """Return what there is of a session."""
    return Restored(history=tuple(history), memories=memories, unremembered=unremembered)
