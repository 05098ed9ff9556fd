"""Real processes in a store: killed, stopped, dead before they are registered, waited for or not,
and of a pid that the kernel has given out a second time.
"""

import asyncio
import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from conftest import USE_PIDFD
from frontdesk import ExitKind, ExitReason, ProcessRef, SessionNotFound
from support.agents import (
    BOUND_S,
    end_of,
    in_threads,
    next_changes,
    process,
    start_time,
    told,
    zombie_of,
)
from support.leftovers import assert_indexes_agree, descriptors, nothing_left

pytestmark = pytest.mark.chaos

KILLED = ExitReason.signalled(signal.SIGKILL)


@contextlib.contextmanager
def registered(store, agent, session_id="s"):
    """Register an agent, and give a watch that has seen it come."""
    with store.watch() as watch:
        watch.next(timeout_s=0)
        session = store.create(session_id, agent)
        assert watch.next(timeout_s=BOUND_S).revision == session.fence
        yield watch


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGUSR1])
def test_a_killed_process_ends_with_its_signal(store, number):
    with process() as child, registered(store, child) as watch:
        child.send_signal(number)
        assert end_of(watch, "s").reason == ExitReason.signalled(number)
        assert "s" not in store
        assert child.wait(BOUND_S) == -number


@pytest.mark.parametrize("code", [0, 1, 3, 127, 255])
def test_a_process_that_exits_ends_with_its_code_and_its_owner_reaps_it(store, code):
    child = subprocess.Popen(["sh", "-c", f"read line; exit {code}"], stdin=subprocess.PIPE)
    with child, registered(store, child) as watch:
        child.stdin.close()
        assert end_of(watch, "s").reason == ExitReason.exited(code)
        assert child.returncode is None
        assert child.wait(BOUND_S) == code


def test_a_process_of_asyncio_ends_with_its_signal_and_asyncio_is_told_too(store):
    async def main():
        child = await asyncio.create_subprocess_exec("sleep", "1000")
        async with store.watch() as watch:
            await anext(watch)
            session = store.create("s", child)
            assert session.pid == child.pid
            assert (await asyncio.wait_for(anext(watch), BOUND_S)).kind == "created"
            child.kill()
            change = await asyncio.wait_for(anext(watch), BOUND_S)
            assert (change.kind, change.reason) == ("ended", KILLED)
        assert await asyncio.wait_for(child.wait(), BOUND_S) == -signal.SIGKILL

    asyncio.run(main())


def test_a_process_of_multiprocessing_ends_with_its_code_and_can_be_joined(store):
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=sys.exit, args=(3,))
    child.start()
    with registered(store, child) as watch:
        assert end_of(watch, "s").reason in (ExitReason.exited(3), ExitReason.of("not_alive"))
    child.join(BOUND_S)
    assert child.exitcode == 3
    child.close()


def test_a_process_that_is_not_ours_is_watched_by_its_pid_and_start_time(store):
    shell = subprocess.run(
        ["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"], capture_output=True, check=True
    )
    pid = int(shell.stdout)
    with registered(store, ProcessRef.of(pid)) as watch:
        assert store.get("s").pid == pid
        os.kill(pid, signal.SIGKILL)
        reason = end_of(watch, "s").reason
    assert reason == KILLED or reason.kind is ExitKind.UNKNOWN


def test_a_stopped_process_is_alive(store):
    with process() as child, registered(store, child) as watch:
        for _ in range(3):
            child.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
            assert store.get("s").agent is child
            assert store.list() == [store.get("s")]
            child.send_signal(signal.SIGCONT)
        child.send_signal(signal.SIGSTOP)
        assert told(watch) == []
        child.kill()
        assert end_of(watch, "s").reason == KILLED


def test_a_process_stopped_before_it_is_registered_is_alive(store):
    with process() as child:
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        store.create("s", child)
        assert "s" in store


def test_a_process_dead_before_it_is_registered_is_never_seen(store):
    with process() as child:
        zombie_of(child)
        store.create("s", child)
        with pytest.raises(SessionNotFound):
            store.get("s")
        assert store.ended("s").reason == ExitReason.of("not_alive")
        assert child.wait(BOUND_S) == -signal.SIGKILL
    assert nothing_left(store)


def test_a_zombie_ends_its_session_though_nobody_waits_for_it(store):
    with process() as child, registered(store, child) as watch:
        zombie_of(child)
        assert end_of(watch, "s").reason == KILLED
        assert os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT).si_status == signal.SIGKILL


def test_a_process_whose_main_thread_has_ended_is_alive(store):
    """It shows as a zombie in /proc, and lives on in its other threads."""
    program = """if True:
        import ctypes, sys, threading
        threading.Thread(target=sys.stdin.read).start()
        print("ready", flush=True)
        ctypes.CDLL(None).pthread_exit(None)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout.readline() == b"ready\n"
        wait_for_state(child.pid, "Z")
        with registered(store, child) as watch:
            assert "s" in store
            child.kill()
            assert end_of(watch, "s").reason == KILLED


def wait_for_state(pid, state):
    """The kernel tells nobody of this, so look until it is so."""
    deadline = time.monotonic() + BOUND_S
    while time.monotonic() < deadline:
        with open(f"/proc/{pid}/stat") as stat:
            if stat.read().rpartition(")")[2].split()[0] == state:
                return
    raise TimeoutError(f"process {pid} is not {state}")


def recycled(pid, *, other_than):
    """Have the kernel give out a pid again, to a process of another start time."""
    for _ in range(2000):
        with open("/proc/sys/kernel/ns_last_pid", "w") as last:
            last.write(str(pid - 1))
        child = subprocess.Popen(["sleep", "1000"])
        if child.pid == pid and start_time(pid) != other_than:
            return child
        child.kill()
        child.wait()
    pytest.skip("other processes are quicker: the pid could not be had again")
    return None


def can_choose_pids():
    return os.access("/proc/sys/kernel/ns_last_pid", os.W_OK) and os.geteuid() == 0


@pytest.mark.skipif(not can_choose_pids(), reason="only root may have a pid given out again")
def test_the_late_end_of_a_process_leaves_the_one_with_its_recycled_pid_alone(store):
    with process() as old:
        started = start_time(old.pid)
        with registered(store, old) as watch:
            old.kill()
            old.wait()
            new = recycled(old.pid, other_than=started)
            try:
                with contextlib.suppress(SessionNotFound):
                    store.get("s")
                end_of(watch, "s")
                session = store.create("s", new)
                assert session.pid == old.pid
                assert watch.next(timeout_s=BOUND_S).session.fence == session.fence
                assert told(watch) == []
                assert store.get("s") is session
                new.kill()
                assert end_of(watch, "s").session.fence == session.fence
            finally:
                new.kill()
                new.wait()


@pytest.mark.skipif(not can_choose_pids(), reason="only root may have a pid given out again")
def test_a_recycled_pid_is_not_taken_for_the_process_that_was_meant(store):
    with process() as old:
        meant = ProcessRef.of(old.pid)
        old.kill()
        old.wait()
        new = recycled(old.pid, other_than=meant.start_time)
        try:
            store.create("old by its reference", meant)
            store.create("old by its object", old)
            assert store.list() == []
            reasons = {
                str(store.ended(name).reason)
                for name in ("old by its reference", "old by its object")
            }
            assert reasons == {"not_alive"}
            session = store.create("new", ProcessRef.of(new.pid))
            assert store.list() == [session]
        finally:
            new.kill()
            new.wait()


def test_hundreds_of_processes_killed_at_once_all_end_once(store):
    number = 300
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(process()) for _ in range(number)]
        before = descriptors()
        with store.watch() as watch:
            watch.next(timeout_s=0)
            for count, child in enumerate(children):
                store.create(f"s{count}", child, tenant_id=f"t{count % 7}")
            next_changes(watch, number)
            for child in children:
                child.kill()
            ends = next_changes(watch, number)
            assert {end.session.session_id for end in ends} == {f"s{n}" for n in range(number)}
            assert {end.reason for end in ends} == {KILLED}
            assert told(watch) == []
        assert nothing_left(store)
        assert descriptors() <= before + 3  # the watcher's own


def test_kills_deletes_and_creates_at_random_leave_nothing(store):
    """Processes come, are killed, deleted and taken over, by several threads at once."""

    def worker(seed):
        choice = random.Random(seed)
        with contextlib.ExitStack() as stack:
            for number in range(25):
                child = stack.enter_context(process())
                name = f"{seed}-{number % 3}"
                with contextlib.suppress(ValueError):
                    store.create(name, child)
                if choice.random() < 0.4:
                    store.delete(name)
                if choice.random() < 0.6:
                    child.kill()
                    if choice.random() < 0.5:
                        child.wait(BOUND_S)

    with store.watch() as watch:
        watch.next(timeout_s=0)
        in_threads(*(lambda seed=seed: worker(seed) for seed in range(3)))
        living = set()
        deadline = time.monotonic() + BOUND_S
        while living or watch._cursor < store.revision or store._core.entries:
            change = watch.next(timeout_s=max(0, deadline - time.monotonic()))
            name = change.session.session_id
            (living.add if change.kind == "created" else living.discard)(name)
    assert_indexes_agree(store)
    assert nothing_left(store)


def test_one_process_in_two_stores_ends_in_both(make_store):
    stores = [make_store(), make_store()]
    with process() as child, contextlib.ExitStack() as stack:
        watches = [stack.enter_context(registered(store, child)) for store in stores]
        child.kill()
        for watch in watches:
            assert end_of(watch, "s").reason == KILLED


def test_a_process_group_killed_with_its_registrar_looking_on_is_told_one_by_one(store):
    """The signal reaches a launcher and its child; each that is registered ends by itself."""
    launcher = subprocess.Popen(
        ["sh", "-c", "sleep 1000 & echo $!; wait"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with launcher, store.watch() as watch:
        watch.next(timeout_s=0)
        inner = ProcessRef.of(int(launcher.stdout.readline()))
        store.create("launcher", launcher)
        store.create("inner", inner)
        os.kill(launcher.pid, signal.SIGKILL)
        assert end_of(watch, "launcher").reason == KILLED
        assert "inner" in store
        os.killpg(launcher.pid, signal.SIGKILL)
        assert end_of(watch, "inner").reason.kind in (ExitKind.SIGNALLED, ExitKind.UNKNOWN)


def test_lookups_go_on_while_processes_die(store):
    over = threading.Event()

    def look():
        while not over.is_set():
            for session in store.list():
                assert session.pid > 0
            assert store.count() >= 0

    def kill():
        try:
            with contextlib.ExitStack() as stack:
                children = [stack.enter_context(process()) for _ in range(50)]
                with store.watch() as watch:
                    watch.next(timeout_s=0)
                    for number, child in enumerate(children):
                        store.create(f"s{number}", child)
                        child.kill()
                    for _ in range(50):
                        while watch.next(timeout_s=BOUND_S).kind != "ended":
                            continue
        finally:
            over.set()

    in_threads(kill, look, look)
    assert nothing_left(store)


@pytest.mark.skipif(USE_PIDFD is not None, reason="without pidfds the bound is the interval")
def test_a_kill_is_known_to_lookups_without_anybody_waiting_for_it(store):
    """What lookups read is the kernel's answer, not what was told."""
    for number in range(20):
        with process() as child:
            store.create(f"s{number}", child)
            zombie_of(child)
            assert f"s{number}" not in store
            assert store.list() == []
