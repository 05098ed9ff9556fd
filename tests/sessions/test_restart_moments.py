"""Restarts at every moment around a turn's end: no agent gets a turn after its own end.

The agents are the tests' own, so that the order of what the loop does is chosen, step by step.
"""

import asyncio
import logging

import pytest

from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.errors import AgentLost
from frontdesk.agents.events import MessageDelta
from support.sessions import Stream, data_of, names, open_service, open_session, passes, text

pytestmark = pytest.mark.anyio

PASSES = range(12)
PROMPTS = ("first", "second", "third")


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, logger="frontdesk")


class Puppet:
    """An agent whose turns and whose life end when the test says so; `life` is its number."""

    def __init__(self, life):
        self.life = life
        self.registry_agent = asyncio.get_running_loop().create_future()
        self.begun, self.released = asyncio.Event(), asyncio.Event()
        self.error = None
        self.turns = 0

    async def run_turn(self, port):
        for character in f"{port.context.text} {self.life}":
            port.emit(MessageDelta(character))
        self.begun.set()
        self.turns += 1
        if self.life == 1:
            # Only its first turn ends: in a later one it waits for its own end.
            await (self.released if self.turns == 1 else asyncio.Event()).wait()
        if self.error is not None:
            raise self.error

    async def end(self, grace_s):
        await asyncio.sleep(0)
        self.die()

    def die(self):
        if not self.registry_agent.done():
            self.registry_agent.set_exception(RuntimeError("it died"))
            self.registry_agent.exception()


class Puppets:
    """Make one agent after another."""

    def __init__(self):
        self.made = []

    def check(self, context):
        pass

    async def start(self, context):
        self.made.append(Puppet(len(self.made) + 1))
        return self.made[-1]


async def assert_each_turn_is_one_agents(service, happen):
    """Make three prompts wait, let it happen to the first agent; look at what a client sees."""
    conversation = await open_session(service)
    stream = Stream(conversation)
    ids = {conversation.prompt(each).request_id: each for each in PROMPTS}
    (puppet,) = service.puppets.made
    await puppet.begun.wait()
    await happen(conversation, puppet)
    await stream.until("agent_end", "agent_abort", count=len(PROMPTS))
    await passes(20)
    stream.close()
    turns = {}
    order = []
    for event in stream.events:
        if event.request_id is not None:
            turns.setdefault(event.request_id, []).append(event)
            order.append(event.request_id)
    assert list(turns) == list(ids), "each prompt has its turn, in order"
    assert order == [each for each in turns for _ in turns[each]], "one turn after another"
    for request_id, events in turns.items():
        kinds = names(events)
        assert kinds[:2] == ["prompt_received", "agent_start"]
        assert [kind in ("agent_end", "agent_abort") for kind in kinds].count(True) == 1
        assert kinds[-1] in ("agent_end", "agent_abort")
        whole = {f"{ids[request_id]} {life}" for life in (1, 2)}
        assert text(events) in (whole if kinds[-1] == "agent_end" else {*whole, ""})
    assert len(service.puppets.made) == 2
    assert [data_of(each)["count"] for each in stream.events if each.name == "agent_restarted"]


def puppets(service_puppets):
    return Blueprint(name="puppets", kind="python", factory=service_puppets, restart="always")


@pytest.mark.parametrize("how", ["well", "error", "lost", "abort"])
@pytest.mark.parametrize("dies_first", [True, False])
@pytest.mark.parametrize("between", PASSES)
async def test_a_restart_at_any_moment_around_a_turns_end_gives_the_next_turn_to_the_next_agent(
    how, dies_first, between
):
    made = Puppets()

    async def happen(conversation, puppet):
        puppet.error = {"error": ValueError("x"), "lost": AgentLost("gone")}.get(how)
        end_turn = conversation.abort if how == "abort" else puppet.released.set
        steps = [puppet.die, end_turn] if dies_first else [end_turn, puppet.die]
        steps[0]()
        await passes(between)
        steps[1]()

    async with open_service(puppets(made)) as service:
        service.puppets = made
        await assert_each_turn_is_one_agents(service, happen)
