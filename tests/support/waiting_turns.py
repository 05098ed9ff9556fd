"""Turns of Pydantic AI that wait for somebody: in tasks, and in processes."""

import json
from contextlib import asynccontextmanager
from dataclasses import replace

from frontdesk.agents.process.factory import ProcessAgentFactory
from frontdesk.agents.process.messages import ProgramSource
from frontdesk.agents.pydantic_ai import pydantic_ai_blueprint
from frontdesk.keeper.client import Keeper
from support.programs.pydantic_programs import waiting_program
from support.sessions import Stream, data_of, open_session
from support.stored_services import on_held_disk

TOOLS = ("refund", "transfer", "careful", "ask_user")
SESSION = {"session_id": "s-1", "model": "fn", "tools": TOOLS, "blueprint": "waiting"}
WAITING = pydantic_ai_blueprint("waiting", program=waiting_program)

REFUND = ["refund", {"order": 7}]
TRANSFER = ["transfer", {"amount": 5}]
SURE = ["ask_user", {"question": "sure?"}]


def prompt(*calls, end="end"):
    """Return a prompt by which the model calls these tools at once, and then ends."""
    return json.dumps([[calls], end])


def reference_in(events, name):
    """Return under which reference somebody is asked."""
    data = next(data_of(each) for each in events if each.name == name)
    return data.get("approvalId") or data.get("ref")


def ran(events):
    """Return the tools that ran."""
    return [data_of(each)["toolName"] for each in events if each.name == "tool_execution_start"]


@asynccontextmanager
async def in_processes(directory, **rules):
    """Open a service whose Pydantic AI agents live in processes, and are restarted."""
    keeper = Keeper()
    source = ProgramSource(target="support.programs.pydantic_programs:waiting_program")
    factory = ProcessAgentFactory(keeper, source, program=waiting_program)
    waiting = replace(
        WAITING, factory=factory, isolation="process", **{"restart": "on_crash", **rules}
    )
    async with keeper, on_held_disk(directory, waiting) as service:
        yield service


async def waits(service, *calls, asked="approval_required", end="end", attachments=()):
    """Run a turn in a process until it waits; return the session, its stream, what it said."""
    conversation = await open_session(service, **SESSION)
    stream = Stream(conversation)
    conversation.prompt("tell")
    await stream.until("agent_end")
    accepted = conversation.prompt(prompt(*calls, end=end), attachments=attachments)
    events = await stream.until(asked)
    return conversation, stream, events, accepted.request_id
