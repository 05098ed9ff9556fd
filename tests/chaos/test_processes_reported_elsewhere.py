"""Processes left behind elsewhere: failures that users of comparable software have reported.

One test for each, named after what must not happen. What the tests know of each other's life they
read from `/proc`.
"""

import asyncio
import os
import signal

import pytest

from frontdesk import SessionAlreadyExists, SessionNotFound
from frontdesk.keeper.client import Keeper
from support.isolated_sessions import open_isolated
from support.processes import Life, lives, put_to_rest
from support.programs.keeper_children import shell
from support.sessions import BOUND_S, Stream, names, open_session, text

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]


async def rowdy_turn(service, prompt):
    """Let an agent do something to its process; return the session and its stream."""
    conversation = await open_session(service, blueprint="rowdy")
    stream = Stream(conversation)
    conversation.prompt(prompt)
    await stream.until("message_delta")
    conversation.steer("now")
    await stream.until("steering")
    return conversation, stream


def life_of(service, conversation):
    return Life(service.store.get(f"acme/{conversation.session_id}").pid)


async def delete(service, conversation):
    await service.tenant("acme", "key-1").delete(conversation.session_id)


@pytest.mark.parametrize("deaf", ["", "trap '' TERM; "])
async def test_grandchildren_do_not_live_on_when_a_signal_reaches_the_launcher_only(deaf):
    launcher = shell(f"sh -c '{deaf}echo $$; sleep 1000 & echo $!; echo end; wait' & echo $!; wait")
    async with Keeper() as keeper:
        process = await keeper.spawn(launcher)
        said = (await process.reader.readuntil(b"end\n")).decode().replace("end", "")
        with put_to_rest(*lives(said)) as family:
            assert len({life.pid for life in family}) == 2
            os.kill(process.pid, signal.SIGTERM)
            await process.wait_gone()
            assert all(life.over for life in family)


async def test_the_registry_does_not_say_zero_while_processes_run():
    async with open_isolated("rowdy") as service:
        conversation, stream = await rowdy_turn(service, "children")
        family = [life_of(service, conversation), *lives(text(await stream.until("message_delta")))]
        with put_to_rest(*family):
            await delete(service, conversation)
            assert service.store.count() == 0
            assert all(life.over for life in family)
            assert len(service.keeper) == 0


async def test_processes_do_not_stay_when_the_registry_has_lost_their_session():
    async with open_isolated("rowdy") as service:
        conversation, stream = await rowdy_turn(service, "children")
        (child,) = lives(text(await stream.until("message_delta")))
        with put_to_rest(child):
            # Somebody of the operator's takes the entry out, behind the service's back.
            service.store.delete(f"acme/{conversation.session_id}")
            await stream.rest()
            async with asyncio.timeout(BOUND_S):
                while len(service.keeper):
                    await asyncio.sleep(0.001)
            assert child.over


async def test_an_agent_does_not_live_on_by_ignoring_the_end_of_its_input():
    async with Keeper() as keeper:
        process = await keeper.spawn(shell("trap '' TERM; echo deaf; while :; do sleep 1000; done"))
        assert await process.reader.readline() == b"deaf\n"
        life = Life(process.pid)
        process.writer.write_eof()
        assert not life.over
        assert await process.end(0.05)
        assert life.over


async def test_attaching_to_a_live_id_does_not_start_a_second_child():
    async with open_isolated("parrot") as service:
        await open_session(service, session_id="one")
        for _ in range(3):
            with pytest.raises(SessionAlreadyExists):
                await open_session(service, session_id="one")
        assert len(service.keeper) == 1
        creates = [open_session(service, session_id="two") for _ in range(5)]
        outcomes = await asyncio.gather(*creates, return_exceptions=True)
        assert sum(isinstance(each, SessionAlreadyExists) for each in outcomes) == 4
        assert len(service.keeper) == 2


async def test_closing_does_not_hang_or_spin_after_a_cancellation():
    async with open_isolated("sleeper", abort_grace_s=10) as service:
        conversation = await open_session(service)
        for _ in range(3):
            stream = Stream(conversation, since=str(conversation.log.last_index))
            conversation.prompt("go")
            await stream.until("message_delta")
            conversation.abort()
            await stream.until("agent_abort")
        before_s = sum(os.times()[:2])
        await delete(service, conversation)
        assert len(service.keeper) == 0
        assert sum(os.times()[:2]) - before_s < 1.0


@pytest.mark.parametrize("prompt", ["hang", "block", "spin"])
async def test_a_delete_during_a_prompt_does_not_go_unanswered(prompt):
    async with open_isolated("rowdy", end_grace_s=0.5) as service:
        conversation, stream = await rowdy_turn(service, prompt)
        life = life_of(service, conversation)
        deletes = [delete(service, conversation) for _ in range(3)]
        outcomes = await asyncio.gather(*deletes, return_exceptions=True)
        assert all(each is None or isinstance(each, SessionNotFound) for each in outcomes)
        assert names(await stream.rest())[-2:] == ["agent_abort", "session_end"]
        assert life.over
