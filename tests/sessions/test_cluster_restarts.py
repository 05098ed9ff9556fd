"""Sessions of a node whose agents restart, or whose ids are somebody else's by now."""

import asyncio
import time

import pytest

from frontdesk import SessionAlreadyExists, SessionNotFound
from frontdesk.agents import Blueprint
from frontdesk.agents.errors import CreateFailed
from frontdesk.cluster.index import Moment
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.sessions.errors import SessionDead
from frontdesk.sessions.tenant_sessions import OneConversation
from support.cluster_services import entries_of, open_members, reservations_of, until
from support.sessions import FakeAgent, Stream, data_of, names, open_session, passes

pytestmark = pytest.mark.anyio

BRISK = LeaseTerms(lease_s=2, isolation_grace_s=30)
"""Renewed twice a second."""

SHORT = LeaseTerms(lease_s=0.4, isolation_grace_s=0.3, kill_grace_s=0.2)


class Agent(FakeAgent):
    """An agent that says at once which fence it has, and ends when the test says so."""

    def __init__(self, fences):
        super().__init__()
        self.fences = fences

    async def run_turn(self, port):
        self.fences.append(port.context.fence)

    def crash(self):
        self.registry_agent.set_exception(RuntimeError("it died"))
        self.registry_agent.exception()


class Factory:
    """Make agents; `go` holds back the next ones, `fails` refuses them."""

    def __init__(self):
        self.agents, self.fences = [], []
        self.go = asyncio.Event()
        self.go.set()
        self.waiting = asyncio.Event()
        self.fails = False

    def check(self, context):
        pass

    async def start(self, context):
        self.waiting.set()
        await self.go.wait()
        self.waiting.clear()
        if self.fails:
            raise CreateFailed("not today")
        self.agents.append(Agent(self.fences))
        return self.agents[-1]


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level("CRITICAL", logger="frontdesk")


@pytest.fixture
def factory():
    return Factory()


def restarting(factory, **rules):
    return Blueprint(name="made", kind="python", factory=factory, restart="always", **rules)


async def fence_of_a_turn(conversation, factory):
    """Have its agent take a turn; return the fence that the agent was told."""
    stream = Stream(conversation, since=None, from_now=True)
    conversation.prompt("go")
    await stream.until("agent_end")
    stream.close()
    return factory.fences[-1]


async def test_a_restart_keeps_the_id_from_every_node_and_gets_a_higher_fence(factory):
    async with open_members(restarting(factory)) as (one, other):
        conversation = await open_session(one.service, session_id="s")
        first, identity = one.node.fence("acme/s"), conversation.fence
        factory.go.clear()
        factory.agents[-1].crash()
        await factory.waiting.wait()
        await one.node.flush()
        assert entries_of(one.server) == []
        assert reservations_of(one.server) == ["acme/s"]
        with pytest.raises(SessionAlreadyExists) as refused:
            await open_session(other.service, session_id="s")
        assert refused.value.holder is None
        factory.go.set()
        await until(lambda: (one.node.fence("acme/s") or 0) > first)
        assert entries_of(one.server) == ["acme/s"]
        assert reservations_of(one.server) == []
        assert await fence_of_a_turn(conversation, factory) == one.node.fence("acme/s")
        assert conversation.fence == identity


async def test_a_restart_that_fails_gives_the_id_free(factory):
    async with open_members(restarting(factory)) as (one, other):
        conversation = await open_session(one.service, session_id="s")
        factory.fails = True
        factory.agents[-1].crash()
        await until(lambda: conversation.ended)
        await one.service._supervisor.join()
        await one.node.flush()
        assert (entries_of(one.server), reservations_of(one.server)) == ([], [])
        factory.fails = False
        await open_session(other.service, session_id="s")


async def test_a_session_that_is_deleted_between_two_agents_gives_the_id_free(factory):
    async with open_members(restarting(factory)) as (one, other):
        await open_session(one.service, session_id="s")
        factory.go.clear()
        factory.agents[-1].crash()
        await factory.waiting.wait()
        await one.service.tenant("acme", "key-1").delete("s")
        factory.go.set()
        await one.service._supervisor.join()
        await one.node.flush()
        await until(lambda: not entries_of(one.server) and not reservations_of(one.server))
        await open_session(other.service, session_id="s")


async def test_a_session_deleted_between_two_agents_while_its_node_is_cut_off_gives_the_id_free(
    factory,
):
    async with open_members(restarting(factory), terms=BRISK) as (one, other):
        await open_session(one.service, session_id="s")
        factory.go.clear()
        one.engine.cut = True
        factory.agents[-1].crash()
        await factory.waiting.wait()
        # The index is told of the end later, and then of no next agent.
        await one.service.tenant("acme", "key-1").delete("s")
        factory.go.set()
        await one.service._supervisor.join()
        one.engine.cut = False
        await until(lambda: not entries_of(one.server) and not reservations_of(one.server))
        await open_session(other.service, session_id="s")


async def test_an_agent_is_restarted_while_its_node_is_cut_off_and_told_of_afterwards(factory):
    async with open_members(restarting(factory), terms=BRISK) as (one, _):
        conversation = await open_session(one.service)
        before = one.node.fence(f"acme/{conversation.session_id}")
        one.engine.cut = True
        factory.agents[-1].crash()
        await until(lambda: len(factory.agents) == 2 and not conversation.restarting)
        # It answers, under the last fence that is known: nobody else can have a higher one.
        assert await fence_of_a_turn(conversation, factory) == before
        one.engine.cut = False
        key = f"acme/{conversation.session_id}"
        await until(lambda: (one.node.fence(key) or 0) > before)
        assert await fence_of_a_turn(conversation, factory) == one.node.fence(key)
        assert entries_of(one.server) == [key]


async def test_a_session_that_ended_is_dead_on_every_node_with_its_reason(factory):
    async with open_members(restarting(factory)) as (one, other):
        await open_session(one.service, session_id="s")
        await one.service.tenant("acme", "key-1").delete("s")
        await one.node.flush()
        await other.node.read_all()
        with pytest.raises(SessionDead) as dead:
            other.service.tenant("acme", "key-1").find("s")
        assert dead.value.reason.kind == "deleted"
        assert dead.value.session_id == "s"
        with pytest.raises(SessionNotFound) as unknown:
            other.service.tenant("umbrella", "key-2").find("s")
        assert not isinstance(unknown.value, SessionDead)


async def test_only_the_entry_that_was_superseded_is_stopped(factory):
    async with open_members(restarting(factory)) as (one, _):
        conversation = await open_session(one.service, session_id="s")
        fence = one.store.get("acme/s").fence
        one.service.on_superseded("acme/s", fence + 1)
        one.service.on_superseded("acme/s", fence - 1)
        one.service.on_superseded("umbrella/s", fence)
        await passes()
        assert conversation.ending_reason is None
        stream = Stream(conversation)
        one.service.on_superseded("acme/s", fence)
        last = (await stream.rest())[-1]
        assert (last.name, data_of(last)) == ("session_end", {"reason": "superseded"})
        assert len(factory.agents) == 1


def buried(member):
    """Hold a node to be dead, as whoever proves it does."""
    server, incarnation = member.server, member.node.incarnation
    moment = Moment(int(time.time() * 1_000_000), f"run {server.run}", 0)
    while not server.index.bury(moment, incarnation, proven=True).done:
        pass
    server.changed.set()


async def test_who_is_told_to_be_dead_goes_on_with_new_fences_under_the_ids_that_nobody_took(
    factory,
):
    async with open_members(restarting(factory), terms=BRISK) as (one, other):
        lives = await open_session(one.service)
        key = f"acme/{lives.session_id}"
        taken = await open_session(one.service, session_id="s")
        before, identity = one.node.fence(key), lives.fence
        stream = Stream(taken)
        one.engine.cut = True
        buried(one)
        await open_session(other.service, session_id="s")
        one.engine.cut = False
        # The id that was taken since is the other's; the agent here is stopped.
        assert data_of((await stream.rest())[-1]) == {"reason": "superseded"}
        await until(lambda: (one.node.fence(key) or 0) > before)
        assert entries_of(one.server) == sorted([key, "acme/s"])
        assert one.stopped == ["acme/s"]
        # A token that was made before goes on opening the conversation.
        only = OneConversation(lives.session_id, identity)
        assert one.service.tenant("acme", "key-1", only=only).find(lives.session_id) is lives
        assert await fence_of_a_turn(lives, factory) == one.node.fence(key)


@pytest.mark.slow
async def test_cut_off_for_the_grace_agents_under_chosen_ids_are_stopped_and_minted_ones_live_on(
    factory,
):
    async with open_members(restarting(factory), terms=SHORT) as (one, _):
        chosen = await open_session(one.service, session_id="s")
        minted = await open_session(one.service)
        stream = Stream(chosen)
        one.engine.cut = True
        last = (await stream.rest())[-1]
        assert (last.name, data_of(last)) == ("session_end", {"reason": "lost"})
        assert one.stopped == ["acme/s"]
        # Long after it was held to be dead, it is told so, and joins anew.
        await until(lambda: entries_of(one.server) == [])
        await fence_of_a_turn(minted, factory)
        one.engine.cut = False
        await until(lambda: entries_of(one.server) == [f"acme/{minted.session_id}"])
        assert "session_end" not in names(Stream(minted).events)
        assert minted.ending_reason is None
