"""The watcher beside tools that change what it stands on: frozen clocks, greenlets for threads."""

import pytest

from support.exits import run_script
from support.installed import GREEN_THREADS, TIME_TOOLS, from_pip

# Real tools, installed on demand.
pytestmark = pytest.mark.slow

# -- test tools that freeze time ---------------------------------------------------------------

FROZEN = """
import asyncio, os, subprocess, sys, threading
from frontdesk import SessionStore, Watcher, monitor

tool, when = sys.argv[1:]
if tool.startswith("freezegun"):
    import freezegun
    def freeze():
        # In the future, in the past, and with a clock that runs 15 s further when it is read.
        how = {"future": {}, "past": {}, "leaping": {"auto_tick_seconds": 15}}[tool[10:]]
        return freezegun.freeze_time("1970-01-02" if "past" in tool else "2035-01-01", **how)
else:
    import time_machine
    def freeze():
        return time_machine.travel(1.9e9, tick=False)

class Watched:
    # A store and a watcher, and processes that end when they are told.
    def __init__(self, use_pidfd):
        self.watcher = Watcher(use_pidfd=use_pidfd)
        self.store = SessionStore(watcher=self.watcher)

    def begin(self):
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        over = threading.Event()
        monitor(process, lambda reason: over.set(), watcher=self.watcher)
        return process, over

    def end(self, agent):
        process, over = agent
        process.stdin.close()
        assert over.wait(20), "never told"
        process.wait()

async def main(watched):
    # A task has the store look for closed loops every second.
    watched.store.create("task", asyncio.get_running_loop().create_future())
    with freeze():
        first, second = watched.begin(), watched.begin()
        if when == "during":
            watched.end(first)
    watched.end(second)
    if when == "after":
        watched.end(first)
    tick = threading.Event()
    watched.watcher.every_second(tick.set)
    assert tick.wait(20), "seconds no longer pass"

for use_pidfd in (None, False):
    if when == "before":
        watched = Watched(use_pidfd)
        first = watched.begin()
        watched.end(first)
    else:
        with freeze():
            watched = Watched(use_pidfd)
    asyncio.run(main(watched))
    watched.store.close(); watched.watcher.close(wait_s=20)
"""


@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.parametrize(
    "tool", ["freezegun.future", "freezegun.past", "freezegun.leaping", "time_machine"]
)
def test_ends_are_told_whatever_a_test_tool_does_to_the_clock(tool, when):
    run_script(FROZEN, tool, when, python=from_pip("time-tools", *TIME_TOOLS))


# -- greenlets for threads ---------------------------------------------------------------------

GREEN = """
import select, subprocess, sys, threading, time

tool, patched, when = sys.argv[1:]

def patch():
    names = patched.split("+")
    if tool == "gevent":
        from gevent import monkey
        for name in names:
            getattr(monkey, f"patch_{name}")()
    else:
        import eventlet
        eventlet.monkey_patch(**({} if names == ["all"] else dict.fromkeys(names, True)))

if when == "before":
    patch()
from frontdesk import MonitorFailed, ProcessRef, SessionStore, Watcher
if when == "after":
    patch()

def outcome(watcher, store):
    processes = [subprocess.Popen(["cat"], stdin=subprocess.PIPE) for _ in range(2)]
    over = threading.Event()
    thread = threading.Thread(target=over.wait); thread.start()
    agents = {"popen": processes[0], "ref": ProcessRef.of(processes[1].pid), "thread": thread}
    outcome = "told"
    for name, agent in agents.items():
        try:
            store.create(name, agent)
        except MonitorFailed as error:
            assert "greenlets" in str(error), error
            outcome = "refused"
    assert outcome == "refused" or store.count() >= 3
    for process in processes: process.stdin.close()
    over.set()
    deadline = time.time() + 20
    while store._entries and time.time() < deadline:
        select.select([], [], [], 0.01)  # what both tools let others run in
    assert not store._entries, list(store._entries)
    if outcome == "told":
        assert str(store.ended("popen").reason) == "normal", store.ended("popen")
    for process in processes: process.wait()
    thread.join()
    return outcome

for use_pidfd in (None, False):
    watcher = Watcher(use_pidfd=use_pidfd)
    store = SessionStore(watcher=watcher)
    if when == "while it runs":
        first = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        store.create("first", first)
        if use_pidfd is None:
            patch()
        first.stdin.close()
    print(outcome(watcher, store))
    store.close(); watcher.close(wait_s=20)
"""


def outcomes(tool, patched, when):
    """Return what became of processes and threads, with pidfds and without."""
    python = from_pip("green-threads", *GREEN_THREADS)
    return run_script(GREEN, tool, patched, when, python=python).split()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("tool", "patched"),
    [
        ("gevent", "all"),
        ("gevent", "select"),
        ("gevent", "thread+select"),
        ("gevent", "socket+os+signal"),
        ("eventlet", "all"),
        ("eventlet", "select"),
        ("eventlet", "thread+select"),
        ("eventlet", "os+socket+time"),
    ],
)
def test_ends_are_told_under_greenlets(tool, patched, when):
    assert outcomes(tool, patched, when) == ["told", "told"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("tool", "patched"), [("gevent", "thread"), ("gevent", "thread+signal"), ("eventlet", "thread")]
)
def test_where_the_watching_thread_would_block_the_program_it_is_refused(tool, patched, when):
    assert outcomes(tool, patched, when) == ["refused", "refused"]


@pytest.mark.parametrize(
    ("tool", "patched"), [("gevent", "all"), ("gevent", "select"), ("eventlet", "all")]
)
def test_a_real_thread_goes_on_watching_where_greenlets_come_later(tool, patched):
    assert outcomes(tool, patched, "while it runs") == ["told", "told"]


HUBS = """
import subprocess, threading
from frontdesk import Watcher, monitor

hubs = []
for use_pidfd in (None, False):
    watcher = Watcher(use_pidfd=use_pidfd)
    over = threading.Event()
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    def ended(reason):
        from gevent._hub_local import get_hub_if_exists
        hubs.append(get_hub_if_exists())
        over.set()
    monitor(process, ended, watcher=watcher)
    if use_pidfd is None:
        from gevent import monkey
        monkey.patch_select(); monkey.patch_socket(); monkey.patch_os()
    process.stdin.close()
    assert over.wait(20), "never told"
    process.wait()
    watcher.close(wait_s=20)
print(hubs)
"""


def test_a_real_watching_thread_begins_no_event_loop_of_greenlets():
    said = run_script(HUBS, python=from_pip("green-threads", *GREEN_THREADS))
    assert said.strip() == "[None, None]"


TASKS = """
import asyncio, logging, sys
from gevent import monkey
monkey.patch_thread()
from frontdesk import SessionStore
logging.basicConfig(stream=sys.stdout)

async def main():
    with SessionStore() as store:
        task = asyncio.ensure_future(asyncio.sleep(0))
        store.create("s-1", task)
        await task
        await asyncio.sleep(0)
        print(store.count(), store.ended("s-1").reason)
asyncio.run(main())
"""


def test_tasks_need_no_watching_and_are_registered_all_the_same():
    said = run_script(TASKS, python=from_pip("green-threads", *GREEN_THREADS)).splitlines()
    assert said[-1] == "0 normal"
    assert "greenlets" in said[0]


DEBUGGED = """
import _thread, subprocess, sys, threading
for module, name in [(_thread, "start_new_thread"), (threading, "_start_new_thread"),
                     (threading, "_start_joinable_thread")]:
    real = getattr(module, name, None)
    if real is not None:
        setattr(module, name, lambda *args, real=real, **more: real(*args, **more))
from frontdesk import monitor
over = threading.Event()
process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
monitor(process, lambda reason: over.set())
process.stdin.close()
assert over.wait(20)
process.wait()
"""


def test_a_debugger_that_replaces_what_starts_threads_is_not_taken_for_greenlets():
    run_script(DEBUGGED)
