"""Monitors of processes, through pidfds and by looking at /proc."""

import asyncio
import errno
import gc
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import weakref
from dataclasses import replace

import pytest

from frontdesk import (
    AgentNotStarted,
    ExitReason,
    InvalidArgument,
    MonitorFailed,
    ProcessRef,
    Watcher,
    monitor,
)
from frontdesk.monitors import linux
from support.exits import (
    PATIENCE_S,
    Exits,
    Obedient,
    descriptors,
    run_script,
    wait_for_zombie,
    wait_until,
    watcher_threads,
)
from support.lacking import about, pidfd_open, waitid

UNKNOWN = ExitReason.of("unknown")
KILLED = ExitReason.signalled(9)

ENDS = [
    pytest.param("exit 0", ExitReason.of("normal"), id="normal"),
    pytest.param("exit 3", ExitReason.exited(3), id="exited"),
    pytest.param("kill -9 $$", KILLED, id="signalled"),
]


@pytest.fixture(params=["pidfd", "looking"])
def watcher(request):
    """A watcher of each mode."""
    if request.param == "pidfd" and not linux.probe_abilities().processes:
        pytest.skip("this kernel has no pidfds")
    use_pidfd = False if request.param == "looking" else None
    with Watcher(use_pidfd=use_pidfd, fallback_interval_s=0.01) as watcher:
        yield watcher


@pytest.fixture
def strangers():
    """Make processes that are not our children: an adopted shell that says how each ended."""
    parents = []

    def make(words="exit 0"):
        text = f"exec 3<&0; (read go <&3; {words}) & echo $!; wait $!; echo $?; read stay"
        parent = subprocess.Popen(
            ["sh", "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        parents.append(parent)
        return int(parent.stdout.readline()), parent

    yield make
    for parent in parents:
        parent.stdin.close()
        parent.kill()
        parent.wait(PATIENCE_S)
        parent.stdout.close()


# -- how they end ------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "reason"), ENDS)
def test_a_popen_is_told_with_its_status_and_left_to_be_waited_for(watcher, words, reason):
    exits = Exits()
    with Obedient(words) as process:
        watched = monitor(process.popen, exits, watcher=watcher)
        assert watched.alive
        assert watched.pid == process.pid
        assert watched.exit_reason() is None
        process.go()
        assert exits.next() == reason
        assert not watched.alive
        assert watched.exit_reason() == reason
        assert process.popen.returncode is None
        code = process.popen.wait(PATIENCE_S)
    assert ExitReason.from_returncode(code) == reason
    assert exits.reasons == [reason]
    assert len(watcher) == 0


@pytest.mark.parametrize(("words", "reason"), ENDS)
def test_a_popen_that_its_owner_waits_for_is_told_with_its_status(watcher, words, reason):
    exits = Exits()
    for _ in range(5):
        with Obedient(words) as process:
            monitor(process.popen, exits, watcher=watcher)
            process.go()
            process.popen.wait(PATIENCE_S)
            assert exits.next() == reason


@pytest.mark.parametrize(("words", "reason"), ENDS)
def test_an_asyncio_process_is_told_with_its_status_and_asyncio_gets_it_too(watcher, words, reason):
    async def main():
        exits = Exits()
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", f"read go; {words}", stdin=asyncio.subprocess.PIPE
        )
        watched = monitor(process, exits, watcher=watcher)
        assert watched.alive
        assert watched.pid == process.pid
        process.stdin.close()
        code = await asyncio.wait_for(process.wait(), PATIENCE_S)
        assert ExitReason.from_returncode(code) == reason
        told = await asyncio.to_thread(exits.next)
        assert told == reason

    asyncio.run(main())


@pytest.mark.parametrize("reaped", [True, False])
@pytest.mark.parametrize(("words", "reason"), ENDS)
def test_a_process_of_anyones_is_told_with_its_status(watcher, strangers, words, reason, reaped):
    exits = Exits()
    pid, parent = strangers(words)
    if not reaped:
        os.kill(parent.pid, signal.SIGSTOP)
    watched = monitor(ProcessRef.of(pid), exits, watcher=watcher)
    assert watched.alive
    assert watched.pid == pid
    if words.startswith("kill"):
        os.kill(pid, signal.SIGKILL)
    else:
        parent.stdin.write("go\n")
        parent.stdin.flush()
    told = exits.next()
    os.kill(parent.pid, signal.SIGCONT)
    # By looking, one that was reaped between two looks has taken its status with it.
    by_chance = {UNKNOWN} if reaped and not watcher.abilities.processes else set()
    assert told in {reason} | by_chance
    assert not watched.alive
    assert parent.stdout.readline().strip() in ("0", "3", "137")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("code", [0, 3])
def test_a_multiprocessing_process_is_told_with_its_status_and_can_be_joined(watcher, method, code):
    run_script(MULTIPROCESSING, method, str(code), str(watcher.abilities.processes))


MULTIPROCESSING = """
import multiprocessing, queue, sys
from support.exits import receive_and_exit
from frontdesk import ExitReason, Watcher, monitor

method, code, pidfd = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True"
context = multiprocessing.get_context(method)
ours, theirs = context.Pipe()
process = context.Process(target=receive_and_exit, args=(theirs, code))
process.start()
told = queue.SimpleQueue()
with Watcher(use_pidfd=None if pidfd else False, fallback_interval_s=0.01) as watcher:
    watched = monitor(process, told.put, watcher=watcher)
    assert watched.alive
    assert watched.pid == process.pid
    ours.send("go")
    acceptable = {ExitReason.exited(code)}
    if method == "forkserver" and not pidfd:
        acceptable.add(ExitReason.of("unknown"))  # reaped by the server between two looks
    assert told.get(timeout=30) in acceptable
    assert process._popen.returncode is None, "the monitor reaped"
    process.join()
    assert process.exitcode == code
    assert not watched.alive
    joined = monitor(process, told.put, watcher=watcher)
    assert not joined.alive
    assert joined.exit_reason() == ExitReason.exited(code)
    process.close()
    closed = monitor(process, told.put, watcher=watcher)
    assert not closed.alive
    assert closed.exit_reason() == ExitReason.of("unknown")
"""


def test_a_multiprocessing_process_that_was_not_started_is_refused(watcher):
    before = descriptors()
    with pytest.raises(AgentNotStarted):
        monitor(multiprocessing.Process(target=print), Exits(), watcher=watcher)
    assert descriptors() == before


def test_the_end_is_known_before_it_is_told(watcher):
    exits, holding, go = Exits(), threading.Event(), threading.Event()

    def hold(_):
        holding.set()
        go.wait(PATIENCE_S)

    with Obedient() as first, Obedient("exit 3") as second:
        monitor(first.popen, hold, watcher=watcher)
        watched = monitor(second.popen, exits, watcher=watcher)
        first.go()
        assert holding.wait(PATIENCE_S)
        second.go()
        wait_for_zombie(second.pid)
        assert not watched.alive
        assert watched.exit_reason() == ExitReason.exited(3)
        assert exits.reasons == []
        go.set()
        assert exits.next() == ExitReason.exited(3)


# -- dead before ------------------------------------------------------------------------------


def test_a_process_that_was_waited_for_is_dead_with_its_status(watcher):
    before = descriptors()
    with Obedient("exit 3") as process:
        pass
    exits = Exits()
    watched = monitor(process.popen, exits, watcher=watcher)
    assert not watched.alive
    assert watched.exit_reason() == ExitReason.exited(3)
    assert watched.pid == process.pid
    assert exits.reasons == []
    assert descriptors() == before


@pytest.mark.parametrize(("words", "reason"), ENDS)
def test_a_zombie_is_dead(watcher, words, reason):
    exits = Exits()
    with Obedient(words) as process:
        ref = ProcessRef.of(process.pid)
        process.go()
        wait_for_zombie(process.pid)
        before = descriptors()
        for agent in (process.popen, ref, ProcessRef.of(process.pid)):
            watched = monitor(agent, exits, watcher=watcher)
            assert not watched.alive
            assert watched.exit_reason() == reason
        assert descriptors() == before
        assert process.popen.wait(PATIENCE_S) is not None
    assert exits.reasons == []


def test_a_ref_of_a_process_that_is_gone_is_dead(watcher):
    with Obedient() as process:
        ref = ProcessRef.of(process.pid)
    watched = monitor(ref, Exits(), watcher=watcher)
    assert not watched.alive
    assert watched.exit_reason() == UNKNOWN


def test_a_ref_is_not_taken_for_a_later_process_of_the_same_pid(watcher):
    exits = Exits()
    with Obedient() as process:
        ref = ProcessRef.of(process.pid)
        before = descriptors()
        watched = monitor(ProcessRef(ref.pid, ref.start_time - 1), exits, watcher=watcher)
        assert not watched.alive
        assert watched.exit_reason() == UNKNOWN
        assert descriptors() == before
        process.go()
        wait_for_zombie(process.pid)
    assert exits.reasons == []


def test_a_popen_whose_status_was_taken_by_another_is_dead(watcher):
    process = Obedient("exit 3")
    process.go()
    os.waitpid(process.pid, 0)
    watched = monitor(process.popen, Exits(), watcher=watcher)
    assert not watched.alive
    assert watched.exit_reason() == UNKNOWN
    process.popen.wait()


def test_a_popen_is_not_taken_for_a_strangers_process_of_the_same_pid(watcher, strangers):
    pid, _ = strangers()
    with Obedient() as process:
        process.popen.pid, real = pid, process.popen.pid
        watched = monitor(process.popen, Exits(), watcher=watcher)
        process.popen.pid = real
    assert not watched.alive
    assert len(watcher) == 0


def test_the_number_of_a_thread_is_refused(watcher):
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        started = linux.read_stat(thread.native_id).start_time
        with pytest.raises(InvalidArgument, match="thread"):
            monitor(ProcessRef(thread.native_id, started), Exits(), watcher=watcher)
    finally:
        over.set()
        thread.join(PATIENCE_S)


def test_a_process_whose_number_a_thread_has_by_now_is_dead(watcher):
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        watched = monitor(ProcessRef(thread.native_id, 1), Exits(), watcher=watcher)
        assert not watched.alive
        with Obedient() as process:
            process.popen.pid, real = thread.native_id, process.popen.pid
            watched = monitor(process.popen, Exits(), watcher=watcher)
            process.popen.pid = real
        assert not watched.alive
        assert len(watcher) == 0
    finally:
        over.set()
        thread.join(PATIENCE_S)


# -- alive all the same ------------------------------------------------------------------------


def test_a_stopped_process_is_alive(watcher):
    exits = Exits()
    with Obedient() as process:
        watched = monitor(process.popen, exits, watcher=watcher)
        os.kill(process.pid, signal.SIGSTOP)
        waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert watched.alive
        assert monitor(ProcessRef.of(process.pid), exits, watcher=watcher).alive
        os.kill(process.pid, signal.SIGCONT)
        os.kill(process.pid, signal.SIGKILL)
        assert [exits.next(), exits.next()] == [KILLED, KILLED]


HEADLESS = """
import ctypes, os, platform, sys, threading

def work():
    sys.stdin.readline()
    os._exit(7)

threading.Thread(target=work).start()
exit_this_thread = {"x86_64": 60, "aarch64": 93}[platform.machine()]
ctypes.CDLL(None).syscall(exit_this_thread, 0)
"""


def test_a_process_that_outlives_its_main_thread_is_alive(watcher):
    exits = Exits()
    process = subprocess.Popen([sys.executable, "-c", HEADLESS], stdin=subprocess.PIPE)
    try:
        wait_until(lambda: stat_of(process.pid) == "Z")
        watched = monitor(process, exits, watcher=watcher)
        assert watched.alive
        assert monitor(ProcessRef.of(process.pid), exits, watcher=watcher).alive
        process.stdin.close()
        assert [exits.next(), exits.next()] == [ExitReason.exited(7)] * 2
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def stat_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def test_a_process_that_becomes_another_program_is_the_same_agent(watcher):
    exits = Exits()
    with Obedient("exec sh -c 'read go; exit 3'") as process:
        watched = monitor(process.popen, exits, watcher=watcher)
        process.popen.stdin.write(b"go\n")
        process.popen.stdin.flush()
        wait_until(lambda: command_of(process.pid).endswith(b"\0read go; exit 3\0"))
        assert watched.alive
        process.go()
        assert exits.next() == ExitReason.exited(3)


def command_of(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


# -- statuses that are hard to come by ---------------------------------------------------------


def test_a_returncode_known_a_little_later_is_the_reason(watcher, monkeypatch):
    exits, asked = Exits(), []
    for name in ("status_of_child", "status_of_reaped"):
        monkeypatch.setattr(linux, name, lambda *_, **__: None)

    class Late(subprocess.Popen):
        """Its code is known when it is asked for the second time after the end."""

        over = False

        @property
        def returncode(self):
            if not self.over:
                return self.__dict__.get("code")
            asked.append(1)
            return 3 if len(asked) > 1 else None

        @returncode.setter
        def returncode(self, code):
            self.__dict__["code"] = code

    process = Late(["sh", "-c", "read go; exit 3"], stdin=subprocess.PIPE)
    watched = monitor(process, exits, watcher=watcher)
    real = linux.read_stat
    monkeypatch.setattr(
        linux, "read_stat", lambda pid, **more: None if process.over else real(pid, **more)
    )
    process.over = True
    process.stdin.close()
    assert exits.next() == ExitReason.exited(3)
    assert not watched.alive
    process.over = False
    process.wait(PATIENCE_S)


def test_a_status_that_nobody_can_read_is_unknown(watcher, strangers, monkeypatch):
    exits = Exits()
    pid, _ = strangers()
    for name in ("status_of_child", "status_of_reaped"):
        monkeypatch.setattr(linux, name, lambda *_, **__: None)
    watched = monitor(ProcessRef.of(pid), exits, watcher=watcher)
    real = linux.read_stat

    def hidden(pid, **more):
        stat = real(pid, **more)
        if stat is None or not stat.over:
            return stat
        return replace(stat, over=True, status=None)

    monkeypatch.setattr(linux, "read_stat", hidden)
    os.kill(pid, signal.SIGKILL)
    assert exits.next() == UNKNOWN
    assert watched.exit_reason() == UNKNOWN


@about("waitid")
def test_a_status_that_can_be_read_a_little_later_is_told_then(strangers, monkeypatch):
    """A zombie of somebody else's that we may not look into, until its parent reaps it."""
    exits, real = Exits(), linux.read_stat
    pid, parent = strangers()
    with Watcher(fallback_interval_s=1) as watcher:
        watched = monitor(ProcessRef.of(pid), exits, watcher=watcher)

        def hidden(pid, **more):
            stat = real(pid, **more)
            return stat and replace(stat, status=None)

        monkeypatch.setattr(linux, "read_stat", hidden)
        os.kill(parent.pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: watched.pending_status)
        assert not watched.alive
        os.kill(parent.pid, signal.SIGCONT)
        assert parent.stdout.readline().strip() == "137"
        assert exits.next() == (KILLED if the_kernel_remembers_the_reaped() else UNKNOWN)


def the_kernel_remembers_the_reaped():
    """Tell whether this is Linux 6.15 or newer, by trying."""
    with Obedient() as process:
        fd = pidfd_open(process.pid)
    remembered = linux.status_of_reaped(fd) is not None
    os.close(fd)
    return remembered


# -- nothing left ------------------------------------------------------------------------------


def test_after_cancel_nobody_is_told_and_nothing_is_open(watcher):
    exits, other = Exits(), Exits()
    with Obedient() as process, Obedient() as witness:
        monitor(witness.popen, other, watcher=watcher)
        before = descriptors()
        watched = monitor(process.popen, exits, watcher=watcher)
        watched.cancel()
        watched.cancel()
        assert descriptors() == before
        process.go()
        wait_for_zombie(process.pid)
        witness.go()
        other.next()
    assert exits.reasons == []
    assert not watched.alive


def test_a_monitor_that_is_over_holds_neither_agent_nor_callback(watcher):
    exits = Exits()
    with Obedient() as process:
        told = monitor(process.popen, exits, watcher=watcher)
        cancelled = monitor(process.popen, exits, watcher=watcher)
        cancelled.cancel()
        process.go()
        exits.next()
        wait_until(lambda: len(watcher) == 0)
    agent, callback = weakref.ref(process.popen), weakref.ref(exits)
    del exits, process
    wait_until(lambda: gc.collect() is not None and callback() is None and agent() is None)
    assert not told.alive
    assert not cancelled.alive


def test_where_no_descriptor_is_free_the_refusal_is_typed_and_nothing_is_left(watcher):
    with Obedient() as process, Obedient() as witness:
        ref = ProcessRef.of(process.pid)
        exits = Exits()
        monitor(witness.popen, exits, watcher=watcher)
        before = descriptors()
        with no_free_descriptor():
            for agent in (process.popen, ref):
                with pytest.raises(MonitorFailed) as caught:
                    monitor(agent, Exits(), watcher=watcher)
                assert caught.value.error.errno == errno.EMFILE
        assert descriptors() == before
        assert len(watcher) == 1
        watched = monitor(process.popen, exits, watcher=watcher)
        assert watched.alive
        process.go()
        assert exits.next() == ExitReason.of("normal")


def test_where_no_thread_can_start_the_refusal_is_typed_and_nothing_is_left(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    with Obedient() as process:
        before = descriptors()
        with monkeypatch.context() as patch, Watcher() as watcher:
            patch.setattr(threading.Thread, "start", refuse)
            for given in (watcher, None):
                with pytest.raises(MonitorFailed) as caught:
                    monitor(process.popen, Exits(), watcher=given)
                assert caught.value.error.errno == errno.EAGAIN
        assert descriptors() == before


class no_free_descriptor:  # noqa: N801 - reads as a sentence
    """Leave this process without a descriptor to open."""

    def __enter__(self):
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(descriptors()) + 1, self._limits[1]))
        self._held = []
        while True:
            try:
                self._held.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                return

    def __exit__(self, *_):
        for fd in self._held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)


@pytest.mark.parametrize("ending", ["exit", "cancel", "refused", "dead"])
def test_a_monitor_without_a_watcher_leaves_no_thread_and_no_descriptor(ending):
    before = descriptors()
    exits = Exits()
    with Obedient() as process:
        if ending == "exit":
            monitor(process.popen, exits)
            process.go()
            assert exits.next() == ExitReason.of("normal")
        elif ending == "cancel":
            monitor(process.popen, exits).cancel()
        elif ending == "dead":
            process.go()
            wait_for_zombie(process.pid)
            assert not monitor(process.popen, exits).alive
        else:
            with pytest.raises(InvalidArgument):
                monitor(ref_of_a_thread(), exits)
    wait_until(lambda: not watcher_threads())
    wait_until(lambda: descriptors() == before)


def ref_of_a_thread():
    """Name a thread that runs for a while as if it were a process."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait, args=(PATIENCE_S,), daemon=True)
    thread.start()
    return ProcessRef(thread.native_id, linux.read_stat(thread.native_id).start_time)
