"""Sessions of two nodes over one index: who has an id, how many there may be, and nothing left."""

import asyncio
import itertools

import pytest

from frontdesk import Limits, SessionAlreadyExists, SessionLimitExceeded
from frontdesk.agents import Blueprint
from frontdesk.agents.errors import CreateFailed
from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.cluster.records import Selection
from frontdesk.errors import FrontdeskError
from frontdesk.sessions.errors import Draining
from support.cluster_services import entries_of, open_members, reservations_of, until
from support.sessions import (
    FakeAgent,
    Stream,
    open_session,
    parrot,
    passes,
    scripted,
    text,
)

pytestmark = pytest.mark.anyio

BURST = 30


class CountingFactory:
    """Start agents and count what was begun, what lives and what was ended."""

    def __init__(self, *, go=None, fails=False):
        self.begun, self.agents = 0, []
        self.go, self.fails = go, fails

    def check(self, context):
        pass

    async def start(self, context):
        self.begun += 1
        if self.go is not None:
            await self.go.wait()
        await asyncio.sleep(0)
        if self.fails:
            raise CreateFailed("not today")
        agent = FakeAgent()
        self.agents.append(agent)
        return agent

    @property
    def lives(self):
        return sum(not agent.registry_agent.done() for agent in self.agents)


def counted(factory, **rules):
    return Blueprint(name="counted", kind="python", factory=factory, **rules)


def held(member):
    """Return what a node holds of sessions: nothing, where none lives or is being opened."""
    service = member.service
    return (
        member.store.count(),
        len(service._live),
        len(service._reservations),
        len(service._supervisor._tasks),
    )


async def until_nothing_is_left(*members):
    server = members[0].server
    await until(lambda: all(held(each) == (0, 0, 0, 0) for each in members))
    for each in members:
        await each.node.flush()
    await until(lambda: not entries_of(server) and not reservations_of(server))


async def test_a_session_is_in_the_index_as_long_as_it_lives_on_its_node():
    async with open_members(parrot) as (one, other):
        conversation = await open_session(one.service, session_id="s")
        (entry,) = (await other.node.list(Selection(tenant_id="acme"))).entries
        metadata = entry.metadata
        assert (metadata.session_id, metadata.api_key) == ("acme/s", "key-1")
        assert (metadata.blueprint, metadata.model) == ("parrot", "none")
        assert metadata.fence == one.node.fence("acme/s")
        stream = Stream(conversation)
        conversation.prompt("hello")
        assert text(await stream.until("agent_end")) == "hello "
        stream.close()
        await one.service.tenant("acme", "key-1").delete("s")
        await until_nothing_is_left(one, other)


async def test_an_id_that_another_node_has_is_refused_before_an_agent_is_started():
    factory = CountingFactory()
    async with open_members(counted(factory)) as (one, other):
        await open_session(one.service, session_id="s")
        with pytest.raises(SessionAlreadyExists) as refused:
            await open_session(other.service, session_id="s")
        assert refused.value.session_id == "s"
        assert "acme" not in str(refused.value)
        assert refused.value.holder.tenant_id == "acme"
        assert factory.begun == 1
        assert held(other) == (0, 0, 0, 0)


async def test_two_tenants_use_one_id_on_two_nodes_and_learn_nothing_of_each_other():
    async with open_members(parrot) as (one, other):
        await open_session(one.service, tenant="acme", session_id="s")
        await open_session(other.service, tenant="umbrella", key="key-2", session_id="s")
        assert entries_of(one.server) == ["acme/s", "umbrella/s"]
        with pytest.raises(SessionAlreadyExists) as refused:
            await open_session(one.service, tenant="umbrella", key="key-2", session_id="s")
        assert refused.value.holder.tenant_id == "umbrella"


async def test_of_a_burst_of_creates_of_one_id_on_both_nodes_one_starts_an_agent():
    factory = CountingFactory(go=asyncio.Event())
    async with open_members(counted(factory)) as members:
        creates = [
            asyncio.create_task(open_session(each.service, session_id="s"))
            for each in members
            for _ in range(BURST)
        ]
        await until(lambda: sum(task.done() for task in creates) == 2 * BURST - 1)
        factory.go.set()
        results = await asyncio.gather(*creates, return_exceptions=True)
        assert sum(isinstance(each, SessionAlreadyExists) for each in results) == 2 * BURST - 1
        assert factory.begun == 1
        assert entries_of(members[0].server) == ["acme/s"]


@pytest.mark.parametrize(
    ("limits", "rules", "scope"),
    [
        (Limits(per_tenant=3), {}, "per_tenant"),
        (Limits(per_api_key=3), {}, "per_api_key"),
        (None, {"max_sessions_per_tenant": 3}, "per_tenant"),
    ],
)
async def test_a_limit_holds_over_both_nodes_in_a_burst(limits, rules, scope):
    factory = CountingFactory()
    async with open_members(counted(factory, **rules), limits=limits) as members:
        creates = [open_session(each.service) for each in members for _ in range(BURST)]
        results = await asyncio.gather(*creates, return_exceptions=True)
        refused = [each for each in results if isinstance(each, SessionLimitExceeded)]
        assert len(refused) == 2 * BURST - 3
        assert {(each.scope, each.limit) for each in refused} == {(scope, 3)}
        assert factory.begun == 3
        assert len(entries_of(members[0].server)) == 3


async def test_the_limit_of_a_whole_store_is_each_nodes_own():
    async with open_members(parrot, limits=Limits(total=1)) as (one, other):
        await open_session(one.service)
        await open_session(other.service)
        with pytest.raises(SessionLimitExceeded) as refused:
            await open_session(other.service)
        assert refused.value.scope == "total"
        assert len(entries_of(one.server)) == 2
        assert reservations_of(one.server) == []


async def test_a_place_that_is_free_again_on_one_node_is_free_on_the_other():
    async with open_members(parrot, limits=Limits(per_tenant=1)) as (one, other):
        await open_session(one.service, session_id="s")
        await one.service.tenant("acme", "key-1").delete("s")
        await one.node.flush()
        await open_session(other.service, session_id="s")
        assert entries_of(one.server) == ["acme/s"]


async def test_an_agent_that_cannot_be_started_leaves_no_reservation_on_any_node():
    factory = CountingFactory(fails=True)
    async with open_members(counted(factory)) as (one, other):
        with pytest.raises(CreateFailed):
            await open_session(one.service, session_id="s")
        await until_nothing_is_left(one, other)
        factory.fails = False
        await open_session(other.service, session_id="s")


@pytest.mark.parametrize("minted", [True, False])
async def test_a_create_that_is_cancelled_at_any_moment_leaves_nothing(minted):
    order = {} if minted else {"session_id": "s"}
    factory = CountingFactory()
    async with open_members(counted(factory)) as (one, other):
        for moment in itertools.count():
            create = asyncio.create_task(open_session(one.service, **order))
            await passes(moment)
            if create.done():
                break
            create.cancel()
            await asyncio.wait({create})
            if not create.cancelled():
                # It was too late: the session is there, and whole.
                conversation = create.result()
                await one.service.tenant("acme", "key-1").delete(conversation.session_id)
            await until_nothing_is_left(one, other)
            assert factory.lives == 0
        assert moment > 5
        assert len(entries_of(one.server)) == 1
        assert factory.lives == 1


class FailingEngine:
    """An engine whose n-th call of the verbs that write does not answer from some moment on."""

    def __init__(self, engine, *, at, done):
        self._engine, self._left, self._done = engine, at, done
        self.failed = False

    @property
    def known(self):
        return self._engine.known

    def lease_connection(self):
        return self._engine.lease_connection()

    def __getattr__(self, name):
        verb = getattr(self._engine, name)
        if name not in ("reserve", "create", "release"):
            return verb

        async def call(*args, **kwargs):
            self._left -= 1
            if self._left >= 0:
                return await verb(*args, **kwargs)
            if self._left == -1 and self._done:
                await verb(*args, **kwargs)
            self.failed = True
            raise EngineUnavailable("no answer")

        return call


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
@pytest.mark.parametrize("at", [0, 1])
async def test_a_create_that_the_engine_does_not_answer_is_refused_and_undone(
    at, done, monkeypatch
):
    monkeypatch.setattr("frontdesk.cluster.node.CREATE_S", 0.2)
    factory = CountingFactory()
    async with open_members(counted(factory)) as (one, _):
        whole = one.node.engine
        one.node.engine = FailingEngine(whole, at=at, done=done)
        with pytest.raises(EngineUnavailable):
            await open_session(one.service, session_id="s")
        one.node.engine = whole
        assert factory.begun == at
        await until(lambda: held(one) == (0, 0, 0, 0))
        await until(lambda: not entries_of(one.server) and not reservations_of(one.server))


async def test_a_node_that_is_cut_off_starts_no_agent_for_a_create(monkeypatch):
    monkeypatch.setattr("frontdesk.cluster.node.CREATE_S", 0.2)
    factory = CountingFactory()
    async with open_members(counted(factory)) as (one, other):
        one.engine.cut = True
        with pytest.raises(EngineUnavailable):
            await open_session(one.service)
        assert factory.begun == 0
        one.engine.cut = False
        await until_nothing_is_left(one, other)
        await open_session(one.service)


async def test_a_service_that_begins_to_drain_while_the_index_is_told_opens_nothing():
    factory = CountingFactory()
    async with open_members(counted(factory)) as (one, other):
        whole = one.node.create

        async def create(*args, **kwargs):
            fence = await whole(*args, **kwargs)
            one.service.begin_draining()
            return fence

        one.node.create = create
        with pytest.raises(Draining):
            await open_session(one.service, session_id="s")
        await until_nothing_is_left(one, other)
        await open_session(other.service, session_id="s")


async def test_an_agent_that_ends_while_the_index_is_told_is_no_session():
    factory = CountingFactory()
    async with open_members(counted(factory)) as (one, other):
        whole = one.node.create

        async def create(*args, **kwargs):
            factory.agents[-1].registry_agent.set_result(None)
            await passes(5)
            return await whole(*args, **kwargs)

        one.node.create = create
        with pytest.raises(FrontdeskError):
            await open_session(one.service, session_id="s")
        await until_nothing_is_left(one, other)
        one.node.create = whole
        await open_session(other.service, session_id="s")


async def test_agents_are_told_the_fence_of_all_nodes_and_clients_are_not():
    told = []

    async def telling(turn):
        told.append(turn.fence)
        yield "told"

    async with open_members(scripted(telling)) as (one, _):
        conversation = await open_session(one.service, session_id="s")
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_end")
        stream.close()
        assert told == [one.node.fence("acme/s")]
        assert conversation.fence != told[0]
