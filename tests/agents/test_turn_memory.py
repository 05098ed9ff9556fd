"""`turn.memory`: what an agent in Python finds again in the next turn, and in its next life."""

import asyncio
import json

import pytest

from frontdesk.agents.json_memory import MAX_BYTES, encoded
from frontdesk.agents.records import Memory
from frontdesk.agents.task import TaskAgentFactory
from frontdesk.errors import InvalidArgument
from gateway.requirements import covers
from support.restored_agents import (
    EITHER,
    KeepingPort,
    left,
    open_factory,
    restored_agent,
    run,
    told,
)
from support.sessions import BOUND_S

pytestmark = pytest.mark.anyio

NOTE_TAKER = "support.programs.remembering_agents:note_taker"


def value_in(port):
    """Return the one memory that a turn left, which takes the place of what was before."""
    (memory,) = port.memories
    assert (memory.kind, memory.version, memory.replaces) == ("python", 1, True)
    return json.loads(memory.content)


@pytest.mark.parametrize("isolation", EITHER)
async def test_a_value_is_found_in_the_next_turn_and_by_the_next_agent_alike(isolation):
    async with open_factory(isolation, NOTE_TAKER) as factory:
        first, _ = await restored_agent(factory)
        port = await run(first, "set {'seen': (1, 2), 3: 'ä'}")
        assert port.said == "None"
        assert value_in(port) == {"seen": [1, 2], "3": "ä"}
        in_next_turn = await run(first, "look")
        await first.end(1.0)
        second, known = await restored_agent(factory, left(*port.memories, history=told("set")))
        assert known == "kept"
        in_next_life = await run(second, "look")
        await second.end(1.0)
    assert in_next_turn.said == in_next_life.said == "{'seen': [1, 2], '3': 'ä'}"
    assert not in_next_turn.memories, "what did not change is not stored again"


@pytest.mark.parametrize("isolation", EITHER)
async def test_what_an_agent_changes_within_the_value_is_left_too_however_the_turn_ends(isolation):
    async with open_factory(isolation, NOTE_TAKER) as factory:
        agent, _ = await restored_agent(factory)
        await run(agent, "set {}")
        assert value_in(await run(agent, "add 1")) == {"added": 1}
        port = KeepingPort(prompt="fail")
        with pytest.raises(Exception, match="as asked"):
            await agent.run_turn(port)
        assert value_in(port) == {"added": 1, "failed": True}
        port = KeepingPort(prompt="wait")
        task = asyncio.create_task(agent.run_turn(port))
        async with asyncio.timeout(BOUND_S):
            while not port.said:
                await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert value_in(port) == {"added": 1, "failed": True, "waits": True}
        await agent.end(1.0)


@pytest.mark.parametrize("isolation", EITHER)
async def test_what_is_no_json_or_too_large_is_an_error_that_says_so_and_changes_nothing(isolation):
    async with open_factory(isolation, NOTE_TAKER) as factory:
        agent, _ = await restored_agent(factory)
        await run(agent, "set [1]")
        for prompt, problem in (("large", "at most 1048576 bytes of JSON"), ("object", "of JSON")):
            with pytest.raises(InvalidArgument, match=problem):
                await run(agent, prompt)
        port = await run(agent, "refused")
        assert not port.memories
        assert (await run(agent, "look")).said == "[1]"
        await agent.end(1.0)


@pytest.mark.parametrize("isolation", EITHER)
async def test_a_value_that_an_agent_spoiled_itself_fails_the_turn_and_the_last_one_stays(
    isolation,
):
    async with open_factory(isolation, NOTE_TAKER) as factory:
        agent, _ = await restored_agent(factory)
        await run(agent, "set {'a': 1}")
        with pytest.raises(InvalidArgument, match=r"turn\.memory"):
            await run(agent, "add {1}")
        assert (await run(agent, "look")).said == "{'a': 1}"
        await agent.end(1.0)


@covers("durable.memory-is-honest")
@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000])
async def test_a_value_that_cannot_be_read_any_more_is_told_as_such(content, caplog):
    async with open_factory("task", NOTE_TAKER) as factory:
        memory = Memory(kind="python", version=1, content=content)
        agent, known = await restored_agent(factory, left(memory, history=told("one")))
        assert known == "rebuilt"
        assert "cannot be read" in caplog.text
        assert (await run(agent, "look")).said == "None"


async def test_a_value_of_a_version_that_is_not_known_is_told_as_such(caplog):
    async with open_factory("task", NOTE_TAKER) as factory:
        memory = Memory(kind="python", version=2, content=b"1")
        _, known = await restored_agent(factory, left(memory, history=told("one")))
    assert known == "rebuilt"
    assert "its version is 2" in caplog.text


def test_a_value_may_have_as_many_bytes_as_the_bound_says():
    assert len(encoded("x" * (MAX_BYTES - 2))) == MAX_BYTES
    with pytest.raises(InvalidArgument):
        encoded("x" * (MAX_BYTES - 1))


@pytest.mark.parametrize("value", [float("nan"), "\ud800", {(1, 2): 3}, b"bytes"])
def test_what_json_does_not_have_is_refused(value):
    with pytest.raises(InvalidArgument, match="a value of JSON"):
        encoded(value)


async def test_a_turn_that_was_given_up_leaves_what_it_had_and_changes_nothing_later():
    release = asyncio.Event()

    class Deaf:
        def check(self, context):
            """Refuse nothing."""

        def open(self, context):
            async def deaf(turn):
                if turn.text == "deaf":
                    turn.memory = {"by": "the first"}
                    await release.wait()
                    turn.memory["late"] = True
                return repr(turn.memory)

            return deaf

    agent = await TaskAgentFactory(Deaf()).start(None)
    first = KeepingPort(prompt="deaf")
    task = asyncio.create_task(agent.run_turn(first))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = await run(agent, "next")
    release.set()
    async with asyncio.timeout(BOUND_S):
        await task
    assert second.said == "{'by': 'the first'}"
    assert value_in(first) == {"by": "the first"}
    assert (await run(agent, "look")).said == "{'by': 'the first'}"
