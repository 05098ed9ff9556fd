"""`InterruptibleLock`: free after its block, wherever in it a signal handler raised."""

import ast
import itertools
import pathlib
import threading

import pytest

import frontdesk
from frontdesk.lock import InterruptibleLock
from frontdesk.monitors import Watcher
from support.agents import BOUND_S, in_threads
from support.control_c import ControlC, interrupted_after

PACKAGE = pathlib.Path(frontdesk.__file__).parent


def held_by_with(lock):
    with lock:
        for number in range(2):
            abs(number)
    len("after")


def held_twice(lock):
    with lock:
        abs(1)
        with lock:
            abs(2)
        abs(3)


def held_by_calls(lock):
    acquire, release = lock.acquire, lock.release
    try:
        acquire()
        abs(1)
    finally:
        try:  # noqa: SIM105 - as the library writes it
            release()
        except RuntimeError:
            pass


@pytest.mark.parametrize("held", [held_by_with, held_twice, held_by_calls])
def test_control_c_at_any_moment_leaves_the_lock_free(held):
    codes = (held.__code__, InterruptibleLock.__enter__.__code__)
    for at in itertools.count(1):
        lock = InterruptibleLock()
        control_c = ControlC(at, inside=lambda code: code in codes)
        try:
            with control_c:
                held(lock)
        except KeyboardInterrupt:
            pass
        assert not lock._is_owned(), control_c.place
        in_threads(lambda lock=lock: held(lock))
        if control_c.place is None:
            assert at > 4
            return


@pytest.mark.parametrize("held", [held_by_with, held_twice, held_by_calls])
def test_control_c_ends_the_waiting_for_it(held):
    lock, held_elsewhere, let_go = InterruptibleLock(), threading.Event(), threading.Event()

    def hold():
        with lock:
            held_elsewhere.set()
            let_go.wait(BOUND_S)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held_elsewhere.wait(BOUND_S)
    interrupted_after(0.01, lambda: held(lock))
    let_go.set()
    holder.join(BOUND_S)
    held(lock)
    assert not lock._is_owned()


def test_control_c_at_any_moment_leaves_a_watcher_that_can_be_closed():
    def inside(code):
        return code.co_filename.startswith((str(PACKAGE / "monitors"), str(PACKAGE / "lock.py")))

    for at in itertools.count(1):
        watcher = Watcher()
        watcher.every_second(print)  # so that it has its thread
        control_c = ControlC(at, inside=inside)
        try:
            with control_c:
                watcher.every_second(print)()
                watcher.remove(Unwatched())
                watcher.close()
        except KeyboardInterrupt:
            pass
        assert not watcher._lookout._lock._is_owned(), control_c.place
        in_threads(lambda watcher=watcher: watcher.close(wait_s=BOUND_S))
        assert not watcher._lookout._thread.is_alive(), control_c.place
        if control_c.place is None:
            assert at > 20
            return


class Unwatched:
    """A thing that no watcher knows."""

    fd = None


def test_every_lock_of_the_library_is_one():
    """But for the latch of a reader in `feed.py`, which nobody holds in a `with`."""
    files = [*(PACKAGE / "store").glob("*.py"), *(PACKAGE / "monitors").glob("*.py")]
    found = {
        (file.name, node.attr)
        for file in [*files, *PACKAGE.glob("*.py")]
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.value.id == "threading"
        if node.attr in {"Lock", "RLock", "Condition", "Event", "Semaphore", "BoundedSemaphore"}
    }
    assert found == {("feed.py", "Lock")}
