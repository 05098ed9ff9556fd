"""Monitors under kills: thousands at once, in races, by strangers, without permission."""

import collections
import os
import random
import resource
import signal
import subprocess
import sys
import threading

import pytest

from frontdesk import ExitReason, ProcessRef, Watcher, monitor
from frontdesk.monitors import linux
from support.exits import (
    PATIENCE_S,
    Exits,
    Obedient,
    descriptors,
    run_script,
    wait_until,
    watcher_threads,
)

pytestmark = pytest.mark.chaos

KILLED = ExitReason.signalled(9)


@pytest.fixture(params=["pidfd", "looking"])
def watcher(request):
    """A watcher of each mode."""
    if request.param == "pidfd" and not linux.probe_abilities().processes:
        pytest.skip("this kernel has no pidfds")
    use_pidfd = False if request.param == "looking" else None
    with Watcher(use_pidfd=use_pidfd, fallback_interval_s=0.01) as watcher:
        yield watcher


@pytest.fixture
def many_descriptors():
    """Allow as many descriptors as may be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


CROWD = """
import os, signal, sys

number, pids = int(sys.argv[1]), []
for _ in range(number):
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    pids.append(pid)
print(*pids, flush=True)
for pid in pids:
    os.waitpid(pid, 0)
"""


def crowd(number):
    """Start that many processes, children of one stranger who reaps them."""
    parent = subprocess.Popen(
        [sys.executable, "-ISc", CROWD, str(number)], stdout=subprocess.PIPE, text=True
    )
    return parent, [int(pid) for pid in parent.stdout.readline().split()]


@pytest.mark.slow
def test_five_thousand_processes_are_watched_by_one_thread(many_descriptors):
    if many_descriptors < 5200:
        pytest.skip("too few descriptors may be had here")
    before, told, over = descriptors(), collections.Counter(), threading.Event()

    def count(pid, reason):
        told[pid, reason] += 1
        if len(told) == len(pids):
            over.set()

    parent, pids = crowd(5000)
    try:
        with Watcher() as watcher:
            refs = [ProcessRef.of(pid) for pid in pids]
            for ref in refs:
                monitor(ref, lambda reason, pid=ref.pid: count(pid, reason), watcher=watcher)
            assert len(watcher_threads()) == 1
            assert len(watcher) == 5000
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            assert over.wait(PATIENCE_S)
            assert len(watcher) == 0
            assert set(told) == {(pid, KILLED) for pid in pids}
            assert set(told.values()) == {1}
    finally:
        for pid in pids:
            kill_quietly(pid)
        parent.wait(PATIENCE_S)
        parent.stdout.close()
    assert descriptors() == before


def kill_quietly(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_processes_that_are_registered_cancelled_and_killed_at_once_are_told_at_most_once(
    watcher, eager_switches
):
    parent, pids = crowd(300)
    refs = [ProcessRef.of(pid) for pid in pids]
    exits = {pid: Exits() for pid in pids}
    cancelled, dead, kept = set(), set(), {}

    def register(part):
        choice = random.Random(part)
        for ref in refs[part::3]:
            watched = monitor(ref, exits[ref.pid], watcher=watcher)
            kept[ref.pid] = watched
            if watched.exit_reason() is not None and not exits[ref.pid].reasons:
                dead.add(ref.pid)
            if choice.random() < 0.3:
                watched.cancel()
                cancelled.add(ref.pid)

    threads = [threading.Thread(target=register, args=(part,)) for part in range(3)]
    for thread in threads:
        thread.start()
    for pid in random.Random(7).sample(pids, len(pids)):
        os.kill(pid, signal.SIGKILL)
    for thread in threads:
        thread.join(PATIENCE_S)
    assert parent.wait(PATIENCE_S) == 0
    parent.stdout.close()
    wait_until(lambda: len(watcher) == 0)
    for pid in pids:
        if pid not in cancelled:
            wait_until(lambda pid=pid: exits[pid].reasons or pid in dead)
        assert len(exits[pid].reasons) <= 1
        assert not kept[pid].alive


def test_many_short_lives_leave_nothing(watcher):
    exits = Exits()
    with Obedient() as witness:
        monitor(witness.popen, Exits(), watcher=watcher)
        before = descriptors()
        for number in range(150):
            process = subprocess.Popen(["true"])
            watched = monitor(process, exits, watcher=watcher)
            if number % 3 == 0:
                watched.cancel()
            process.wait(PATIENCE_S)
            thread = threading.Thread(target=int)
            thread.start()
            monitor(thread, exits, watcher=watcher)
            thread.join(PATIENCE_S)
        wait_until(lambda: len(watcher) == 1)
        assert descriptors() == before
        assert len(exits.reasons) <= 300


def test_children_that_the_kernel_reaps_by_itself_are_told_once(watcher):
    run_script(
        "import queue, signal, subprocess, sys\n"
        "from frontdesk import Watcher, monitor\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "told, pidfd = queue.SimpleQueue(), sys.argv[1] == 'True'\n"
        "with Watcher(use_pidfd=None if pidfd else False) as watcher:\n"
        "    for _ in range(10):\n"
        "        process = subprocess.Popen(['sh', '-c', 'read go; exit 3'], stdin=-1)\n"
        "        watched = monitor(process, told.put, watcher=watcher)\n"
        "        assert watched.alive\n"
        "        process.stdin.close()\n"
        "        assert str(told.get(timeout=30)) in ('exited: 3', 'unknown')\n"
        "        assert not watched.alive\n",
        str(watcher.abilities.processes),
    )


PERMISSION = """
import logging, os, queue, sys
from frontdesk import ProcessRef, Watcher, monitor
from frontdesk.monitors import linux

go_read, go = os.pipe()
dead, announce_death = os.pipe()
pid = os.fork()
if pid == 0:
    os.dup2(go_read, 0)
    os.execlp("sh", "sh", "-c", "read go; exit 0")
ref = ProcessRef.of(pid)
observer = os.fork()
if observer == 0:
    os.close(announce_death)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    told, logged = queue.SimpleQueue(), []
    logging.getLogger("frontdesk").addFilter(logged.append)
    watcher = Watcher(use_pidfd=None if sys.argv[1] == "True" else False)
    assert monitor(ref, told.put, watcher=watcher).alive
    os.write(go, b"go\\n")
    os.read(dead, 1)
    stat = linux.read_stat(pid)
    assert stat.over and stat.status is None, stat
    assert told.get(timeout=30).kind == "unknown"
    assert not logged, logged
    late = monitor(ref, told.put, watcher=watcher)
    assert not late.alive and late.exit_reason().kind == "unknown"
    os._exit(0)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
os.close(announce_death)
assert os.waitpid(observer, 0)[1] == 0
os.waitpid(pid, 0)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_zombie_that_may_not_be_looked_into_is_unknown_and_not_normal(watcher):
    run_script(PERMISSION, str(watcher.abilities.processes))
