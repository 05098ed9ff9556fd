"""A `/proc` that does not show what there is: absence there is no death, and numbers are not names.

Real mounts in a mount namespace, real pid namespaces: for these a test is root, or is skipped.
"""

import functools
import os
import subprocess
import sys

import pytest

from frontdesk import MonitorFailed, ProcessRef, monitor
from frontdesk.monitors import linux
from support.exits import Exits, Obedient, run_script
from support.lacking import waitid

PRELUDE = """
import asyncio, ctypes, multiprocessing, os, subprocess, sys, threading, time, warnings
# These forks run nothing but system calls.
warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
from frontdesk import *
from frontdesk.monitors import linux

libc = ctypes.CDLL(None, use_errno=True)

def own_mounts():
    assert libc.unshare(0x00020000) == 0, "unshare"
    assert libc.mount(b"none", b"/", None, 1 << 18 | 1 << 14, None) == 0, "private"

def mount_proc(options=b""):
    assert libc.mount(b"proc", b"/proc", b"proc", 0, options) == 0, "mount"

def drop_rights():
    os.setgroups([]); os.setgid(65534); os.setuid(65534)

def start():
    return subprocess.Popen(["cat"], stdin=subprocess.PIPE)

def orphan():
    # A process that is nobody's child here, and the end of the pipe that it waits for.
    reading, writing = os.pipe()
    said = os.pipe()
    pid = os.fork()
    if pid == 0:
        other = os.fork()
        if other == 0:
            os.close(writing); os.close(said[1])
            for output in (1, 2): os.dup2(os.open(os.devnull, os.O_RDWR), output)
            os.read(reading, 1)
            os._exit(3)
        os.write(said[1], str(other).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(reading)
    return int(os.read(said[0], 20)), writing

def refused(agent, store, *texts):
    try:
        store.create("refused", agent)
    except MonitorFailed as error:
        assert any(text in str(error) for text in texts), error
    else:
        raise AssertionError(f"taken: {store.ended('refused')}")
    assert store.count() == 0

def told(store, session_id):
    deadline = time.monotonic() + 30
    while store.count() and time.monotonic() < deadline: time.sleep(0.005)
    return str(store.ended(session_id).reason)
"""


def as_root(script, *arguments):
    """Run a script that mounts; skip where that cannot be."""
    if os.geteuid() != 0 or not may_unshare():
        pytest.skip("root that may mount is needed")
    return run_script(PRELUDE + script, *arguments)


@functools.cache
def may_unshare():
    """Try it in a process of its own: this one has threads, and may not just fork."""
    tried = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x20020000) != 0)"
    return subprocess.run([sys.executable, "-c", tried], check=False).returncode == 0


HIDDEN = """
use_pidfd = None if sys.argv[2] == "pidfd" else False
own_mounts()
(stranger, writing), child, init = orphan(), start(), ProcessRef.of(1)
refs = [init, ProcessRef.of(child.pid), ProcessRef.of(stranger)]
mount_proc(sys.argv[1].encode())
drop_rights()
with Watcher(use_pidfd=use_pidfd) as watcher, SessionStore(watcher=watcher) as store:
    for ref in refs:
        refused(ref, store, "/proc hides process")
        try:
            ProcessRef.of(ref.pid)
        except PermissionError as error:
            assert "/proc hides process" in str(error), error
        else:
            raise AssertionError("named")
    if watcher.abilities.processes:
        # Its own child: nobody else can have the pid, and the descriptor tells.
        store.create("child", child)
        assert store.get("child").monitor.alive
        child.stdin.close()
        assert told(store, "child") == "normal"
    else:
        refused(child, store, "/proc hides process")
        child.stdin.close()
    child.wait()
    # What is not there is not hidden.
    store.create("dead", refs[1])
    assert str(store.ended("dead").reason) == "not_alive"
"""


@pytest.mark.parametrize("mode", ["pidfd", "looking"])
@pytest.mark.parametrize("options", ["hidepid=noaccess", "hidepid=invisible", "hidepid=ptraceable"])
def test_a_hidden_process_is_watched_or_refused_and_never_called_dead(options, mode):
    as_root(HIDDEN, options, mode)


HIDDEN_LATER = """
use_pidfd = None if sys.argv[2] == "pidfd" else False
own_mounts()
(stranger, writing), child = orphan(), start()
with Watcher(use_pidfd=use_pidfd, fallback_interval_s=0.005) as watcher:
    with SessionStore(watcher=watcher) as store:
        store.create("child", child)
        store.create("stranger", ProcessRef.of(stranger))
        mount_proc(sys.argv[1].encode())
        drop_rights()
        for _ in range(50):
            assert store.get("child").monitor.alive and store.get("stranger").monitor.alive
            time.sleep(0.001)
        assert store.count() == 2
        child.stdin.close()
        os.close(writing)
        assert told(store, "child") == "normal"
        # Without pidfds nobody can say how a stranger ended that was hidden.
        assert str(store.ended("stranger").reason) in ("exited: 3", "unknown")
    child.wait()
"""


@pytest.mark.parametrize("mode", ["pidfd", "looking"])
@pytest.mark.parametrize("options", ["hidepid=noaccess", "hidepid=invisible"])
def test_a_process_that_is_hidden_later_lives_until_it_ends(options, mode):
    as_root(HIDDEN_LATER, options, mode)


OTHER_NAMESPACE = """
how, mode = sys.argv[1:]
use_pidfd = None if mode == "pidfd" else False
own_mounts()

def check():
    with Watcher(use_pidfd=use_pidfd) as watcher, SessionStore(watcher=watcher) as store:
        child = start()
        # The number is a stranger's in that /proc, or nobody's: its start time may even be right.
        try:
            with open(f"/proc/{child.pid}/stat", "rb") as file:
                started = linux.parse_stat(file.read()).start_time
        except FileNotFoundError:
            started = 1
        refused(ProcessRef(child.pid, started), store, "pid namespace")
        for pid in (child.pid, os.getpid(), 1):
            try:
                ProcessRef.of(pid)
            except OSError as error:
                assert "pid namespace" in str(error), error
            else:
                raise AssertionError("named")
        if watcher.abilities.processes:
            store.create("child", child)
            child.stdin.close()
            assert told(store, "child") == "normal"
        else:
            refused(child, store, "pid namespace")
            child.stdin.close()
        child.wait()
        # A thread needs no /proc, but for one that Python has not started.
        over = threading.Event()
        thread = threading.Thread(target=over.wait)
        thread.start()
        store.create("thread", thread)
        over.set()
        assert told(store, "thread") == "unknown"
        thread.join()

def foreign():
    import _thread
    found, done = [], _thread.allocate_lock()
    done.acquire()
    def register():
        with SessionStore() as store:
            try:
                store.create("dummy", threading.current_thread())
                found.append("taken")
            except MonitorFailed as error:
                found.append(str(error))
        done.release()
    _thread.start_new_thread(register, ())
    assert done.acquire(timeout=30)
    assert "pid namespace" in found[0], found

if how == "inside":
    # As in a container that has its own processes, and the host's /proc.
    assert libc.unshare(0x20000000) == 0
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert os.getpid() == 1
            check()
            foreign()
            code = 0
        finally:
            sys.stdout.flush()
            if code:
                import traceback; traceback.print_exc()
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
else:
    # Outside, with the /proc of a namespace below.
    reading, writing = os.pipe(); mounted = os.pipe()
    assert libc.unshare(0x20000000) == 0
    pid = os.fork()
    if pid == 0:
        mount_proc()
        os.write(mounted[1], b"1")
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    assert os.read(mounted[0], 1)
    # Later children are of the namespace below as well: so no child is started here.
    for pid_there in (1, os.getpid(), pid):
        for act in (lambda: ProcessRef.of(pid_there),
                    lambda: monitor(ProcessRef(pid_there, 1), print)):
            try:
                act()
            except OSError as error:
                assert "pid namespace" in str(error), error
            else:
                raise AssertionError("taken")
    os.close(writing)
    os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("mode", ["pidfd", "looking"])
@pytest.mark.parametrize("how", ["inside", "outside"])
def test_another_pid_namespaces_proc_is_not_believed(how, mode):
    as_root(OTHER_NAMESPACE, how, mode)


# -- the same by hand, for who is not root -----------------------------------------------------


@pytest.fixture
def hiding(monkeypatch):
    """Have `/proc` hide the processes whose pids are added to a set."""
    hidden, real = set(), linux._read

    def read(path):
        parts = path.split("/")
        return b"" if parts[2].isdigit() and int(parts[2]) in hidden else real(path)

    monkeypatch.setattr(linux, "_read", read)
    return hidden


def test_a_number_that_is_given_away_between_two_looks_is_not_hidden(hiding, monkeypatch):
    """It was nobody's as `/proc` was read, and is somebody's as it is asked whether it is."""
    with Obedient() as process:
        hiding.add(process.pid)
        real = linux.exists
        monkeypatch.setattr(linux, "exists", lambda pid: hiding.discard(pid) or real(pid))
        assert linux.read_stat(process.pid) is not None


def test_a_process_that_ends_between_two_looks_is_none(hiding, monkeypatch):
    with Obedient() as process:
        hiding.add(process.pid)

        def reap(pid):
            process.go()
            process.popen.wait()
            return False

        monkeypatch.setattr(linux, "exists", reap)
        assert linux.read_stat(process.pid) is None


def test_a_ref_that_is_over_is_dead_though_it_is_hidden(hiding):
    """Whoever has the number now is over: so is whoever had it before."""
    with Obedient() as process:
        ref = ProcessRef.of(process.pid)
        process.go()
        waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        hiding.add(process.pid)
        if not linux.probe_abilities().processes:
            pytest.skip("this kernel has no pidfds")
        assert not monitor(ref, Exits()).alive


def test_a_refusal_says_why_and_leaves_nothing(hiding, store):
    with Obedient() as process:
        ref = ProcessRef.of(process.pid)
        hiding.add(process.pid)
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(MonitorFailed, match=f"/proc hides process {process.pid}") as caught:
            store.create("s-1", ref)
        assert isinstance(caught.value.error, PermissionError)
        assert len(os.listdir("/proc/self/fd")) == before
        assert store.count() == 0


WITHOUT = """
# As on macOS: no pidfds, no /proc; `sys.argv[1]` says whether a child can be asked unreaped.
linux.CAN_PEEK = sys.argv[1] == "peek"
def how(name):
    deadline = time.monotonic() + 30
    while any(each.session_id == name for each in store.list()):
        assert time.monotonic() < deadline, name
        time.sleep(0.005)
    reason = store.ended(name).reason
    return reason.kind.value, reason.signal
own_mounts()
ref, children = ProcessRef.of(os.getpid()), {name: start() for name in ("waited", "polled", "own")}
assert libc.umount2(b"/proc", 2) == 0, "umount"
assert not os.path.exists("/proc/self")
with Watcher(use_pidfd=False) as watcher, SessionStore(watcher=watcher) as store:
    refused(ref, store, "there is no /proc")
    for name, child in children.items():
        store.create(name, child)
        assert store.get(name).monitor.alive
    children["waited"].kill()
    children["waited"].wait()
    assert how("waited") == ("signalled", 9)
    assert store.count() == 2
    children["polled"].stdin.close()
    while children["polled"].poll() is None: time.sleep(0.005)
    assert how("polled") == ("normal", None)
    children["own"].stdin.close()
    if linux.CAN_PEEK:
        assert how("own") == ("normal", None)  # before its owner asks
    children["own"].wait()
    assert how("own") == ("normal", None)
    gone = start()
    gone.kill()
    gone.wait()
    store.create("gone", gone)
    assert how("gone")[0] == "not_alive"
    assert store.count() == 0
"""


@pytest.mark.parametrize("asked", ["peek", "by their owners alone"])
def test_without_pidfds_and_proc_processes_are_known_by_what_has_made_them(asked):
    as_root(WITHOUT, asked)
