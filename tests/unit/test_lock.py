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


def loop():
    number = 0
    while number < 2:
        number += abs(1)


def held_by_with(lock):
    with lock:
        loop()
        abs(1)
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
        loop()
        abs(1)
    finally:
        try:  # noqa: SIM105 - as the library writes it
            release()
        except RuntimeError:
            pass


@pytest.mark.parametrize("held", [held_by_with, held_twice, held_by_calls])
def test_control_c_at_any_moment_leaves_the_lock_free(held):
    codes = (held.__code__, loop.__code__, InterruptibleLock.__enter__.__code__)
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
        assert not watcher._loop._lock._is_owned(), control_c.place
        in_threads(lambda watcher=watcher: watcher.close(wait_s=BOUND_S))
        assert not watcher._loop._thread.is_alive(), control_c.place
        if control_c.place is None:
            assert at > 20
            return


class Unwatched:
    """A thing that no watcher knows."""

    fd = None


def test_every_lock_of_the_library_is_one():
    """But for the latch of a reader in `feed.py`, which nobody holds in a `with`."""
    others = {"Lock", "RLock", "Condition", "Event", "Semaphore", "BoundedSemaphore"}
    found = {
        (file, node.attr)
        for file, node in nodes_of_the_library(ast.Attribute)
        if ast.unparse(node.value) == "threading" and node.attr in others
    }
    assert found == {("feed.py", "Lock")}


def test_no_loop_is_in_a_block_that_holds_one():
    """CPython 3.13 and 3.14 count the jumps of some loops as outside of the block they are in."""
    loops = ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp
    blocks = [(file, node) for file, node in nodes_of_the_library(ast.With, ast.Try) if holds(node)]
    assert len(blocks) > 20
    assert not [
        f"{file}:{node.lineno}"
        for file, block in blocks
        for statement in block.body
        for node in ast.walk(statement)
        if isinstance(node, loops)
    ]


def holds(node):
    if isinstance(node, ast.With):
        return any(ast.unparse(one).endswith(("_lock", ".held")) for one in node.items)
    return any("release()" in ast.unparse(one) for one in node.finalbody)


def nodes_of_the_library(*kinds):
    for pattern in ("*.py", "store/*.py", "monitors/*.py"):
        for file in PACKAGE.glob(pattern):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, kinds):
                    yield file.name, node
