"""Monitors of threads, through the kernel and by looking."""

import _thread
import threading

import pytest

from frontdesk import AgentNotStarted, ExitReason, InvalidArgument, Watcher, monitor
from frontdesk.monitors.linux import Abilities, probe_abilities
from support.exits import PATIENCE_S, Exits, descriptors, run_script, watcher_threads

UNKNOWN = ExitReason.of("unknown")


@pytest.fixture(params=["pidfd", "looking", "old kernel"])
def watcher(request):
    """A watcher of each mode; an old kernel has pidfds for processes only."""
    if request.param == "pidfd" and not probe_abilities().threads:
        pytest.skip("this kernel has no pidfds of threads")
    use_pidfd = False if request.param == "looking" else None
    with Watcher(use_pidfd=use_pidfd, fallback_interval_s=0.005) as watcher:
        if request.param == "old kernel":
            watcher._abilities = Abilities(processes=True, threads=False)
        yield watcher


class Waiting:
    """A thread that ends when told."""

    def __init__(self, work=lambda: None):
        self._over, self._work = threading.Event(), work
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        self._over.wait(PATIENCE_S)
        self._work()

    def end(self):
        self._over.set()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end()
        self.thread.join(PATIENCE_S)


def test_the_end_of_a_thread_is_told_as_unknown(watcher):
    exits = Exits()
    with Waiting() as agent:
        watched = monitor(agent.thread, exits, watcher=watcher)
        assert watched.alive
        assert watched.exit_reason() is None
        agent.end()
        assert exits.next() == UNKNOWN
    assert not watched.alive
    assert watched.exit_reason() == UNKNOWN
    assert exits.reasons == [UNKNOWN]
    assert len(watcher) == 0


def test_a_thread_that_raises_is_unknown_too(watcher, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    exits = Exits()
    with Waiting(lambda: 1 / 0) as agent:
        monitor(agent.thread, exits, watcher=watcher)
        agent.end()
        assert exits.next() == UNKNOWN


def test_liveness_is_read_before_the_watcher_tells(watcher):
    exits, holding, go = Exits(), threading.Event(), threading.Event()

    def hold(_):
        holding.set()
        go.wait(PATIENCE_S)

    with Waiting() as first, Waiting() as second:
        monitor(first.thread, hold, watcher=watcher)
        watched = monitor(second.thread, exits, watcher=watcher)
        first.end()
        assert holding.wait(PATIENCE_S)
        second.end()
        second.thread.join(PATIENCE_S)
        assert not watched.alive
        assert watched.exit_reason() == UNKNOWN
        assert exits.reasons == []
        go.set()
        assert exits.next() == UNKNOWN


def test_a_thread_that_was_not_started_is_refused(watcher):
    before = descriptors()
    with pytest.raises(AgentNotStarted):
        monitor(threading.Thread(), Exits(), watcher=watcher)
    assert descriptors() == before


def test_a_thread_whose_init_was_never_called_is_refused(watcher):
    class Halfway(threading.Thread):
        def __init__(self): ...

    with pytest.raises(AgentNotStarted):
        monitor(Halfway(), Exits(), watcher=watcher)


def test_a_finished_thread_is_dead_and_tells_nobody(watcher):
    before = descriptors()
    exits = Exits()
    with Waiting() as agent:
        pass
    watched = monitor(agent.thread, exits, watcher=watcher)
    assert not watched.alive
    assert watched.exit_reason() == UNKNOWN
    assert descriptors() == before
    assert exits.reasons == []


def test_after_cancel_nobody_is_told_and_nothing_is_open(watcher):
    exits, other = Exits(), Exits()
    with Waiting() as agent, Waiting() as witness:
        monitor(witness.thread, other, watcher=watcher)
        before = descriptors()
        watched = monitor(agent.thread, exits, watcher=watcher)
        watched.cancel()
        watched.cancel()
        assert descriptors() == before
        agent.end()
        agent.thread.join(PATIENCE_S)
        witness.end()
        other.next()
    assert exits.reasons == []
    assert not watched.alive


def test_threads_with_reused_numbers_are_each_told_once(watcher):
    ends = []
    idents = set()
    for _ in range(100):
        exits = Exits()
        with Waiting() as agent:
            idents.add(agent.thread.ident)
            watched = monitor(agent.thread, exits, watcher=watcher)
            assert watched.alive
            agent.end()
            exits.next()
        ends.append(exits)
    assert all(exits.reasons == [UNKNOWN] for exits in ends)
    assert len(idents) < 100


def test_a_short_thread_is_told_once_or_found_dead(watcher):
    for _ in range(100):
        exits = Exits()
        thread = threading.Thread(target=int)
        thread.start()
        watched = monitor(thread, exits, watcher=watcher)
        found_dead = watched.exit_reason() is not None
        thread.join(PATIENCE_S)
        if not found_dead:
            exits.next()
        assert watched.exit_reason() == UNKNOWN


def test_many_threads_are_watched_by_one(watcher):
    exits, before = Exits(), len(watcher_threads())
    agents = [Waiting() for _ in range(200)]
    for agent in agents:
        agent.__enter__()
        monitor(agent.thread, exits, watcher=watcher)
    assert len(watcher_threads()) == before + 1
    for agent in agents:
        agent.__exit__()
    for _ in agents:
        exits.next()
    assert len(watcher) == 0


class Boastful(threading.Thread):
    """A subclass that has another idea of being alive."""

    def is_alive(self):
        return True


def test_a_subclass_is_not_asked_whether_it_lives(watcher):
    exits = Exits()
    over = threading.Event()
    thread = Boastful(target=over.wait)
    thread.start()
    watched = monitor(thread, exits, watcher=watcher)
    over.set()
    assert exits.next() == UNKNOWN
    assert not watched.alive
    threading.Thread.join(thread, PATIENCE_S)


def test_the_main_thread_is_alive(watcher):
    watched = monitor(threading.main_thread(), Exits(), watcher=watcher)
    assert watched.alive
    watched.cancel()


def test_a_dummy_thread_may_register_itself(watcher):
    exits, registered, over = Exits(), threading.Event(), threading.Event()
    found = []

    def work():
        thread = threading.current_thread()
        found.append((thread, monitor(thread, exits, watcher=watcher)))
        registered.set()
        over.wait(PATIENCE_S)

    _thread.start_new_thread(work, ())
    assert registered.wait(PATIENCE_S)
    thread, watched = found[0]
    assert isinstance(thread, threading._DummyThread)
    assert watched.alive
    over.set()
    assert exits.next() == UNKNOWN
    assert not watched.alive


def test_a_dummy_thread_of_somebody_else_is_refused(watcher):
    registered, over, found = threading.Event(), threading.Event(), []

    def work():
        found.append(threading.current_thread())
        registered.set()
        over.wait(PATIENCE_S)

    _thread.start_new_thread(work, ())
    assert registered.wait(PATIENCE_S)
    before = descriptors()
    with pytest.raises(InvalidArgument, match="dummy"):
        monitor(found[0], Exits(), watcher=watcher)
    assert descriptors() == before
    over.set()


def test_a_thread_is_not_taken_for_its_namesake_in_the_parent():
    """After fork(), `native_id` of the thread that forked may still be its number in the parent."""
    run_script(
        "import os, signal, threading\n"
        "from frontdesk import Watcher, monitor\n"
        "def forks():\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        signal.alarm(30)\n"
        "        thread, told = threading.current_thread(), threading.Event()\n"
        "        watched = monitor(thread, lambda _: told.set())\n"
        "        other = threading.Thread(target=lambda: os._exit(\n"
        "            0 if monitor(thread, print).alive and not told.is_set() else 1))\n"
        "        other.start(); other.join()\n"
        "    children.append(pid)\n"
        "children = []\n"
        "thread = threading.Thread(target=forks); thread.start(); thread.join()\n"
        "assert os.waitpid(children[0], 0)[1] == 0\n"
    )
