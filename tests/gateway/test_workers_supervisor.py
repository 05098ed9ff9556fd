"""The supervisor of workers, over small programs in place of gateways: starts, deaths, changes."""

import asyncio
import os
import signal
import sys
import textwrap
from contextlib import asynccontextmanager

import pytest

from frontdesk.gateway.workers.channel import Assignment, WorkerChannel
from frontdesk.gateway.workers.child_processes import ChildProcesses
from frontdesk.gateway.workers.death_limit import DeathLimit
from frontdesk.gateway.workers.supervisor import (
    ENDED,
    FAILED,
    WRONG_USE,
    Service,
    ServiceSupervisor,
)

pytestmark = pytest.mark.slow

WITHIN_S = 60
PROGRAM = textwrap.dedent("""
    import fcntl, os, select, signal, socket, sys
    from pathlib import Path
    from frontdesk.gateway.workers.channel import WorkerChannel, Order, Report
    channel = WorkerChannel(socket.socket(fileno=int(sys.argv[1])))
    assignment = channel.receive_assignment()
    directory, name = Path(assignment.sockets), f"{assignment.number}"
    how = (directory / "how").read_text()
    if how == "refuses":
        sys.exit(2)
    channel.send(Report.WAITING)
    with (directory / f"lock.{name}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        channel.send(Report.SERVING)
        while not channel.closed:
            select.select([channel], [], [])
            for order in channel.orders():
                with (directory / f"orders.{name}").open("a") as orders:
                    orders.write(f"{order} ")
                if order is Order.DRAIN and how != "deaf":
                    sys.exit(0)
""")


class Workers:
    """A supervisor under test, with what it was told and told others."""

    def __init__(self, directory, count, *, drain_s=WITHIN_S):
        self.directory, self.drain_s = directory, drain_s
        self.behave("serves")
        self.children = ChildProcesses()
        self.started, self.died, self.crashed, self.problem = [], [], [], None
        self.serving = asyncio.Event()
        self.supervisor = ServiceSupervisor(
            Service(
                workers=count,
                spawn=self.spawn,
                check=self.check,
                on_death=self.died.append,
                on_crash=self.crashed.append,
                on_serving=self.serving.set,
                drain_s=lambda: self.drain_s,
            ),
            children=self.children,
        )

    def behave(self, how):
        (self.directory / "how").write_text(how)

    def spawn(self, number, on_exit):
        channel, theirs = WorkerChannel.pair()
        with theirs:
            command = [sys.executable, "-c", PROGRAM, str(theirs.fileno())]
            pid = self.children.start(command, on_exit=on_exit, inherited=[theirs.fileno()])
        self.started.append((number, pid))
        channel.send(
            Assignment(
                number=number,
                supervisor=os.getpid(),
                listening=0,
                sockets=str(self.directory),
                file=None,
                given={},
                dev=False,
                first=False,
            )
        )
        return pid, channel

    def check(self):
        outcome = asyncio.get_running_loop().create_future()
        outcome.set_result(self.problem)
        return outcome

    def orders(self, number):
        file = self.directory / f"orders.{number}"
        return file.read_text().split() if file.exists() else []

    async def until(self, holds):
        async with asyncio.timeout(WITHIN_S):
            while not holds():
                await asyncio.sleep(0.01)

    def pids(self):
        return [pid for _, pid in self.started]


@asynccontextmanager
async def running(directory, count, **options):
    workers = Workers(directory, count, **options)
    workers.run = asyncio.create_task(workers.supervisor.run())
    try:
        yield workers
    finally:
        workers.supervisor.end()
        workers.children.kill_all()
        await asyncio.wait_for(workers.run, WITHIN_S)
        left = [pid for pid in workers.pids() if is_there(pid)]
        assert left == []


def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def serving(workers):
    await asyncio.wait_for(workers.serving.wait(), WITHIN_S)


def test_all_workers_serve_and_drain_when_the_service_ends(tmp_path):
    async def scenario():
        async with running(tmp_path, 3) as workers:
            await serving(workers)
            assert [number for number, _ in workers.started] == [1, 2, 3]
            workers.supervisor.end()
            assert await asyncio.wait_for(workers.run, WITHIN_S) == ENDED
            assert [workers.orders(number) for number in (1, 2, 3)] == [["drain"]] * 3
            assert sorted(workers.died) == sorted(workers.pids())

    asyncio.run(scenario())


def test_a_worker_that_dies_is_told_of_and_replaced(tmp_path):
    async def scenario():
        async with running(tmp_path, 2) as workers:
            await serving(workers)
            (_, first), (_, second) = workers.started
            os.kill(second, signal.SIGKILL)
            await workers.until(lambda: len(workers.started) == 3)
            assert workers.died == [second]
            assert workers.crashed == [2]
            assert workers.started[2][0] == 2
            assert is_there(first)

    asyncio.run(scenario())


def test_five_deaths_within_a_minute_end_the_service_and_it_says_why(tmp_path, caplog):
    async def scenario():
        async with running(tmp_path, 2) as workers:
            await serving(workers)
            workers.behave("dies")
            os.kill(workers.started[0][1], signal.SIGKILL)
            assert await asyncio.wait_for(workers.run, WITHIN_S) == FAILED
            assert len(workers.started) == 2 + 4

    asyncio.run(scenario())
    assert "5 deaths of workers in 60 s: the service ends" in caplog.text
    assert caplog.text.count("SIGKILL") == 5


def test_a_worker_that_cannot_start_ends_the_service_at_once(tmp_path):
    async def scenario():
        (tmp_path / "how").write_text("refuses")
        workers = Workers(tmp_path, 2)
        workers.behave("refuses")
        assert await asyncio.wait_for(workers.supervisor.run(), WITHIN_S) == WRONG_USE
        assert len(workers.started) == 2

    asyncio.run(scenario())


def test_a_worker_that_does_not_drain_in_time_is_killed(tmp_path):
    async def scenario():
        async with running(tmp_path, 1, drain_s=0.2) as workers:
            workers.behave("deaf")
            await serving(workers)
            workers.supervisor.end()
            assert await asyncio.wait_for(workers.run, WITHIN_S) == ENDED

    asyncio.run(scenario())


def test_a_reload_is_passed_to_all_workers_unless_something_is_wrong(tmp_path, caplog):
    async def scenario():
        async with running(tmp_path, 2) as workers:
            await serving(workers)
            workers.problem = "line 3: must be a number"
            workers.supervisor.reload()
            await workers.until(lambda: "line 3" in caplog.text)
            workers.problem = None
            workers.supervisor.reload()
            await workers.until(lambda: workers.orders(1) and workers.orders(2))
            assert workers.orders(1) == workers.orders(2) == ["reload"]
            assert caplog.text.count("not reloaded") == 1

    asyncio.run(scenario())


def test_a_rolling_restart_replaces_one_after_the_other_and_the_next_one_is_there_first(tmp_path):
    async def scenario():
        async with running(tmp_path, 2) as workers:
            await serving(workers)
            before = workers.pids()
            workers.supervisor.restart()
            await workers.until(lambda: len(workers.died) == 2)
            assert workers.died == before
            assert workers.crashed == []
            assert [number for number, _ in workers.started] == [1, 2, 1, 2]
            await workers.until(lambda: workers.supervisor.all_serve)
            assert all(map(is_there, workers.pids()[2:]))

    asyncio.run(scenario())


@pytest.mark.parametrize("problem", ["line 3: must be a number", None])
def test_a_restart_that_cannot_succeed_leaves_the_workers_as_they_were(tmp_path, caplog, problem):
    async def scenario():
        async with running(tmp_path, 2) as workers:
            await serving(workers)
            workers.behave("refuses")
            workers.problem = problem
            workers.supervisor.restart()
            expected = "not restarted" if problem else "the restart goes no further: worker 1"
            await workers.until(lambda: expected in caplog.text)
            assert all(map(is_there, workers.pids()[:2]))
            assert workers.orders(1) == workers.orders(2) == []

    asyncio.run(scenario())


def test_what_ends_during_a_restart_leaves_nobody(tmp_path):
    async def scenario():
        async with running(tmp_path, 2) as workers:
            await serving(workers)
            workers.behave("deaf")
            workers.supervisor.restart()
            await workers.until(lambda: len(workers.started) > 2)
            workers.drain_s = 0.1
            workers.supervisor.end()
            assert await asyncio.wait_for(workers.run, WITHIN_S) == ENDED

    asyncio.run(scenario())


def test_a_worker_that_dies_while_its_successor_waits_is_replaced_by_it(tmp_path):
    async def scenario():
        async with running(tmp_path, 1) as workers:
            workers.behave("deaf")
            await serving(workers)
            (_, first) = workers.started[0]
            workers.supervisor.restart()
            await workers.until(lambda: workers.orders(1) == ["drain"])
            os.kill(first, signal.SIGKILL)
            await workers.until(lambda: workers.died == [first])
            await workers.until(lambda: workers.supervisor.all_serve)
            assert len(workers.started) == 2

    asyncio.run(scenario())


def test_orphans_that_the_kernel_leaves_to_the_supervisor_are_reaped(tmp_path):
    async def scenario():
        children = ChildProcesses()
        with children.followed():
            pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
            async with asyncio.timeout(WITHIN_S):
                while is_there(pid):
                    await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_deaths_count_within_a_minute_only():
    deaths = DeathLimit(max_deaths=3, within_s=60)
    assert [deaths.add(at) for at in (0, 30, 61, 90, 91)] == [False, False, False, True, True]
