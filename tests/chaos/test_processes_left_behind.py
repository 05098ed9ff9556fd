"""Nobody is left behind: gateways, keepers and agents are killed, and `/proc` says who lives."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from frontdesk.keeper.client import MAX_REPLACEMENTS, Keeper
from frontdesk.keeper.environment import allowed_environment, search_path
from frontdesk.keeper.errors import KeeperLost
from frontdesk.keeper.journal import SUFFIX, JournalFile, Known, sweep_journals
from frontdesk.keeper.messages import Command, SpawnRequest
from frontdesk.keeper.procfs import boot_id, fresh_run
from support.processes import PATIENCE_S, Life, lives, put_to_rest
from support.programs.keeper_children import fork, shell

pytestmark = pytest.mark.chaos


@dataclass
class Doomed:
    """A gateway that runs, and everybody who descends from it."""

    process: subprocess.Popen
    keeper: Life
    agents: list[Life]
    everybody: list[Life]


@contextlib.contextmanager
def doomed_gateway(journals):
    """Run a gateway with two families of agents; at the end, none of them lives in any case."""
    arguments = [sys.executable, "-m", "support.programs.doomed_gateway", str(journals)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=env) as process:
        try:
            said = json.loads(process.stdout.readline())
            everybody = [Life(pid) for pid in said["everybody"]]
            agents = [Life(pid) for pid in said["agents"]]
            with put_to_rest(Life(said["keeper"]), *everybody) as (keeper, *_):
                yield Doomed(process, keeper, agents, everybody)
        finally:
            process.kill()


def await_ends(*those):
    for life in those:
        life.await_end()


# -- the gateway's death -----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_no_agent_and_no_grandchild_outlives_the_gateway_however_it_dies(tmp_path, number):
    with doomed_gateway(tmp_path) as doomed:
        assert len(doomed.everybody) == 8
        assert not any(life.over for life in doomed.everybody)
        doomed.process.send_signal(number)
        assert doomed.process.wait(PATIENCE_S) == -number
        await_ends(doomed.keeper, *doomed.everybody)
        assert list(tmp_path.iterdir()) == []


def test_no_agent_outlives_a_gateway_whose_keeper_is_sent_sigterm_first(tmp_path):
    """A service manager may send the signal to every process of the service."""
    with doomed_gateway(tmp_path) as doomed:
        doomed.keeper.kill(signal.SIGTERM)
        doomed.keeper.kill(signal.SIGINT)
        doomed.keeper.kill(signal.SIGHUP)
        doomed.process.kill()
        await_ends(doomed.keeper, *doomed.everybody)


def test_the_agents_of_a_stopped_keeper_end_when_it_goes_on(tmp_path):
    with doomed_gateway(tmp_path) as doomed:
        doomed.keeper.kill(signal.SIGSTOP)
        doomed.process.kill()
        doomed.process.wait(PATIENCE_S)
        doomed.keeper.kill(signal.SIGCONT)
        await_ends(doomed.keeper, *doomed.everybody)


# -- both deaths -------------------------------------------------------------------------------


def kill_both(doomed):
    """Kill gateway and keeper so that neither can act on the other's death."""
    doomed.keeper.kill(signal.SIGSTOP)
    doomed.process.kill()
    doomed.process.wait(PATIENCE_S)
    doomed.keeper.kill()
    doomed.keeper.await_end()


def test_agents_die_with_their_keeper(tmp_path):
    with doomed_gateway(tmp_path) as doomed:
        kill_both(doomed)
        await_ends(*doomed.agents)


def test_the_next_start_ends_what_gateway_and_keeper_left_when_both_were_killed(tmp_path, caplog):
    caplog.set_level(logging.WARNING)

    async def start_again():
        async with Keeper(journals=tmp_path):
            assert all(life.over for life in doomed.everybody)

    with doomed_gateway(tmp_path) as doomed:
        kill_both(doomed)
        await_ends(*doomed.agents)
        left = [life for life in doomed.everybody if not life.over]
        assert len(left) == 6
        asyncio.run(start_again())
        assert list(tmp_path.iterdir()) == []
    assert f"ended {len(left)} processes that an earlier run had left" in caplog.text


def test_the_next_start_leaves_the_processes_of_a_living_gateway_alone(tmp_path):
    async def start_another():
        async with Keeper(journals=tmp_path):
            pass

    with doomed_gateway(tmp_path) as doomed:
        asyncio.run(start_another())
        assert not any(life.over for life in doomed.everybody)


def leave_journal(directory, run, *entries, boot=None):
    """Leave a journal as a keeper that was killed would."""
    journal = JournalFile(directory, run=run)
    for entry in entries:
        journal.add(entry)
    journal._file.close()
    if boot is not None:
        (path,) = directory.glob(f"*{SUFFIX}")
        path.write_text(path.read_text().replace(boot_id(), boot))


@pytest.fixture
def bystander():
    """A process that has nothing to do with any keeper."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        try:
            yield Life(process.pid)
        finally:
            process.kill()


def test_a_leftover_is_known_by_its_start_time(tmp_path, bystander):
    """The entry is of a process that ended, whose pid the bystander was given."""
    leave_journal(tmp_path, fresh_run(), Known(bystander.pid, bystander.start_time - 1))
    assert sweep_journals(tmp_path) == 0
    assert not bystander.over


def test_a_leftover_is_known_by_its_boot(tmp_path, bystander):
    entry = Known(bystander.pid, bystander.start_time)
    leave_journal(tmp_path, fresh_run(), entry, boot="another boot of this machine")
    assert sweep_journals(tmp_path) == 0
    assert not bystander.over
    assert list(tmp_path.iterdir()) == []


def test_a_leftover_is_ended_by_its_entry_alone(tmp_path, bystander):
    leave_journal(tmp_path, fresh_run(), Known(bystander.pid, bystander.start_time))
    assert sweep_journals(tmp_path) == 1
    assert bystander.over


@pytest.mark.parametrize("text", ["", "{", "\x00\x01", '{"boot":1}', "[]\n1 2\n"])
def test_a_journal_that_is_cut_off_or_damaged_does_not_keep_the_next_from_starting(tmp_path, text):
    path = tmp_path / f"1{SUFFIX}"
    path.write_text(text)

    async def start():
        async with Keeper(journals=tmp_path) as keeper:
            process = await keeper.spawn(shell("true"))
            assert await process.wait() == 0

    asyncio.run(start())
    assert not path.exists()


def test_a_journal_does_not_grow_with_the_processes_that_have_gone(tmp_path):
    journal = JournalFile(tmp_path, run=fresh_run())
    for pid in range(1, 2000):
        journal.add(Known(pid, 0))
        journal.remove(Known(pid, 0))
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size < 10_000
    journal.close()


# -- tags --------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim_is", ["older", "younger"])
def test_a_descendant_that_takes_another_agents_tag_ends_with_its_own_agent(victim_is):
    async def main():
        async with asyncio.timeout(3 * PATIENCE_S), Keeper() as keeper:
            older = await keeper.spawn(fork("echo"))
            thief = await keeper.spawn(fork("leave_a_thief"))
            younger = await keeper.spawn(fork("echo"))
            victim = older if victim_is == "older" else younger
            thief.writer.write(b"%d" % victim.pid)
            with put_to_rest(Life(int(await thief.reader.readline()))) as (stolen,):
                assert await thief.end(0)
                # A process of nobody's is killed by then, but not waited for.
                stolen.await_end()
            for other in (older, younger):
                other.writer.write(b"still here")
                assert await other.reader.readexactly(10) == b"still here"

    asyncio.run(main())


def test_a_keeper_below_another_ones_agent_tells_its_children_from_each_other():
    nested = (
        "import asyncio, sys\n"
        "from frontdesk.keeper.client import Keeper\n"
        "from support.programs.keeper_children import shell\n"
        "async def main():\n"
        "    async with Keeper() as keeper:\n"
        "        one, other = await keeper.spawn(shell('(sleep 1000 &) ; echo ready; cat')), None\n"
        "        await one.reader.readline()\n"
        "        other = await keeper.spawn(shell('true'))\n"
        "        await other.wait_gone()\n"
        "        print('gone' if one.exited else 'alive', await one.end(0), flush=True)\n"
        "asyncio.run(main())\n"
    )
    env = {**allowed_environment(), "PYTHONPATH": os.pathsep.join(search_path())}

    async def main():
        async with asyncio.timeout(3 * PATIENCE_S), Keeper() as keeper:
            command = Command(argv=(sys.executable, "-c", nested), env=env)
            process = await keeper.spawn(SpawnRequest(run=command))
            assert await process.reader.read() == b"alive True\n"
            assert await process.wait() == 0

    asyncio.run(main())


# -- the keeper's death ------------------------------------------------------------------------


async def await_replacement(keeper, *, instead_of):
    """Wait for the next keeper."""
    async with asyncio.timeout(PATIENCE_S):
        while keeper.pid in (None, instead_of):
            await asyncio.sleep(0.001)


def test_a_keeper_that_is_killed_takes_its_agents_with_it_and_is_replaced():
    async def main():
        async with asyncio.timeout(3 * PATIENCE_S), Keeper() as keeper:
            process = await keeper.spawn(fork("leave_a_family"))
            family = lives((await process.reader.read(4096)).decode())
            with put_to_rest(*family):
                first = keeper.pid
                Life(first).kill()
                await process.wait_gone()
                assert all(life.over for life in family)
                assert process.exited
                assert await process.end(0)
                await await_replacement(keeper, instead_of=first)
                after = await keeper.spawn(shell("echo still here"))
                assert await after.reader.read() == b"still here\n"

    asyncio.run(main())


def test_a_spawn_under_way_when_the_keeper_dies_is_refused_and_leaves_nothing():
    async def main():
        async with asyncio.timeout(3 * PATIENCE_S), Keeper() as keeper:
            life = Life(keeper.pid)
            life.kill(signal.SIGSTOP)
            before = set(os.listdir("/proc/self/fd"))
            spawning = asyncio.create_task(keeper.spawn(fork("echo")))
            await asyncio.sleep(0.01)
            assert not spawning.done()
            life.kill()
            with pytest.raises(KeeperLost):
                await spawning
            with pytest.raises(KeeperLost):
                await keeper.spawn(fork("echo"))
            await await_replacement(keeper, instead_of=life.pid)
            await asyncio.sleep(0)
            assert len(set(os.listdir("/proc/self/fd")) - before) <= 2  # the new keeper's own

    asyncio.run(main())


async def soon_lost(keeper):
    """Spawn until the keeper is noticed to be gone."""
    with contextlib.suppress(KeeperLost):
        while True:
            await keeper.spawn(shell("true"))


def test_a_keeper_that_keeps_dying_is_replaced_so_often_and_no_more():
    async def main():
        async with asyncio.timeout(3 * PATIENCE_S), Keeper() as keeper:
            for _ in range(MAX_REPLACEMENTS):
                pid = keeper.pid
                Life(pid).kill()
                await await_replacement(keeper, instead_of=pid)
            Life(keeper.pid).kill()
            await soon_lost(keeper)
            await keeper._replacing
            with pytest.raises(KeeperLost, match=f"died over {MAX_REPLACEMENTS} times"):
                await keeper.spawn(shell("true"))

    asyncio.run(main())


# -- the agent's end ---------------------------------------------------------------------------


def ended_family(order, end):
    """Spawn a family, end its first in some way, and wait until the keeper reports it gone."""

    async def main():
        async with asyncio.timeout(3 * PATIENCE_S), Keeper() as keeper:
            bystander = await keeper.spawn(fork("echo"))
            process = await keeper.spawn(order)
            family = lives((await process.reader.readuntil(b"\n")).decode())
            with put_to_rest(*family):
                await end(process)
                await process.wait_gone()
                assert [life for life in family if not life.over] == []
            bystander.writer.write(b"x")
            assert await bystander.reader.readexactly(1) == b"x"
            return process.returncode

    return asyncio.run(main())


async def kill_it(process):
    os.kill(process.pid, signal.SIGKILL)


async def end_it(process):
    assert await process.end(0.1)


async def let_it_exit(process):
    process.writer.write(b"x")


def test_descendants_die_with_an_agent_that_is_killed():
    assert ended_family(fork("leave_a_family"), kill_it) == -signal.SIGKILL


def test_descendants_die_with_an_agent_that_exits_by_itself():
    assert ended_family(fork("leave_a_family_and_exit"), let_it_exit) == 0


def test_descendants_die_with_an_agent_that_is_ended():
    assert ended_family(fork("leave_a_family"), end_it) == -signal.SIGKILL


def test_a_daemon_may_live_as_long_as_its_agent():
    async def main():
        async with asyncio.timeout(3 * PATIENCE_S), Keeper() as keeper:
            process = await keeper.spawn(shell("(setsid sleep 1000 & echo $!); read line"))
            (daemon,) = lives((await process.reader.readline()).decode())
            # Other agents come and go, and the keeper looks after orphans each time.
            for _ in range(3):
                await (await keeper.spawn(shell("true"))).wait_gone()
            assert not daemon.over
            process.writer.write(b"\n")
            await process.wait_gone()
            assert daemon.over

    asyncio.run(main())


def test_what_an_agent_leaves_may_use_the_rest_of_the_grace_period():
    """The launcher ends at once when it is asked; its child tidies up first."""
    child = "sh -c 'trap \"echo tidied; exit\" TERM; echo ready; while :; do sleep 0.01; done'"

    async def main():
        async with asyncio.timeout(3 * PATIENCE_S), Keeper() as keeper:
            process = await keeper.spawn(shell(f"trap 'exit 3' TERM; {child} & wait"))
            assert await process.reader.readline() == b"ready\n"
            assert await process.end(PATIENCE_S)
            assert await process.reader.read() == b"tidied\n"
            assert process.returncode == 3

    asyncio.run(main())


def test_an_agent_that_forks_without_measure_is_ended_whole():
    order = shell(
        "trap '' TERM; for n in $(seq 100); do (setsid sleep 1000 & echo $!); "
        "setsid sh -c 'sleep 1000 & (setsid sleep 1000 &) ; wait' & done; echo; wait"
    )

    async def main():
        async with asyncio.timeout(3 * PATIENCE_S), Keeper() as keeper:
            process = await keeper.spawn(order)
            text = (await process.reader.readuntil(b"\n\n")).decode()
            with put_to_rest(*lives(text)) as family:
                assert len(family) == 100
                assert await process.end(0)
                assert all(life.over for life in family)
                assert children_of_keeper(keeper) == []

    asyncio.run(main())


def children_of_keeper(keeper):
    path = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children")
    return path.read_text().split()


def test_agents_are_ended_and_spawned_in_a_storm_and_none_is_lost():
    async def one(keeper, number):
        process = await keeper.spawn(fork("leave_a_family") if number % 3 else shell("cat"))
        if number % 3:
            family = lives((await process.reader.readuntil(b"\n")).decode())
        else:
            family = [Life(process.pid)]
        if number % 2:
            os.kill(process.pid, signal.SIGKILL)
            await process.wait_gone()
        else:
            assert await process.end(0)
        assert [life for life in family if not life.over] == []

    async def main():
        async with asyncio.timeout(3 * PATIENCE_S), Keeper() as keeper:
            await asyncio.gather(*(one(keeper, number) for number in range(40)))
            assert len(keeper) == 0

    asyncio.run(main())
