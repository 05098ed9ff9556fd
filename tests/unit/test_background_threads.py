"""The library's own threads take none of the program's signals."""

import ast
import asyncio
import io
import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

import frontdesk
from frontdesk import SessionStore
from frontdesk.background import (
    OF_THE_THREAD,
    OwnThreads,
    in_own_thread,
    start_without_signals,
)
from frontdesk.gateway.log_writer import LogWriter
from gateway.running import ACME, RunningGateway, create
from support.exits import Obedient, run_script
from support.waiting import eventually

SOURCES = Path(frontdesk.__file__).parent
OTHERS = {getattr(signal, name) for name in OF_THE_THREAD if hasattr(signal, name)}

TAKEN_LATER = """
import os, signal, sys
from frontdesk import SessionStore
number = int(sys.argv[1])
with SessionStore() as store:
    {begin}
    signal.pthread_sigmask(signal.SIG_BLOCK, {{number}})
    for _ in range(100):
        os.kill(os.getpid(), number)
    assert number in signal.sigpending()
    assert signal.sigwait({{number}}) == number
    print("alive")
"""
WATCHED = (
    "import subprocess; process = subprocess.Popen(['sleep', '60']); "
    "store.create(session_id='s', tenant_id='t', agent=process); process.kill(); process.wait()"
)
FOR_THE_PROGRAM = ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGALRM", "SIGIO", "SIGRTMIN"]


def blocked(thread):
    """Return the signals that a thread blocks, as the kernel has it."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))
    return {number for number in signal.valid_signals() if int(mask, 16) >> (number - 1) & 1}


def assert_deaf(thread):
    """Check that a thread is no target of what is sent to the process."""
    unblockable = {signal.SIGKILL, signal.SIGSTOP}
    assert blocked(thread) == signal.valid_signals() - unblockable - OTHERS, thread.name


@pytest.mark.parametrize("name", FOR_THE_PROGRAM)
def test_a_signal_that_the_main_thread_blocks_waits_for_it_though_a_watcher_runs(name):
    script = TAKEN_LATER.format(begin=WATCHED)
    assert run_script(script, str(int(getattr(signal, name)))) == "alive\n"


def test_every_other_signal_is_kept_from_the_watcher_as_well():
    with SessionStore() as store, Obedient() as process:
        store.create(session_id="s", tenant_id="t", agent=process.popen)
        (watcher,) = (one for one in threading.enumerate() if one.name == "frontdesk-watcher")
        assert_deaf(watcher)


def test_a_gateways_threads_are_deaf_too(tmp_path):
    with ExitStack() as ending:
        writer = LogWriter(io.StringIO())
        ending.callback(writer.close, timeout_s=20)
        running = ending.enter_context(RunningGateway(tmp_path))
        client = ending.enter_context(running.client(ACME))
        process = ending.enter_context(Obedient())
        create(client, "s")
        running.gateway.store.create(session_id="p", tenant_id="t", agent=process.popen)
        ours = [one for one in threading.enumerate() if one.name.startswith("frontdesk")]
        assert {one.name for one in ours} >= {
            *("frontdesk-log", "frontdesk-meter", "frontdesk-watcher")
        }
        for thread in ours:
            assert_deaf(thread)


def test_the_thread_that_starts_one_has_its_own_mask_again():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        for mask in ((), {signal.SIGUSR1}, {signal.SIGUSR1, signal.SIGTERM}):
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            start_without_signals(threading.Thread(target=lambda: None))
            assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set(mask)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Unstartable(threading.Thread):
    def start(self):
        raise RuntimeError("can't start new thread")


def test_where_none_can_be_started_the_mask_is_as_it_was():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(RuntimeError, match="can't start"):
        start_without_signals(Unstartable())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


class Interrupted(Exception):
    pass


class Interrupting(threading.Thread):
    """Sends its starter a signal in the middle of the start."""

    def start(self):
        super().start()
        os.kill(os.getpid(), signal.SIGUSR1)


def test_a_handler_that_raises_as_one_starts_leaves_the_mask_as_it_was():
    def interrupt(number, frame):
        raise Interrupted

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    old = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupted):
            start_without_signals(Interrupting(target=lambda: None))
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    finally:
        signal.signal(signal.SIGUSR1, old)


# -- calls in a thread of their own ------------------------------------------------------------


def test_a_call_in_its_own_thread_is_deaf_and_its_outcome_comes_back():
    def call():
        assert_deaf(threading.current_thread())
        return threading.current_thread().name

    assert asyncio.run(in_own_thread(call, name="test")) == "frontdesk-test"


@pytest.mark.parametrize("error", [ValueError("wrong"), SystemExit(3), StopIteration()])
def test_what_a_call_raises_is_raised_where_it_is_waited_for(error):
    def call():
        raise error

    async def main():
        try:
            await in_own_thread(call, name="test")
        except BaseException as raised:
            return raised

    raised = asyncio.run(main())
    # A coroutine cannot raise StopIteration.
    assert error in (raised, raised.__cause__)


def test_a_wait_that_is_cancelled_leaves_the_call_to_itself():
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def call():
        began.set()
        assert go_on.wait(20)
        ended.set()

    async def main():
        waiting = asyncio.create_task(in_own_thread(call, name="test"))
        await asyncio.get_running_loop().run_in_executor(None, began.wait)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go_on.set()

    asyncio.run(main())
    assert ended.wait(20)


# -- the kind ----------------------------------------------------------------------------------


def calls_of(path):
    """Return the names that are called in a file, attributes by their last part."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "attr", getattr(node.func, "id", ""))


def test_no_file_of_ours_starts_a_thread_in_any_other_way():
    """In `testing/` threads are the agents of tests."""
    with_threads = {
        str(path.relative_to(SOURCES)): set(calls_of(path))
        for path in SOURCES.rglob("*.py")
        if "Thread" in set(calls_of(path)) and not path.is_relative_to(SOURCES / "testing")
    }
    assert len(with_threads) >= 3
    for path, calls in with_threads.items():
        assert path == "background.py" or "start_without_signals" in calls, path
        assert path == "background.py" or "start" not in calls, path


# -- threads of an owner's own -------------------------------------------------------------------


def test_an_owners_threads_are_so_many_and_end_when_nothing_waits():
    threads = OwnThreads(2, name="owned")
    go, running, most = threading.Event(), set(), []

    def work(number):
        running.add(number)
        most.append(len(running))
        assert go.wait(20)
        running.discard(number)
        return number

    outcomes = [threads.submit(work, number) for number in range(9)]
    eventually(lambda: len(running) == 2)
    go.set()
    assert [each.result(20) for each in outcomes] == list(range(9))
    assert max(most) == 2
    eventually(lambda: not [each for each in threading.enumerate() if "owned" in each.name])
    assert threads.submit(int, "5").result(20) == 5


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration(3), SystemExit(2)])
def test_what_is_raised_in_an_owners_thread_is_raised_where_it_is_waited_for(error):
    def fail():
        raise error

    async def scenario():
        return await asyncio.get_running_loop().run_in_executor(threads, fail)

    threads = OwnThreads(1, name="owned")
    expected = RuntimeError if isinstance(error, StopIteration) else type(error)
    with pytest.raises(expected):
        threads.submit(fail).result(20)
    if not isinstance(error, SystemExit):  # asyncio hands that to whoever runs the loop
        with pytest.raises(expected):
            asyncio.run(scenario())
    assert threads.submit(int, "5").result(20) == 5


def test_a_call_that_is_cancelled_before_its_turn_is_not_made():
    threads, go, made = OwnThreads(1, name="owned"), threading.Event(), []
    first = threads.submit(go.wait, 20)
    second, third = threads.submit(made.append, 2), threads.submit(made.append, 3)
    assert second.cancel()
    go.set()
    assert first.result(20)
    third.result(20)
    assert made == [3]


def test_a_thread_that_cannot_be_started_takes_no_place(monkeypatch):
    def fails(thread):
        raise RuntimeError("can't start new thread")

    threads, made = OwnThreads(1, name="owned"), []
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fails)
        with pytest.raises(RuntimeError, match="new thread"):
            threads.submit(made.append, 4)
    assert threads.submit(int, "5").result(20) == 5
    assert made == []
