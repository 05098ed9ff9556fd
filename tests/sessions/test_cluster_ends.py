"""What has gone wrong elsewhere with entries that outlive their agent, on two nodes."""

import asyncio
from contextlib import suppress

import pytest

from frontdesk import Limits, SessionAlreadyExists
from frontdesk.agents import EndSession
from frontdesk.agents.errors import CreateFailed
from frontdesk.cluster.records import EntryEnd, Selection
from frontdesk.records import ExitReason
from support.cluster_services import entries_of, open_members, reservations_of, until
from support.sessions import (
    FactoryOfTheTest,
    FakeAgent,
    Stream,
    made_by,
    nothing,
    open_session,
    parrot,
    scripted,
)

pytestmark = pytest.mark.anyio


async def until_nothing_is_left(*members):
    for each in members:
        await until(lambda each=each: not each.store.count() and not len(each.service._live))
        await until(lambda each=each: not each.service._supervisor._tasks)
        await each.node.flush()
    server = members[0].server
    await until(lambda: not entries_of(server) and not reservations_of(server))


async def by_delete(one):
    await open_session(one.service, session_id="s")
    await one.service.tenant("acme", "key-1").delete("s")


async def by_crash(one):
    conversation = await open_session(one.service, session_id="s", blueprint="crashing")
    stream = Stream(conversation)
    conversation.prompt("go")
    await stream.rest()


async def by_itself(one):
    conversation = await open_session(one.service, session_id="s", blueprint="leaving")
    stream = Stream(conversation)
    conversation.prompt("go")
    await stream.rest()


async def by_refusal(one):
    with pytest.raises(CreateFailed):
        await open_session(one.service, session_id="s", blueprint="made")


async def by_cancellation(one):
    create = asyncio.create_task(open_session(one.service, session_id="s", blueprint="slow"))
    await until(lambda: reservations_of(one.server) == ["acme/s"])
    create.cancel()
    with suppress(asyncio.CancelledError):
        await create


async def by_drain(one):
    await open_session(one.service, session_id="s")
    await one.service.drain(0)


async def crash(turn):
    yield "I will "
    raise RuntimeError("broken")


async def leave(turn):
    yield "bye"
    raise EndSession


async def refuse(context):
    raise CreateFailed("not today")


async def wait(context):
    await asyncio.Event().wait()


def blueprints():
    slow = made_by(FactoryOfTheTest(wait))
    return (
        parrot,
        scripted(crash, name="crashing", errors_end="session"),
        scripted(leave, name="leaving"),
        made_by(FactoryOfTheTest(refuse)),
        type(slow)(name="slow", kind="python", factory=slow.factory),
    )


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level("CRITICAL", logger="frontdesk")


@pytest.mark.parametrize(
    "end", [by_delete, by_crash, by_itself, by_refusal, by_cancellation, by_drain]
)
async def test_every_end_comes_back_to_a_count_of_zero_and_the_id_is_free_on_the_other_node(end):
    async with open_members(*blueprints()) as (one, other):
        await open_session(one.service, session_id="first")
        await one.service.tenant("acme", "key-1").delete("first")
        await end(one)
        await until_nothing_is_left(one, other)
        for each in (one, other):
            assert await each.node.count(Selection(tenant_id="acme")) == 0
        await open_session(other.service, session_id="s")


async def test_a_session_that_its_client_abandons_does_not_stay_for_ever():
    brief = scripted(crash, name="brief", idle_timeout_s=0.05)
    async with open_members(brief) as (one, other):
        await open_session(one.service, session_id="s")
        await until_nothing_is_left(one, other)


async def test_the_late_end_of_an_old_agent_leaves_the_new_one_on_the_other_node_alone():
    agents = [FakeAgent(), FakeAgent()]

    class Factory:
        def check(self, context):
            pass

        async def start(self, context):
            return agents.pop(0)

    async with open_members(made_by(Factory())) as (one, other):
        first = agents[0]
        await open_session(one.service, session_id="s")
        old = one.node.entry("acme/s")
        first.registry_agent.set_result(None)
        await until(lambda: entries_of(one.server) == [])
        await open_session(other.service, session_id="s")
        new = other.node.fence("acme/s")
        # Told once more, late, as a node does whose answer was lost.
        await one.engine.call(
            "end",
            one.node.incarnation,
            [end_of(old)],
        )
        (entry,) = (await one.node.list(Selection(tenant_id="acme"))).entries
        assert (entry.fence, entry.entry.incarnation) == (new, other.node.incarnation)


def end_of(entry):
    return EntryEnd(entry.entry.session_id, entry.fence, ExitReason.of("normal"), 0)


async def test_no_node_lists_or_finds_an_agent_of_its_own_that_is_over():
    agent = FakeAgent()
    async with open_members(made_by(FactoryOfTheTest(nothing, agent))) as (one, _):
        await open_session(one.service, session_id="s")
        one.engine.cut = True  # nothing is told to the index any more
        agent.registry_agent.set_result(None)
        assert one.service.live_of_tenant("acme") == []
        assert one.node.entry("acme/s") is None
        one.engine.cut = False
        await until_nothing_is_left(one)


async def test_agents_that_are_over_take_no_place_under_a_limit_on_any_node():
    agents = []

    class Factory:
        def check(self, context):
            pass

        async def start(self, context):
            agents.append(FakeAgent())
            return agents[-1]

    async with open_members(made_by(Factory()), limits=Limits(per_tenant=2)) as (one, other):
        for _ in range(3):
            await open_session(one.service)
            await open_session(other.service)
            for agent in agents:
                if not agent.registry_agent.done():
                    agent.registry_agent.set_result(None)
            for each in (one, other):
                await until(lambda each=each: not each.store.count())
                await each.node.flush()


async def test_two_revivals_at_once_make_one_owner():
    async with open_members(parrot) as members:
        for _ in range(20):
            results = await asyncio.gather(
                *(open_session(each.service, session_id="s") for each in members),
                return_exceptions=True,
            )
            refused = [each for each in results if isinstance(each, SessionAlreadyExists)]
            assert len(refused) == 1
            (owner,) = [each for each in members if each.store.count()]
            assert entries_of(owner.server) == ["acme/s"]
            await owner.service.tenant("acme", "key-1").delete("s")
            await owner.node.flush()
