"""A stored session whose agent is restarted: the next one has what a resumed one would have."""

import logging

import pytest

from support.sessions import (
    Stream,
    data_of,
    open_session,
    scripted,
    text,
)
from support.stored_services import leave, stored

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, logger="frontdesk")


async def counting(turn):
    """Count its turns in `turn.memory`, and crash where it is told so."""
    if turn.text == "crash":
        raise ValueError("as asked")
    turn.memory = [*(turn.memory or []), turn.text]
    yield f"{turn.memory} {len(turn.history)}"


def restarting(script=counting, **rules):
    return scripted(script, name="b", errors_end="session", restart="on_crash", **rules)


async def said(stream, conversation, *prompts):
    """Prompt one after another; return what the agent says to the last."""
    for prompt in prompts:
        conversation.prompt(prompt)
        events = await stream.until("agent_end", "agent_abort")
    return text(events)


async def crashed(stream, conversation):
    """Have the agent crash; return what `agent_restarted` says."""
    conversation.prompt("crash")
    return data_of((await stream.until("agent_restarted"))[-1])


async def test_an_agent_that_is_restarted_has_the_memory_of_the_last_turn_that_ended(tmp_path):
    async with stored(tmp_path, restarting()) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        await said(stream, conversation, "one", "two")
        event = await crashed(stream, conversation)
        assert event == {"reason": "crashed: ValueError", "count": 1, "memory": "kept"}
        assert await said(stream, conversation, "three") == "['one', 'two', 'three'] 5"
        stream.close()
        await leave(service, conversation)
        stream = Stream(conversation, since=None, from_now=True)
        assert await said(stream, conversation, "four") == "['one', 'two', 'three', 'four'] 7"
        stream.close()
