"""One agent after another in a conversation: nothing of one gets into a turn of the next.

Agents in processes die at seeded moments (a kill, an exit, an exit within a frame, an exception, a
kill from outside, an abort beside it) while more prompts wait.
"""

import asyncio
import logging
import os
import random
from contextlib import suppress
from itertools import groupby

import pytest

from frontdesk.agents import RestartLimit
from support.isolated_sessions import open_isolated
from support.sessions import Stream, names, open_session, text

pytestmark = pytest.mark.anyio

PROMPTS = 6
SESSIONS = 4
ENDS = ("kill", "exit", "half", "raise", "outside", "none")
PLACES = (0, 1, 2, 5, 30)
PAUSES_S = (0.0, 0.0, 0.001, 0.02)


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, logger="frontdesk")


@pytest.mark.parametrize("seed", range(4))
async def test_agents_that_die_at_any_moment_leave_the_turns_of_the_next_ones_whole(seed):
    rules = {
        "restart": "always",
        "restart_limit": RestartLimit(1000, 1.0),
        "errors_end": "session",
    }
    async with open_isolated("mortal", fields=rules) as service:
        await asyncio.gather(
            *(_assert_whole_turns(service, random.Random(f"{seed}.{n}")) for n in range(SESSIONS))
        )


async def _assert_whole_turns(service, moments):
    conversation = await open_session(service)
    stream = Stream(conversation, bound_s=60)
    said = {}
    for number in range(PROMPTS):
        how, place = moments.choice(ENDS), moments.choice(PLACES)
        answer = f"<{conversation.session_id} {number} {'abcdefghij' * 4}>"
        said[conversation.prompt(repr([how, place, answer])).request_id] = answer
        if how == "outside" and conversation.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(conversation.pid, 9)
        if moments.random() < 0.2:
            conversation.abort()
        await asyncio.sleep(moments.choice(PAUSES_S))
    await stream.until("agent_end", "agent_abort", count=PROMPTS)
    stream.close()
    turns = [
        (request_id, list(events))
        for request_id, events in groupby(stream.events, key=lambda event: event.request_id)
        if request_id is not None
    ]
    assert [request_id for request_id, _ in turns] == list(said), "one turn after another"
    for request_id, events in turns:
        kinds = names(events)
        assert kinds[:2] == ["prompt_received", "agent_start"]
        assert kinds[-1] in ("agent_end", "agent_abort")
        if kinds[-1] == "agent_end":
            assert text(events) == said[request_id]
        else:
            assert said[request_id].startswith(text(events))
    await service.tenant("acme", "key-1").delete(conversation.session_id)
