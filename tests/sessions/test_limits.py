"""Limits hold in a burst: a session's place is taken before anything of it is started."""

import asyncio

import pytest

from frontdesk import Limits, SessionLimitExceeded
from frontdesk.agents import Blueprint
from frontdesk.agents.errors import CreateFailed
from frontdesk.agents.task import TaskAgent
from support.sessions import Stream, open_service, open_session, passes

pytestmark = pytest.mark.anyio

BURST = 60


class SlowFactory:
    """Start agents when the test says so, and count what was begun."""

    def __init__(self, script=None, *, fails=False):
        self.script, self.fails = script, fails
        self.begun = 0
        self.go = asyncio.Event()

    def check(self, context):
        pass

    async def start(self, context):
        self.begun += 1
        await self.go.wait()
        if self.fails:
            raise CreateFailed("not today")
        return TaskAgent(self.script)


def slow(factory, **rules):
    return Blueprint(name="slow", kind="python", factory=factory, **rules)


async def burst(service, factory, **who):
    """Ask for many sessions at once; return how each create ended."""
    creates = [asyncio.create_task(open_session(service, **who)) for _ in range(BURST)]
    await passes(20)
    factory.go.set()
    return await asyncio.gather(*creates, return_exceptions=True)


def scopes_of(results):
    return {each.scope for each in results if isinstance(each, SessionLimitExceeded)}


async def test_a_burst_against_a_blueprints_limit_starts_and_opens_no_more_than_it_allows():
    factory = SlowFactory()
    async with open_service(slow(factory, max_sessions_per_tenant=2)) as service:
        results = await burst(service, factory)
        assert factory.begun == 2
        assert service.store.count() == 2
        assert scopes_of(results) == {"per_tenant"}
        assert sum(isinstance(each, SessionLimitExceeded) for each in results) == BURST - 2


@pytest.mark.parametrize(
    ("limits", "scope"),
    [
        (Limits(per_tenant=2), "per_tenant"),
        (Limits(per_api_key=2), "per_api_key"),
        (Limits(total=2), "total"),
    ],
)
async def test_a_burst_against_a_registrys_limit_starts_no_more_than_it_allows(limits, scope):
    factory = SlowFactory()
    async with open_service(slow(factory), limits=limits) as service:
        results = await burst(service, factory)
        assert factory.begun == 2
        assert service.store.count() == 2
        assert scopes_of(results) == {scope}


async def test_another_tenant_and_another_key_have_places_of_their_own():
    factory = SlowFactory()
    async with open_service(slow(factory), limits=Limits(per_tenant=3, per_api_key=2)) as service:
        creates = [
            asyncio.create_task(open_session(service, tenant=tenant, key=key))
            for tenant in ("acme", "globex")
            for key in (f"{tenant}-1", f"{tenant}-2")
            for _ in range(10)
        ]
        await passes(20)
        factory.go.set()
        await asyncio.gather(*creates, return_exceptions=True)
        assert factory.begun == service.store.count() == 6


async def test_places_of_creates_that_fail_are_given_back():
    factory = SlowFactory(fails=True)
    async with open_service(slow(factory), limits=Limits(per_tenant=2)) as service:
        results = await burst(service, factory)
        assert sum(isinstance(each, CreateFailed) for each in results) == 2
        factory.fails = False
        for _ in range(2):
            await open_session(service)
        with pytest.raises(SessionLimitExceeded):
            await open_session(service)


async def test_places_of_creates_that_are_cancelled_are_given_back():
    factory = SlowFactory()
    async with open_service(slow(factory, max_sessions_per_tenant=2)) as service:
        creates = [asyncio.create_task(open_session(service)) for _ in range(2)]
        await passes(5)
        for create in creates:
            create.cancel()
        await asyncio.gather(*creates, return_exceptions=True)
        factory.go.set()
        for _ in range(2):
            await open_session(service)
        assert service.store.count() == 2


async def test_a_session_between_two_agents_keeps_its_place():
    async def fragile(turn):
        yield "a word"
        raise ValueError

    factory = SlowFactory(fragile)
    factory.go.set()
    rules = slow(factory, restart="on_crash", errors_end="session")
    async with open_service(rules, limits=Limits(total=1)) as service:
        conversation = await open_session(service)
        factory.go.clear()
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_abort")
        await passes(20)
        assert (service.store.count(), conversation.state) == (0, "restarting")
        with pytest.raises(SessionLimitExceeded):
            await open_session(service)
        factory.go.set()
        await stream.until("agent_restarted")
        stream.close()
        assert service.store.count() == 1
        assert not service._reservations


async def test_what_is_freed_can_be_taken_again_at_once():
    factory = SlowFactory()
    factory.go.set()
    async with open_service(slow(factory), limits=Limits(per_tenant=1)) as service:
        for _ in range(5):
            conversation = await open_session(service)
            service.store.get(f"acme/{conversation.session_id}").agent.cancel()
            await passes(3)
