"""Real agents whose end a test decides, and ways to wait for what the store says of them.

Beside the tests that use them. Nothing here sleeps: whoever waits, waits for a change, with a
bound.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading

from frontdesk import Change, Watcher
from support.lacking import waitid

BOUND_S = 30
"""How long a test waits for what must come."""


class ParkedThread(threading.Thread):
    """A thread that lives until it is released."""

    def __init__(self):
        super().__init__(daemon=True)
        self._released = threading.Event()

    def run(self):
        self._released.wait()

    def release(self):
        """Let it end, and wait until Python says that it has."""
        self._released.set()
        self.join(BOUND_S)
        assert not self.is_alive()


@contextlib.contextmanager
def parked_thread():
    """Give a live thread, released in the end at the latest."""
    thread = ParkedThread()
    thread.start()
    try:
        yield thread
    finally:
        thread.release()


@contextlib.contextmanager
def process(*command):
    """Give a child process that lives until it is killed, in the end at the latest."""
    child = subprocess.Popen(command or ["sleep", "1000"])
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        child.wait(BOUND_S)


class StillWatcher(Watcher):
    """A watcher whose second never passes: the test alone decides when loops are looked at."""

    def every_second(self, callback):
        return lambda: None


def zombie_of(child):
    """Kill a child and wait until it is dead, without reaping it."""
    os.kill(child.pid, signal.SIGKILL)
    waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    return child


def start_time(pid):
    """Return field 22 of /proc/<pid>/stat."""
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[19])


def next_change(watch):
    """Return the next change of a watch, which has to come."""
    item = watch.next(timeout_s=BOUND_S)
    assert isinstance(item, Change), item
    return item


def next_changes(watch, number):
    """Return the next changes of a watch, which have to come."""
    return [next_change(watch) for _ in range(number)]


def end_of(watch, session_id):
    """Read a watch up to the end of this session, which has to come; return that change."""
    while True:
        change = next_change(watch)
        if (change.kind, change.session.session_id) == ("ended", session_id):
            return change


def told(watch):
    """Return what a watch has to say right now, as (kind, id, reason's kind)."""
    items = []
    with contextlib.suppress(TimeoutError, StopIteration):
        while True:
            items.append(watch.next(timeout_s=0))
    return [
        (
            item.kind,
            item.session.session_id,
            str(item.reason.kind) if item.kind == "ended" else None,
        )
        for item in items
        if isinstance(item, Change)
    ]


def in_threads(*functions):
    """Run functions in a thread each, starting together; return results, raise what they raise."""
    results, errors = [None] * len(functions), []
    start = threading.Barrier(len(functions))

    def run(number, function):
        try:
            start.wait(BOUND_S)
            results[number] = function()
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=(number, function), daemon=True)
        for number, function in enumerate(functions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_S * 2)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]
    return results
