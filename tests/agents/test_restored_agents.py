"""What is left of a session for its next agent, and how that is given it: the seam."""

import asyncio

import pytest

from frontdesk.agents.ids import new_reference
from frontdesk.agents.protocol import goes_on, start_after, start_restored
from frontdesk.agents.records import Memory, Restored, Suspended
from frontdesk.errors import InvalidArgument
from support.restored_agents import CONTEXT, EITHER, left, open_factory, restored_agent, run, told
from support.sessions import BOUND_S, Stream, open_service, open_session, scripted

pytestmark = pytest.mark.anyio

PROGRAMS = "support.programs.remembering_agents"


@pytest.mark.parametrize("isolation", EITHER)
async def test_what_an_agent_leaves_reaches_its_turn_and_the_next_agent_gets_it(isolation):
    async with open_factory(isolation, f"{PROGRAMS}:counting_program") as factory:
        first, _ = await restored_agent(factory)
        port = await run(first, "one")
        await first.end(1.0)
        assert [(each.kind, each.content) for each in port.memories] == [("counting", b"1")]
        second, known = await restored_agent(
            factory, left(*port.memories, history=told("one", "1"))
        )
        assert known == "kept"
        assert (await run(second, "two")).said == "2"
        await second.end(1.0)


@pytest.mark.parametrize("isolation", EITHER)
async def test_a_program_that_leaves_nothing_finds_what_was_said_in_its_history(isolation):
    async with open_factory(isolation, "support.programs.process_agents:parrot") as factory:
        agent, known = await restored_agent(factory, left(history=told("one", "two")))
        assert known == "rebuilt"
        await agent.end(1.0)


@pytest.mark.parametrize("isolation", EITHER)
async def test_where_there_is_nothing_to_know_everything_is_kept(isolation):
    async with open_factory(isolation, "support.programs.process_agents:parrot") as factory:
        agent, known = await restored_agent(factory, Restored())
        assert known == "kept"
        await agent.end(1.0)


async def test_an_agent_of_a_factory_that_restores_nothing_knows_nothing_and_that_is_said():
    class Factory:
        async def start(self, context):
            return context

    assert await start_restored(Factory(), CONTEXT, left(history=told("hello"))) == (
        CONTEXT,
        "none",
    )
    assert await start_restored(Factory(), CONTEXT, Restored()) == (CONTEXT, "kept")


async def test_an_agent_after_another_gets_what_is_restored_unless_its_factory_hands_on():
    class Factory:
        async def start(self, context):
            return "anew"

    class HandingOn(Factory):
        async def restart(self, context, former, restored):
            return f"after {former}", None if restored is None else "kept"

    known = left(history=told("hello"))
    assert await start_after(Factory(), CONTEXT, "one", None) == ("anew", None)
    assert await start_after(Factory(), CONTEXT, "one", known) == ("anew", "none")
    assert await start_after(HandingOn(), CONTEXT, "one", None) == ("after one", None)
    assert await start_after(HandingOn(), CONTEXT, "one", known) == ("after one", "kept")


async def test_a_memory_that_is_too_large_together_is_left_out_and_that_is_said():
    async with open_factory("task", f"{PROGRAMS}:counting_program") as factory:
        memories = [Memory(kind="counting", version=1, content=bytes(2**21))] * 13
        agent, known = await restored_agent(factory, left(*memories, history=told("one", "1")))
        assert known == "rebuilt"
        assert (await run(agent)).said == "1"


def test_one_memory_has_a_bound():
    with pytest.raises(InvalidArgument, match="2097152 bytes at most"):
        Memory(kind="counting", version=1, content=bytes(2**21 + 1))


@pytest.mark.parametrize("isolation", EITHER)
async def test_only_an_agent_that_can_go_on_says_so(isolation):
    memory = Memory(kind="counting", version=1, content=b"7")
    async with open_factory(isolation, f"{PROGRAMS}:counting_program") as factory:
        agent, _ = await restored_agent(factory)
        assert goes_on(agent, memory)
        resumed = await run(agent, suspended=Suspended(memory=memory))
        assert resumed.said == "7"
        await agent.end(1.0)
    async with open_factory(isolation, "support.programs.process_agents:parrot") as factory:
        agent, _ = await restored_agent(factory)
        assert not goes_on(agent, memory)
        await agent.end(1.0)


async def test_what_a_turn_leaves_is_collected_up_to_a_bound_and_late_memories_are_told_apart():
    released = asyncio.Event()
    turns = []

    async def script(turn):
        turn.remember(Memory(kind="test", version=1, content=b"in time"))
        large = Memory(kind="test", version=1, content=bytes(2**21))
        for _ in range(7):
            turn.remember(large)
        with pytest.raises(InvalidArgument, match="16777216 bytes a turn at most"):
            turn.remember(large)
        turns.append(turn)
        yield "said"
        await released.wait()

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        running, late = conversation.turn, []
        released.set()
        await stream.until("agent_end")
        stream.close()
    assert running.memories.left[0].content == b"in time"
    assert len(running.memories.left) == 8
    running.memories.on_late = late.append
    del running.memories.left[:]
    running.memories._size = 0
    turns[0].remember(Memory(kind="test", version=1, content=b"late"))
    assert [each.content for each in late] == [b"late"]
    assert not running.memories.left


async def test_an_approval_waits_under_the_reference_that_its_agent_made_unless_that_is_taken():
    reference = new_reference("apr")
    problems = []

    async def script(turn):
        for wrong in ("apr_1", "req_0123456789abcdef", f"{reference}0"):
            with pytest.raises(InvalidArgument):
                await turn.approval("shell", reference=wrong)
            problems.append(wrong)
        first = asyncio.create_task(turn.approval("shell", reference=reference))
        await asyncio.sleep(0)
        with pytest.raises(InvalidArgument):
            await turn.ask("really?", reference=reference)
        async with asyncio.timeout(BOUND_S):
            yield (await first).status

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("approval_required")
        conversation.approve(reference)
        await stream.until("agent_end")
        stream.close()
    assert len(problems) == 3
