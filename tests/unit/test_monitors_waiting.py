"""How long a watcher's thread sleeps: whatever it is told, and whatever a clock does."""

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk import InvalidArgument, InvalidType, SessionStore, Watcher, monitor
from frontdesk.monitors import repetition
from frontdesk.monitors import watcher as watcher_module
from frontdesk.monitors.repetition import LONGEST_SLEEP_S, Repetition
from frontdesk.waiting import LONGEST_WAIT_S, timeout
from support.exits import PATIENCE_S, Exits, Obedient, wait_until, watcher_threads

HUGE = [3_000_000, 1e300, math.inf, 10**400, threading.TIMEOUT_MAX * 2]


@pytest.mark.parametrize("interval_s", [*HUGE, 5e-324])
def test_no_interval_ends_the_thread(interval_s, monkeypatch):
    monkeypatch.setattr(watcher_module, "TICK_S", 0.005)
    ticked = threading.Semaphore(0)
    with Watcher(use_pidfd=False, fallback_interval_s=interval_s) as watcher:
        with Obedient() as process:
            watched = monitor(process.popen, Exits(), watcher=watcher)
            (thread,) = watcher_threads()
            watcher.every_second(ticked.release)
            for _ in range(3):
                assert ticked.acquire(timeout=PATIENCE_S)
            assert watched.alive
        wait_until(lambda: not watched.alive)
        assert thread.is_alive()


@pytest.mark.parametrize("interval_s", HUGE)
def test_the_kernel_tells_at_once_whatever_the_interval(interval_s):
    exits = Exits()
    with Watcher(fallback_interval_s=interval_s) as watcher, Obedient() as process:
        if not watcher.abilities.processes:
            pytest.skip("this kernel has no pidfds")
        monitor(process.popen, exits, watcher=watcher)
        process.go()
        exits.next()


@pytest.mark.parametrize("wait_s", HUGE)
def test_close_may_wait_for_any_time(wait_s):
    watcher = Watcher()
    with Obedient() as process:
        monitor(process.popen, Exits(), watcher=watcher)
        watcher.close(wait_s=wait_s)
        assert not watcher_threads()


@pytest.mark.parametrize(
    ("value", "error"),
    [("1", InvalidType), (None, InvalidType), (True, InvalidType), (1j, InvalidType)]
    + [(number, InvalidArgument) for number in (-1, -math.inf, math.nan)],
)
def test_what_is_no_time_is_refused_and_nothing_happens(value, error):
    with pytest.raises(error, match="fallback_interval_s"):
        Watcher(fallback_interval_s=value)
    with Watcher() as watcher:
        with pytest.raises(error, match="wait_s"):
            watcher.close(wait_s=value)
        assert not watcher.closed
    with SessionStore() as store, pytest.raises(error, match="timeout_s"):
        store.get_or_create("s-1", object, timeout_s=value)


@given(st.one_of(st.floats(min_value=0), st.integers(min_value=0)))
def test_every_time_that_is_taken_can_be_waited_for(seconds):
    waited_s = timeout("timeout_s", seconds)
    assert waited_s == min(seconds, LONGEST_WAIT_S)
    assert threading.Lock().acquire(timeout=waited_s)


class Clock:
    """A clock that does what a test wants."""

    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(repetition, "steady_s", clock)
    return clock


def test_what_repeats_is_due_after_its_interval_and_not_before(clock):
    due = Repetition()
    due.begin(10)
    assert due.left_s() == 10
    clock.now_s += 9
    assert due.left_s() == 1
    clock.now_s += 1
    assert due.left_s() == 0
    due.begin(3)
    assert due.left_s() == 3


def test_a_sleep_that_was_shorter_than_what_is_left_makes_nothing_due(clock):
    due = Repetition()
    due.begin(2 * LONGEST_SLEEP_S)
    due.left_s()
    due.slept(LONGEST_SLEEP_S)
    assert due.left_s() > 0


@given(
    interval_s=st.floats(min_value=0.001, max_value=1e9),
    leaps=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=8),
)
def test_no_leap_of_the_clock_makes_anything_due_later_than_an_interval(interval_s, leaps):
    clock = Clock()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(repetition, "steady_s", clock)
        due = Repetition()
        due.begin(interval_s)
        for now_s in leaps:
            clock.now_s = now_s
            left_s = due.left_s()
            assert 0 <= left_s <= interval_s
            # Whatever it read then: whoever sleeps that long, undisturbed, finds it due.
            due.slept(left_s)
            assert due.left_s() == 0
            due.begin(interval_s)
