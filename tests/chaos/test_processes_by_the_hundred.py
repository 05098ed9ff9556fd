"""Two hundred agents in processes of their own at once: opened, each answering, all ended."""

import asyncio

import pytest

from frontdesk.agents.builtin import process_blueprint
from support.isolated_sessions import open_isolated
from support.processes import Life
from support.sessions import Stream, open_session, text

pytestmark = [pytest.mark.anyio, pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(300)]

MANY = 200


async def test_two_hundred_agents_in_processes_answer_and_none_is_left():
    async with open_isolated(
        blueprints=[lambda keeper: process_blueprint(keeper=keeper)]
    ) as service:
        creates = (open_session(service, model="test", session_id=f"s{n}") for n in range(MANY))
        conversations = await asyncio.gather(*creates)
        family = [Life(session.pid) for session in service.store.list()]
        assert len({life.pid for life in family}) == MANY
        streams = [Stream(conversation) for conversation in conversations]
        for conversation in conversations:
            conversation.prompt("hello")
        for stream in streams:
            assert text(await stream.until("agent_end"))
        tenant = service.tenant("acme", "key-1")
        await asyncio.gather(*(tenant.delete(each.session_id) for each in conversations))
        assert all(life.over for life in family)
