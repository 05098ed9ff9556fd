"""The watcher: one thread, its callbacks, its ticks, its end, and what a fork leaves of it."""

import contextlib
import errno
import gc
import logging
import os
import select
import threading
import weakref

import pytest

from frontdesk import ExitReason, InvalidArgument, MonitorFailed, Watcher, monitor
from frontdesk.monitors import watcher as watcher_module
from frontdesk.monitors.linux import probe_abilities
from frontdesk.monitors.poller import PipePoller
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
from support.lacking import about

NORMAL = ExitReason.of("normal")


@pytest.fixture(params=["pidfd", "looking", "no epoll"])
def watcher(request, monkeypatch):
    """A watcher of each mode."""
    if request.param == "pidfd" and not probe_abilities().processes:
        pytest.skip("this kernel has no pidfds")
    if request.param == "no epoll":
        monkeypatch.setattr(watcher_module, "make_poller", PipePoller)
    use_pidfd = None if request.param == "pidfd" else False
    with Watcher(use_pidfd=use_pidfd, fallback_interval_s=0.01) as watcher:
        yield watcher


# -- its thread --------------------------------------------------------------------------------


def test_the_thread_comes_with_the_first_thing_to_watch_and_goes_with_the_watcher():
    before = descriptors()
    with Watcher() as watcher, Obedient() as process:
        assert watcher_threads() == []
        monitor(process.popen, Exits(), watcher=watcher)
        assert len(watcher_threads()) == 1
    assert watcher_threads() == []
    assert descriptors() == before
    assert watcher.closed


def test_closing_lets_everything_go_and_tells_nobody(watcher):
    exits = Exits()
    with Obedient() as process, Obedient() as other:
        watched = [monitor(agent.popen, exits, watcher=watcher) for agent in (process, other)]
        watcher.close(wait_s=PATIENCE_S)
        watcher.close()
        assert len(watcher) == 0
    for one in watched:
        one.cancel()
        assert not one.alive or one.exit_reason() is None
    assert exits.reasons == []


def test_a_closed_watcher_refuses(watcher):
    watcher.close()
    with Obedient() as process:
        before = descriptors()
        with pytest.raises(MonitorFailed, match="closed"):
            monitor(process.popen, Exits(), watcher=watcher)
        assert descriptors() == before
    assert not watcher_threads()


def test_a_watcher_may_be_closed_in_its_own_callback(watcher):
    told = threading.Event()

    def close(_):
        watcher.close(wait_s=PATIENCE_S)
        told.set()

    with Obedient() as process:
        monitor(process.popen, close, watcher=watcher)
        process.go()
        assert told.wait(PATIENCE_S)
    wait_until(lambda: not watcher_threads())


def test_a_forgotten_watcher_is_collected_and_its_thread_ends():
    before = descriptors()
    exits = Exits()
    with Obedient() as process:
        watcher = Watcher()
        monitor(process.popen, exits, watcher=watcher)
        forgotten = weakref.ref(watcher)
        del watcher
        gc.collect()
        process.go()
        assert exits.next() == NORMAL
    wait_until(lambda: gc.collect() is not None and forgotten() is None)
    wait_until(lambda: not watcher_threads())
    wait_until(lambda: descriptors() == before)


@pytest.mark.parametrize("interval", [0, -1, float("nan")])
def test_an_impossible_interval_is_refused(interval):
    with pytest.raises(InvalidArgument, match="fallback_interval_s"):
        Watcher(fallback_interval_s=interval)


@about("pidfds")
def test_pidfds_that_are_insisted_on_are_refused_where_there_are_none(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(InvalidArgument, match="use_pidfd"):
        Watcher(use_pidfd=True)


@about("pidfds")
def test_the_kernel_is_asked_once_for_what_it_can_do(monkeypatch):
    opened, real = [], os.pidfd_open

    def count(pid, flags=0):
        opened.append(pid)
        return real(pid, flags)

    monkeypatch.setattr(os, "pidfd_open", count)
    with Watcher() as watcher, Obedient() as process:
        assert opened == []
        for _ in range(3):
            monitor(process.popen, Exits(), watcher=watcher).cancel()
        assert opened.count(process.pid) == 3
        assert len(opened) == 5


# -- its callbacks -----------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_callback_that_raises_is_logged_once_and_harms_nobody(watcher, caplog, error):
    def bad(_):
        raise error("bad callback")

    exits = Exits()
    with caplog.at_level(logging.ERROR), Obedient() as first, Obedient() as second:
        monitor(first.popen, bad, watcher=watcher)
        monitor(first.popen, exits, watcher=watcher)
        monitor(second.popen, exits, watcher=watcher)
        first.go()
        assert exits.next() == NORMAL
        second.go()
        assert exits.next() == NORMAL
        wait_until(lambda: caplog.records)
    assert [record.name for record in caplog.records] == ["frontdesk"]


def test_a_callback_may_monitor_and_cancel(watcher):
    exits = Exits()
    with Obedient() as first, Obedient() as second, Obedient() as third:
        cancelled = monitor(third.popen, exits, watcher=watcher)

        def busy(_):
            cancelled.cancel()
            monitor(second.popen, exits, watcher=watcher)
            second.go()

        monitor(first.popen, busy, watcher=watcher)
        first.go()
        assert exits.next() == NORMAL
        third.go()
        wait_for_zombie(third.pid)
    assert exits.reasons == [NORMAL]


def test_a_callback_that_blocks_delays_nobody_with_another_watcher(watcher):
    holding, go, exits = threading.Event(), threading.Event(), Exits()

    def hold(_):
        holding.set()
        go.wait(PATIENCE_S)

    with Watcher(use_pidfd=False) as blocked, Obedient() as first, Obedient() as second:
        monitor(first.popen, hold, watcher=blocked)
        monitor(second.popen, exits, watcher=watcher)
        first.go()
        assert holding.wait(PATIENCE_S)
        second.go()
        assert exits.next() == NORMAL
        go.set()


def test_cancel_in_a_race_with_the_end_leaves_at_most_one_call(watcher, eager_switches):
    for _ in range(40):
        exits = Exits()
        with Obedient() as process:
            watched = monitor(process.popen, exits, watcher=watcher)
            process.go()
            wait_for_zombie(process.pid)
            watched.cancel()
            assert len(exits.reasons) <= 1
    assert len(watcher) == 0


class Lingering:
    """Something watched that never ends; it counts how often it is polled."""

    pending_status = False

    def __init__(self, fd):
        self.fd, self.looks, self.reasons = fd, 0, []

    def poll(self):
        self.looks += 1
        return

    def notify(self, reason):
        self.reasons.append(reason)


@about("pidfds")
def test_a_stale_report_about_a_number_used_anew_ends_nobody():
    """The kernel reported a descriptor; before the thread looks, its number is another's."""
    with Watcher() as watcher, Obedient() as process:
        exits = Exits()
        watched = monitor(process.popen, exits, watcher=watcher)
        watcher._loop._descriptor_ready(watched.fd)
        assert watched.alive
        assert len(watcher) == 1
        process.go()
        assert exits.next() == NORMAL


def test_a_poll_that_fails_ends_the_watching_as_unknown(caplog):
    class Failing(Lingering):
        def poll(self):
            raise RuntimeError("cannot look")

    read, write = os.pipe()
    failing = Failing(read)
    with Watcher() as watcher:
        watcher.add(failing)
        os.close(write)
        # A pipe without a writer hangs up, which is reported like the end of a process.
        wait_until(lambda: failing.reasons)
    assert failing.reasons == [ExitReason.of("unknown")]
    assert len(caplog.records) == 1


@about("pidfds")
def test_a_descriptor_leaves_the_epoll_set_before_it_is_closed(monkeypatch):
    order = []

    class Epoll:
        """An epoll that notes when what leaves it."""

        def __init__(self):
            self._real = select_epoll()
            self.register, self.poll = self._real.register, self._real.poll
            self.close = self._real.close

        def unregister(self, fd):
            order.append(os.fstat(fd) and "left")
            self._real.unregister(fd)

    select_epoll = select.epoll
    monkeypatch.setattr(select, "epoll", Epoll)
    exits = Exits()
    with Watcher() as watcher, Obedient() as first, Obedient() as second, Obedient() as third:
        monitor(first.popen, exits, watcher=watcher)
        first.go()
        exits.next()
        monitor(second.popen, exits, watcher=watcher).cancel()
        monitor(third.popen, exits, watcher=watcher)
    assert order == ["left"] * 3


# -- every second ------------------------------------------------------------------------------


@pytest.fixture
def fast_seconds(monkeypatch):
    """Make a second short."""
    monkeypatch.setattr(watcher_module, "TICK_S", 0.005)


class Looker:
    def __init__(self):
        self.looked = threading.Semaphore(0)

    def look(self):
        self.looked.release()


def test_it_calls_every_second_until_told_to_stop(watcher, fast_seconds):
    looker = Looker()
    stop = watcher.every_second(looker.look)
    for _ in range(5):
        assert looker.looked.acquire(timeout=PATIENCE_S)
    stop()
    stop()
    assert watcher._loop._ticks == []


def test_a_second_is_a_second(watcher):
    looker = Looker()
    watcher.every_second(looker.look)
    assert not looker.looked.acquire(timeout=0.5)
    assert looker.looked.acquire(timeout=PATIENCE_S)


def test_the_ticks_go_on_while_processes_end(watcher, fast_seconds):
    looker, exits = Looker(), Exits()
    watcher.every_second(looker.look)
    with Obedient() as process:
        monitor(process.popen, exits, watcher=watcher)
        assert looker.looked.acquire(timeout=PATIENCE_S)
        process.go()
        assert exits.next() == NORMAL
        assert looker.looked.acquire(timeout=PATIENCE_S)


def test_a_method_called_every_second_does_not_keep_its_object(watcher, fast_seconds):
    looker = Looker()
    watcher.every_second(looker.look)
    assert looker.looked.acquire(timeout=PATIENCE_S)
    gone = weakref.ref(looker)
    del looker
    wait_until(lambda: gc.collect() is not None and gone() is None)
    wait_until(lambda: watcher._loop._ticks == [])


def test_what_raises_every_second_is_logged_once_and_goes_on(watcher, fast_seconds, caplog):
    called = threading.Semaphore(0)

    def bad():
        called.release()
        raise SystemExit("bad tick")

    watcher.every_second(bad)
    for _ in range(4):
        assert called.acquire(timeout=PATIENCE_S)
    assert [record.name for record in caplog.records] == ["frontdesk"]


def test_ticks_alone_start_no_thread_on_a_closed_watcher(watcher):
    watcher.close()
    watcher.every_second(lambda: None)()
    assert not watcher_threads()


# -- fork --------------------------------------------------------------------------------------

FORK = """
import atexit, os, queue, select, signal, subprocess, sys, threading, time
from frontdesk import MonitorFailed, ProcessRef, Watcher, monitor

how = sys.argv[1]
watcher, exits = Watcher(), queue.SimpleQueue()
processes = [subprocess.Popen(["sleep", "300"]) for _ in range(5)]
watched = [monitor(process, exits.put, watcher=watcher) for process in processes]
atexit.register(lambda: [(process.kill(), process.wait()) for process in processes])
ready, hold = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    if how == "abandoned":
        watcher.abandon_after_fork()
        watcher.abandon_after_fork()
        open_pidfds = [n for n in os.listdir("/proc/self/fd")
                       if "pidfd" in os.path.realpath(f"/proc/self/fd/{n}")]
        assert not open_pidfds, open_pidfds
    elif how == "cancelled":
        for one in watched: one.cancel()
    elif how == "closed":
        watcher.close(wait_s=10)
    elif how == "collected":
        del watcher, watched, exits
        import gc; gc.collect()
    elif how == "used":
        assert not monitor(processes[0], print, watcher=watcher).alive
        try: monitor(ProcessRef.of(processes[0].pid), print, watcher=watcher)
        except MonitorFailed: pass
        else: os._exit(1)
    os.write(ready[1], b"1")
    os.close(hold[1])
    os.read(hold[0], 1)   # keep the copies until the parent is through
    os._exit(0)
os.close(ready[1])
assert os.read(ready[0], 1)
thread = next(t for t in threading.enumerate() if t.name == "frontdesk-watcher")

def used():
    with open(f"/proc/self/task/{thread.native_id}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])

for process in processes[:3]:
    process.kill()
    process.wait()
for _ in range(3):
    assert exits.get(timeout=30).signal == 9
watched[3].cancel()
before = used()
deadline = time.monotonic() + 0.3
while time.monotonic() < deadline: time.sleep(0.05)
assert used() - before <= 5, "the thread spins"
processes[4].kill()
assert exits.get(timeout=30).signal == 9
assert exits.empty()
os.close(hold[1])
assert os.waitpid(pid, 0)[1] == 0
watcher.close(wait_s=30)
assert not thread.is_alive()
"""


@pytest.mark.parametrize(
    "how", ["abandoned", "cancelled", "closed", "collected", "used", "forgotten"]
)
def test_a_forked_child_harms_its_parents_watcher_in_no_way(how):
    run_script(FORK, how)


def test_a_child_forked_while_the_lock_is_held_is_not_stuck():
    run_script(
        "import os, signal, threading\n"
        "from frontdesk import Watcher\n"
        "watcher = Watcher()\n"
        "held, go = threading.Event(), threading.Event()\n"
        "def hold():\n"
        "    with watcher._loop._lock:\n"
        "        held.set(); go.wait(30)\n"
        "thread = threading.Thread(target=hold); thread.start(); held.wait(30)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    signal.alarm(30); watcher.close(); os._exit(0 if watcher.closed else 1)\n"
        "go.set(); thread.join()\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "assert not watcher.closed\n"
    )


def test_close_in_a_signal_handler_that_interrupts_a_write_is_not_stuck():
    run_script(
        "import os, signal\n"
        "from frontdesk import Watcher\n"
        "watcher = Watcher()\n"
        "signal.signal(signal.SIGUSR1, lambda *_: watcher.close())\n"
        "signal.alarm(30)\n"
        "with watcher._loop._lock:\n"
        "    os.kill(os.getpid(), signal.SIGUSR1)\n"
        "assert watcher.closed\n"
    )


def test_a_thread_whose_descriptors_were_closed_by_others_says_so(caplog):
    """Programs that make daemons of themselves close every descriptor they find."""
    with Watcher() as watcher, Obedient() as process:
        exits = Exits()
        monitor(process.popen, exits, watcher=watcher)
        poller = watcher._loop._poller
        with contextlib.suppress(OSError):
            os.close(poller._epoll.fileno())
        poller.wake()
        wait_until(lambda: caplog.records)
    assert "failed" in caplog.text
