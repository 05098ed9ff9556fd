"""An agent's process reaches its descendants alone: not gateway, keeper, or other agents."""

import ast
import asyncio
import os
import socket
import subprocess
import sys

import pytest

from frontdesk.keeper import landlock
from frontdesk.keeper.client import Keeper
from frontdesk.keeper.messages import Command, SpawnRequest
from support.isolated_sessions import open_isolated
from support.programs.keeper_children import shell
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
        ways = ("mem", "environ", "maps", "vm", "link", "fd")
        tried = [(way, pid) for way in ways for pid in (os.getpid(), keeper, other.pid)]
        outcomes = await attempts(intruder, tried)
        went = dict(zip(tried, outcomes, strict=True))
        assert {one: how for one, how in went.items() if how not in ("EACCES", "EPERM")} == {}
        own = [(way, intruder.pid) for way in ways if way != "mem"]
        assert await attempts(intruder, own) == ["done"] * len(own)


async def test_an_agent_connects_to_no_abstract_socket_of_somebody_else():
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0frontdesk-test-{os.getpid()}")
        server.listen()
        async with open_isolated("intruder") as service:
            intruder = await open_session(service)
            assert await attempts(intruder, [("abstract", os.getpid())]) == ["EPERM"]


async def test_an_agent_moves_and_links_files_between_directories(tmp_path):
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    script = "echo word > from/a && ln from/a to/b && mv from/a to/c && cat to/b to/c"
    # `mv` would copy where it may not move: the two are one file still.
    script += " && test to/b -ef to/c && echo one"
    async with Keeper() as keeper:
        process = await keeper.spawn(shell(script, cwd=str(tmp_path)))
        assert (await asyncio.wait_for(process.reader.read(), 20)).split() == [
            *(b"word", b"word", b"one")
        ]
        await process.wait()


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
    assert "memory" not in landlock.not_enforced(landlock.MEMORY_ABI)
    assert "memory" in landlock.not_enforced(landlock.MEMORY_ABI - 1)


def test_what_an_older_kernel_has_is_used_and_takes_no_more(tmp_path):
    """The kernel is asked for its version; here it answers with an older one's."""
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    script = (
        "import os, sys\n"
        "from frontdesk.keeper import landlock\n"
        "landlock.abi = lambda: int(sys.argv[1])\n"
        "landlock.enter_domain()\n"
        "open('from/a', 'w').close(); os.rename('from/a', 'to/a'); os.kill(os.getppid(), 0)\n"
        "try: open(f'/proc/{os.getppid()}/mem'); print('read')\n"
        "except PermissionError: print('kept in')\n"
    )
    for version, said in ((0, "read"), (1, "read"), (2, "kept in"), (5, "kept in")):
        command = [sys.executable, "-c", script, str(version)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == said, version
