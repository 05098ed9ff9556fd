"""Any interleaving of creates, ends, cancellations and cuts on two nodes comes out whole."""

import asyncio
import logging
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frontdesk import Limits
from frontdesk.agents.blueprints import Blueprint
from frontdesk.cluster import node as nodes
from frontdesk.errors import FrontdeskError, SessionNotFound
from support.cluster_services import entries_of, open_members, reservations_of, until
from support.sessions import FakeAgent, open_session, passes

LIMIT = 3
IDS = ("a", "b", None)

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ("create", "create", "create", "delete", "crash", "cancel", "cut", "heal", "pass")
        ),
        st.integers(0, 1),
        st.sampled_from(IDS),
        st.integers(0, 12),
    ),
    max_size=30,
)


class Factory:
    """Make agents that take a moment to start."""

    def __init__(self):
        self.agents = []

    def check(self, context):
        pass

    async def start(self, context):
        await asyncio.sleep(0)
        self.agents.append((f"{context.tenant_id}/{context.session_id}", FakeAgent()))
        return self.agents[-1][1]


async def run(steps, *, restart):
    factory = Factory()
    made = Blueprint(name="made", kind="python", factory=factory, restart=restart)
    async with open_members(made, limits=Limits(per_tenant=LIMIT)) as members:
        creates, ends = [], []
        for kind, number, session_id, moments in steps:
            member = members[number]
            if kind == "create":
                order = {} if session_id is None else {"session_id": session_id}
                creates.append(asyncio.create_task(open_session(member.service, **order)))
            elif kind == "delete":
                ends.append(asyncio.create_task(deleted(member, session_id or "a")))
            elif kind == "crash":
                for key, agent in factory.agents:
                    if key == f"acme/{session_id or 'a'}" and not agent.registry_agent.done():
                        agent.registry_agent.set_result(None)
            elif kind == "cancel" and creates:
                creates[moments % len(creates)].cancel()
            elif kind in ("cut", "heal"):
                member.engine.cut = kind == "cut"
            await passes(moments)
            assert sum(each.store.count() for each in members) <= LIMIT
        for member in members:
            member.engine.cut = False
        results = await asyncio.gather(*creates, return_exceptions=True)
        await asyncio.gather(*ends)
        refused = (FrontdeskError, asyncio.CancelledError)
        assert all(isinstance(each, refused) or each.session_id for each in results)
        await whole(members, factory)


async def deleted(member, session_id):
    with suppress(SessionNotFound):
        await member.service.tenant("acme", "key-1").delete(session_id)


async def whole(members, factory):
    """Wait until nothing is under way; then the index has what lives, each id once."""
    server = members[0].server
    for each in members:
        await until(lambda each=each: not each.service._supervisor._tasks)

    def living():
        return sorted(one.session_id for each in members for one in each.store.list())

    await until(lambda: entries_of(server) == living() and not reservations_of(server))
    assert len(set(living())) == len(living()) <= LIMIT
    for each in members:
        assert len(each.service._reservations) == 0
        assert len(each.service._live) == each.store.count()
    assert sum(not agent.registry_agent.done() for _, agent in factory.agents) == len(living())


@pytest.mark.parametrize("restart", ["never", "always"])
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_after_any_interleaving_the_index_has_what_lives_and_nothing_else(
    restart, steps, monkeypatch
):
    monkeypatch.setattr(nodes, "CREATE_S", 0.05)
    logging.disable()
    try:
        asyncio.run(run(steps, restart=restart))
    finally:
        logging.disable(logging.NOTSET)
