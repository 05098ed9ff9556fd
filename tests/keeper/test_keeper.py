"""The keeper starts, bounds and ends agent processes: everything short of killing the keeper."""

import ast
import asyncio
import contextlib
import itertools
import os
import resource
import signal
import sys
from dataclasses import replace

import psutil
import pytest

from frontdesk import Change, ExitReason, ProcessRef, SessionStore, Watcher
from frontdesk.keeper import confinement
from frontdesk.keeper.environment import allowed_environment, search_path
from frontdesk.keeper.errors import ForkServerFailed, KeeperLost, SpawnFailed
from frontdesk.keeper.forkservers import MAX_FORK_SERVERS
from frontdesk.keeper.messages import Command, Fork, ForkServerSpec, SpawnRequest
from frontdesk.keeper.procfs import stat_of
from frontdesk.monitors import linux
from support.keeper import answer_of, end_of, open_now, refusal_of, spawned, until_open, with_keeper
from support.processes import PATIENCE_S, Life, lives
from support.programs.keeper_children import fork, fork_server, shell

DEAF = shell("trap '' TERM; echo ready; while :; do sleep 1000; done")


# -- starting ----------------------------------------------------------------------------------


def test_a_command_is_spoken_to_through_its_standard_input_and_output():
    async def scenario(keeper):
        async with spawned(keeper, shell("read line; echo got $line")) as process:
            process.writer.write(b"hello\n")
            assert await process.reader.readline() == b"got hello\n"
            assert await process.wait() == 0

    with_keeper(scenario)


def test_a_programs_standard_input_and_output_are_a_pipe_each():
    kinds = "stat -L -c '%F %i' /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2"
    lines = answer_of(shell(kinds)).splitlines()
    assert [line.rpartition(" ")[0] for line in lines] == ["fifo"] * 3
    assert len(set(lines)) == 3


IN_ASYNCIO = """
import asyncio, sys
async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**24)
    protocol = asyncio.StreamReaderProtocol(reader)
    await loop.connect_read_pipe(lambda: protocol, sys.stdin)
    output, flow = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    writer = asyncio.StreamWriter(output, flow, None, loop)
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
asyncio.run(main())
"""


def test_an_agent_has_the_signals_that_whoever_started_the_gateway_ignored_or_blocked():
    script = "import signal; print(sorted(s.name for s in signal.Signals if signal.getsignal(s) "
    script += "== signal.SIG_IGN), sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
    fresh = Command(argv=(sys.executable, "-c", script), env=allowed_environment())
    ignored = (signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTSTP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    blocked = {signal.SIGUSR2, signal.SIGALRM, signal.SIGTERM}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        said = answer_of(SpawnRequest(run=fresh)).strip()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
    assert said == "['SIGPIPE', 'SIGXFSZ'] []"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_program_may_use_its_streams_as_asyncio_does(loop):
    loop_factory = pytest.importorskip(loop).new_event_loop
    # libuv opens a pipe for the life of the process with its first loop: no leak of a test's.
    loop_factory().close()

    async def scenario(keeper):
        program = Command(argv=(sys.executable, "-c", IN_ASYNCIO), env=allowed_environment(()))
        async with spawned(keeper, SpawnRequest(run=program)) as process:
            for line in (b"once\n", b"more\n", b"x" * 3_000_000 + b"\n"):
                process.writer.write(line)
                assert await process.reader.readexactly(len(line)) == line.upper()
            process.writer.write_eof()
            assert await process.reader.read() == b""
            assert await process.wait() == 0

    with_keeper(scenario, loop_factory=loop_factory)


def test_either_stream_of_a_program_may_be_closed_while_the_other_is_used():
    async def scenario(keeper):
        deaf = shell("exec <&-; echo said; echo more")
        async with spawned(keeper, deaf) as process:
            assert await process.reader.read() == b"said\nmore\n"
            assert await process.wait() == 0
        mute = shell('exec >&-; read line; [ "$line" = hello ] || exit 1')
        async with spawned(keeper, mute) as process:
            assert await process.reader.read() == b""
            process.writer.write(b"hello\n")
            assert await process.wait() == 0

    with_keeper(scenario)


def test_a_fork_is_spoken_to_through_its_channel():
    async def scenario(keeper):
        async with spawned(keeper, fork("echo")) as process:
            process.writer.write(b"hello")
            assert await process.reader.readexactly(5) == b"hello"
            process.writer.write_eof()
            assert await process.wait() == 0

    with_keeper(scenario)


def test_the_reference_names_the_process_and_no_later_one():
    async def scenario(keeper):
        async with spawned(keeper, fork("echo")) as process:
            assert process.ref.start_time == stat_of(process.pid).start_time
            assert (process.pid, process.start_time) == (process.ref.pid, process.ref.start_time)

    with_keeper(scenario)


def test_an_agent_leads_a_group_and_a_session_of_its_own_below_the_keeper(tmp_path):
    async def scenario(keeper):
        for request in (fork("tell_where"), fork("tell_where", cwd=str(tmp_path))):
            async with spawned(keeper, request) as process:
                text = (await process.reader.read(4096)).decode()
                pid, parent, group, session, cwd, _ = ast.literal_eval(text)
                assert pid == group == session == process.pid
                assert parent == keeper.pid
                assert cwd == (request.cwd or os.getcwd())

    with_keeper(scenario)


def test_an_agent_inherits_its_channel_and_its_log_and_no_other_descriptor():
    assert answer_of(fork("list_descriptors")) == "[]"
    # The fourth is the listing's own.
    assert answer_of(shell("ls /proc/self/fd")).split() == ["0", "1", "2", "3"]


def test_an_agent_gets_the_variables_that_are_named_for_it_and_no_others(monkeypatch):
    monkeypatch.setenv("FRONTDESK_SECRET", "not for agents")
    monkeypatch.setenv("MODEL_KEY", "for agents")
    env = allowed_environment(["MODEL_*"])
    request = SpawnRequest(run=Command(argv=("/usr/bin/env",), env=env))
    lines = dict(line.split("=", 1) for line in answer_of(request).splitlines())
    assert lines == env
    assert lines["MODEL_KEY"] == "for agents"
    assert "FRONTDESK_SECRET" not in lines
    assert ast.literal_eval(answer_of(fork("tell_where", env=env)))[-1] == len(env)


def test_a_keeper_cannot_be_read_by_its_agents_for_the_gateways_secrets(monkeypatch):
    monkeypatch.setenv("FRONTDESK_SECRET", "not for agents")

    async def scenario(keeper):
        # It makes itself undumpable: without privileges nobody reads even what it does have.
        with (
            contextlib.suppress(PermissionError),
            open(f"/proc/{keeper.pid}/environ", "rb") as environ,
        ):
            assert b"FRONTDESK_SECRET" not in environ.read()

    with_keeper(scenario)


def test_the_signals_of_an_agent_are_those_of_a_fresh_program():
    script = "import signal; print([s.name for s in signal.Signals if "
    script += "signal.getsignal(s) not in (signal.SIG_DFL, None, signal.default_int_handler)])"
    env = allowed_environment()
    fresh = Command(argv=(sys.executable, "-c", script), env=env)
    # What every Python ignores by itself, and nothing of the keeper's.
    assert answer_of(SpawnRequest(run=fresh)).strip() == "['SIGPIPE', 'SIGXFSZ']"


@pytest.mark.parametrize(
    ("spawn", "stage"),
    [
        (SpawnRequest(run=Command(argv=("there-is-no-such-program",))), "exec"),
        (SpawnRequest(run=Command(argv=("/etc/passwd",))), "exec"),
        (shell("true", cwd="/there/is/no/such/directory"), "directory"),
        (fork("echo", cwd="/there/is/no/such/directory"), "directory"),
        (shell("true", account="there-is-no-such-account"), "account"),
        (shell("true", env={"TOO_MUCH": "x" * 200_000}), "request"),
        (SpawnRequest(run=Fork(server=ForkServerSpec(entry="no_such_module:main"))), "forkserver"),
        (SpawnRequest(run=Fork(server=fork_server("there_is_no_such_entry"))), "forkserver"),
    ],
)
def test_what_cannot_start_is_refused_with_its_reason_and_leaves_nothing(spawn, stage):
    refusal = refusal_of(spawn)
    assert refusal.stage == stage
    assert refusal.problem


def test_a_spawn_that_is_cancelled_leaves_nothing(tmp_path):
    (tmp_path / "slow_to_import.py").write_text("import time; time.sleep(1000)")
    slow = ForkServerSpec(entry="slow_to_import:main", path=(str(tmp_path), *search_path()))

    async def scenario(keeper):
        before = open_now()
        spawning = asyncio.create_task(keeper.spawn(SpawnRequest(run=Fork(server=slow))))
        async with spawned(keeper, shell("echo the keeper has both requests")) as process:
            await process.reader.readline()
        spawning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await spawning
        await until_open(before)
        assert len(keeper) == 0

    with_keeper(scenario)


def test_a_spawn_that_takes_too_long_is_refused(tmp_path):
    (tmp_path / "slow_to_import.py").write_text("import time; time.sleep(1000)")
    slow = ForkServerSpec(entry="slow_to_import:main", path=(str(tmp_path), *search_path()))

    async def scenario(keeper):
        with pytest.raises(SpawnFailed, match=r"did not run after 0\.05 s"):
            await keeper.spawn(SpawnRequest(run=Fork(server=slow)), timeout_s=0.05)
        with pytest.raises(ForkServerFailed, match=r"not done after 0\.05 s"):
            await keeper.warm(slow, timeout_s=0.05)

    with_keeper(scenario)


def test_a_keeper_that_was_closed_starts_nothing():
    async def scenario(keeper):
        return keeper

    keeper = with_keeper(scenario)
    with pytest.raises(KeeperLost, match="it was closed"):
        asyncio.run(keeper.spawn(shell("true")))


def test_many_are_spawned_at_once_and_each_is_its_own():
    async def scenario(keeper):
        requests = [fork("echo") if n % 2 else shell("cat") for n in range(60)]
        processes = await asyncio.gather(*(keeper.spawn(request) for request in requests))
        assert len({process.pid for process in processes}) == len(keeper) == 60
        for number, process in enumerate(processes):
            process.writer.write(b"%d\n" % number)
        for number, process in enumerate(processes):
            assert await process.reader.readline() == b"%d\n" % number
        assert all(await asyncio.gather(*(process.end(0) for process in processes)))
        assert len(keeper) == 0

    with_keeper(scenario)


# A fork takes the two ends of a channel and the two of a pipe, a program the ends of three pipes.
@pytest.mark.parametrize(("request_", "taken"), [(shell("true"), 6), (fork("echo"), 4)])
def test_a_spawn_without_free_descriptors_is_refused_and_leaves_nothing(request_, taken):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def scenario(keeper):
        before = open_now()
        free = (n for n in itertools.count() if not os.path.lexists(f"/proc/self/fd/{n}"))
        for first_out_of_reach in itertools.islice(free, taken):
            resource.setrlimit(resource.RLIMIT_NOFILE, (first_out_of_reach, hard))
            try:
                with pytest.raises(SpawnFailed) as refused:
                    await keeper.spawn(request_)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert refused.value.stage == "descriptors"
            await until_open(before)

    with_keeper(scenario)


def test_a_keeper_without_free_descriptors_refuses_and_goes_on():
    async def scenario(keeper):
        before = open_now()
        limit = resource.prlimit(keeper.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(keeper.pid, resource.RLIMIT_NOFILE, (3, limit[1]))
        with pytest.raises(SpawnFailed) as refused:
            await keeper.spawn(shell("true"))
        assert refused.value.stage == "descriptors"
        resource.prlimit(keeper.pid, resource.RLIMIT_NOFILE, limit)
        async with spawned(keeper, shell("true")) as process:
            assert await process.wait() == 0
        await until_open(before)

    with_keeper(scenario)


# -- fork_servers ---------------------------------------------------------------------------------


def test_the_imports_of_a_fork_server_are_done_once(tmp_path):
    (tmp_path / "counted.py").write_text(
        f"open({str(tmp_path / 'imports')!r}, 'a').write('.')\n"
        "def main(_): return lambda channel: channel.sendall(b'in')\n"
    )
    counted = ForkServerSpec(
        entry="counted:main", preload=("counted",), path=(str(tmp_path), *search_path())
    )

    async def scenario(keeper):
        await keeper.warm(counted)
        await keeper.warm(counted)
        for _ in range(3):
            async with spawned(keeper, SpawnRequest(run=Fork(server=counted))) as process:
                assert await process.reader.read() == b"in"
        assert (tmp_path / "imports").read_text() == "."

    with_keeper(scenario)


def test_fork_servers_that_nobody_has_used_for_longest_are_let_go():
    async def scenario(keeper):
        for number in range(MAX_FORK_SERVERS + 2):
            request = fork("echo", env={**allowed_environment(), "NUMBER": str(number)})
            async with spawned(keeper, request) as process:
                process.writer.write(b"x")
                assert await process.reader.readexactly(1) == b"x"
        assert len(fork_servers_of(keeper)) <= MAX_FORK_SERVERS

    with_keeper(scenario)


def test_a_fork_server_whose_imports_fail_says_how():
    async def scenario(keeper):
        with pytest.raises(ForkServerFailed, match="No module named 'no_such_module'"):
            await keeper.warm(ForkServerSpec(entry="no_such_module:main"))

    with_keeper(scenario)


def test_a_fork_server_whose_imports_start_threads_is_refused(tmp_path):
    (tmp_path / "threaded.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(1000,), name='pest', daemon=True).start()\n"
        "def main(channel): pass\n"
    )
    threaded = ForkServerSpec(entry="threaded:main", path=(str(tmp_path), *search_path()))

    async def scenario(keeper):
        with pytest.raises(ForkServerFailed, match=r"started threads \(pest\)"):
            await keeper.warm(threaded)

    with_keeper(scenario)


def test_a_fork_server_that_was_killed_is_started_again():
    async def scenario(keeper):
        async with spawned(keeper, fork("echo")) as process:
            (killed,) = fork_servers_of(keeper) - {process.pid}
            life = Life(killed)
            life.kill()
            life.await_end()
            async with spawned(keeper, fork("echo")) as another:
                for survivor in (process, another):
                    survivor.writer.write(b"x")
                    assert await survivor.reader.readexactly(1) == b"x"

    with_keeper(scenario)


def fork_servers_of(keeper):
    with open(f"/proc/{keeper.pid}/task/{keeper.pid}/children", encoding="ascii") as children:
        return {int(pid) for pid in children.read().split()}


# -- ending ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spawn", "returncode"),
    [
        (shell("exit 0"), 0),
        (shell("exit 7"), 7),
        (shell("kill -9 $$"), -signal.SIGKILL),
        (shell("kill -TERM $$"), -signal.SIGTERM),
        (fork("exit_with_three"), 3),
        (fork("raise_something"), 1),
    ],
)
def test_an_exit_is_reported_with_its_code_or_signal(spawn, returncode):
    assert end_of(spawn) == returncode


def test_what_was_said_last_can_be_read_after_the_end():
    async def scenario(keeper):
        async with spawned(keeper, shell("echo last words")) as process:
            await process.wait_gone()
            assert await process.reader.read() == b"last words\n"

    with_keeper(scenario)


def test_ending_asks_first_and_lets_a_process_end_in_its_own_way():
    async def scenario(keeper):
        request = shell("trap 'echo tidied; exit 5' TERM; echo ready; while :; do sleep 0.01; done")
        process = await keeper.spawn(request)
        assert await process.reader.readline() == b"ready\n"
        assert await process.end(PATIENCE_S)
        assert process.returncode == 5
        assert await process.reader.read() == b"tidied\n"

    with_keeper(scenario)


def test_a_process_that_is_deaf_to_sigterm_is_killed_after_the_grace_period():
    async def scenario(keeper):
        process = await keeper.spawn(
            shell("trap '' TERM; echo ready; while :; do sleep 1000; done")
        )
        assert await process.reader.readline() == b"ready\n"
        life = Life(process.pid)
        assert await process.end(0.05)
        assert life.over
        assert process.returncode == -signal.SIGKILL

    with_keeper(scenario)


def test_a_stopped_process_is_killed_after_the_grace_period():
    async def scenario(keeper):
        process = await keeper.spawn(shell("kill -STOP $$"))
        while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
            await asyncio.sleep(0.001)
        assert await process.end(0.05)
        assert process.returncode == -signal.SIGKILL

    with_keeper(scenario)


def test_ending_twice_or_after_the_end_is_harmless():
    async def scenario(keeper):
        process = await keeper.spawn(shell("exit 3"))
        await process.wait_gone()
        assert await process.end(0)
        assert await process.end(0)
        process.kill()
        assert process.returncode == 3

    with_keeper(scenario)


def test_of_two_graces_the_earlier_counts():
    async def scenario(keeper):
        process = await keeper.spawn(
            shell("trap '' TERM; echo ready; while :; do sleep 1000; done")
        )
        assert await process.reader.readline() == b"ready\n"
        patient = asyncio.create_task(process.end(1000))
        await asyncio.sleep(0)
        assert await process.end(0)
        assert await patient

    with_keeper(scenario)


def test_the_descriptors_of_a_process_are_closed_when_it_is_gone():
    async def scenario(keeper):
        before = open_now()
        for request in (shell("exec sleep 1000"), fork("echo"), shell("exit 0")):
            process = await keeper.spawn(request)
            await process.end(0)
            await process.writer.wait_closed()
            await until_open(before)

    with_keeper(scenario)


# -- in the registry ---------------------------------------------------------------------------


async def reason_in_registry(keeper, watcher, *, anybodys=False):
    """Register a process, kill it, and return the reason that the registry gives."""
    with watcher, SessionStore(watcher=watcher) as store:
        process = await keeper.spawn(shell("cat"))
        ref = ProcessRef(process.pid, process.start_time) if anybodys else process.ref
        store.create("s", ref)
        assert store.get("s").pid == process.pid
        watch = store.watch()
        os.kill(process.pid, signal.SIGKILL)
        async for item in watch:
            if isinstance(item, Change) and item.kind == "ended":
                assert item.session.session_id == "s"
                return item.reason
    raise AssertionError("the watch ended")


@pytest.mark.parametrize("use_pidfd", [None, False])
def test_the_registry_learns_the_signal_that_ended_a_process(use_pidfd):
    async def scenario(keeper):
        reason = await reason_in_registry(keeper, Watcher(use_pidfd=use_pidfd))
        assert reason == ExitReason.signalled(9)

    with_keeper(scenario)


@pytest.mark.parametrize("use_pidfd", [None, False])
def test_the_keeper_tells_how_a_process_ended_where_the_kernel_does_not(use_pidfd, monkeypatch):
    """Before Linux 6.15 a status is for the parent alone, and zombies show it to few."""
    monkeypatch.setattr(linux, "status_of_reaped", lambda fd: None)
    stat = linux.parse_stat
    monkeypatch.setattr(linux, "parse_stat", lambda text: replace(stat(text), status=None))

    async def scenario(keeper):
        reason = await reason_in_registry(keeper, Watcher(use_pidfd=use_pidfd))
        assert reason == ExitReason.signalled(9)
        reason = await reason_in_registry(keeper, Watcher(use_pidfd=use_pidfd), anybodys=True)
        assert reason == ExitReason.of("unknown")

    with_keeper(scenario)


# -- what is left ------------------------------------------------------------------------------


def test_leaving_the_keeper_ends_every_process():
    async def scenario(keeper):
        requests = (fork("leave_a_family"), shell("cat"))
        processes = [await keeper.spawn(request) for request in requests]
        family = lives((await processes[0].reader.read(4096)).decode())
        return [*family, Life(processes[1].pid)], processes

    left, processes = with_keeper(scenario)
    assert len(left) == 5
    assert all(life.over for life in left)
    assert all(process.exited for process in processes)


# -- a /proc that shows something else ---------------------------------------------------------


def test_no_keeper_starts_where_proc_shows_other_processes_under_these_numbers(monkeypatch):
    real = linux._read
    monkeypatch.setattr(
        linux, "_read", lambda path: real(path).replace(b"\nNSpid:", b"\nNSpid:\t4711")
    )
    before = open_now()
    with pytest.raises(KeeperLost, match="another pid namespace"):
        answer_of(shell("echo started"))
    assert open_now() <= before


def test_an_agent_starts_where_proc_hides_the_keeper_from_it(monkeypatch):
    """The child asks for the keeper only until that has adopted it; here it sees it late."""
    parents, real = iter([1, 1]), os.getppid
    hidden = PermissionError(13, "hidden")

    def hide(pid):
        raise hidden

    monkeypatch.setattr(os, "getppid", lambda: next(parents, None) or real())
    monkeypatch.setattr(confinement, "read_stat", hide)
    monkeypatch.setattr(confinement.prctl, "die_with_parent", lambda number: None)
    confinement._die_with(real())
    monkeypatch.setattr(confinement, "exists", lambda pid: False)
    monkeypatch.setattr(os, "getppid", lambda: 1)
    with pytest.raises(ProcessLookupError, match="keeper has ended"):
        confinement._die_with(real())
