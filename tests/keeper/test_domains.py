"""An agent's process reaches its descendants alone: not gateway, keeper, or other agents."""

import ast
import asyncio
import os
import sys

import pytest

from frontdesk.keeper import landlock
from frontdesk.keeper.client import Keeper
from frontdesk.keeper.messages import Command, SpawnRequest
from support.isolated_sessions import open_isolated
from support.sessions import Stream, open_session, text

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        landlock.abi() < landlock.SIGNALS_ABI and not os.environ.get("FRONTDESK_LANDLOCK"),
        reason="this kernel's Landlock does not keep signals in",
    ),
]


async def attempts(conversation, tried):
    """Have an agent try something on other processes; return how each attempt went."""
    stream = Stream(conversation, since=str(conversation.log.last_index))
    conversation.prompt(repr(tried))
    events = await stream.until("agent_end", "agent_abort")
    stream.close()
    return ast.literal_eval(text(events))


async def test_an_agent_can_signal_nobody_but_its_own_children():
    async with open_isolated("intruder") as service:
        intruder, other = await open_session(service), await open_session(service)
        keeper = service.keeper.pid
        victims = [os.getpid(), keeper, other.pid]
        tried = [(what, pid) for what in ("signal", "stop", "group", "pidfd") for pid in victims]
        assert await attempts(intruder, tried) == ["EPERM"] * len(tried)
        assert await attempts(intruder, [("child", 0)]) == ["done"]
        assert await attempts(other, [("child", 0)]) == ["done"]


async def test_an_agent_reads_the_memory_of_nobody_else():
    async with open_isolated("intruder") as service:
        intruder, other = await open_session(service), await open_session(service)
        keeper = service.keeper.pid
        tried = [("mem", pid) for pid in (os.getpid(), keeper, other.pid)]
        outcomes = await attempts(intruder, tried)
        assert dict(zip(tried, outcomes, strict=True)) == dict.fromkeys(tried, "EACCES")
        assert await attempts(intruder, [("environ", intruder.pid)]) == ["done"]


async def test_a_program_and_what_it_executes_are_kept_in_as_well():
    script = (
        "import os, subprocess, sys\n"
        "code = 'import os, sys\\ntry: os.kill(int(sys.argv[1]), 0); print(\"done\")\\n'"
        "'except OSError as error: print(error.errno)'\n"
        "print(subprocess.run([sys.executable, '-c', code, sys.argv[1]],"
        " capture_output=True, text=True).stdout.strip())"
    )
    async with Keeper() as keeper:
        command = Command(argv=(sys.executable, "-c", script, str(os.getpid())))
        process = await keeper.spawn(SpawnRequest(run=command))
        assert (await asyncio.wait_for(process.reader.read(), 20)).strip() == b"1"
        await process.wait()


def test_the_start_says_what_a_kernel_cannot_keep_in():
    assert landlock.not_enforced(landlock.SIGNALS_ABI) is None
    assert "signal" in landlock.not_enforced(landlock.SIGNALS_ABI - 1)
    assert "memory" not in landlock.not_enforced(1)
    assert "memory" in landlock.not_enforced(0)
