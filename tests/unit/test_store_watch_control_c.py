"""A reader of a watch that is broken off by a signal handler that raises reads on afterwards, and
misses nothing: a cursor moves only with what was handed over. At every moment when a handler may
run, for each way to read and for each thing there is to read.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import threading

import pytest

from frontdesk import Snapshot
from frontdesk.testing import FakeAgent
from support.agents import BOUND_S, StillWatcher
from support.control_c import ControlC, interrupted_after
from support.interruptions import of_the_library

FEED = 300
"""More than a watch reads ahead."""


def nothing_yet(store, watches):
    """The snapshot that a watch begins with."""


def some_changes(store, watches):
    """A few changes, read ahead in one go."""
    write(store, 3)


def more_than_is_read_ahead(store, watches):
    """So many that they are read in two goes."""
    write(store, 140)


def a_tenants_changes(store, watches):
    """Changes, most of which are none of the watch's business."""
    for number in range(4):
        store.create(f"t{number}", FakeAgent(), tenant_id="t")
        write(store, 2)


def a_resynchronisation(store, watches):
    """A watch that fell behind: a fresh snapshot, and what came since."""
    for watch in watches:
        watch.next(timeout_s=0)
    store.create("kept", FakeAgent(), tenant_id="t")
    write(store, FEED)


def the_end(store, watches):
    """What is left when the store is closed."""
    write(store, 2)
    store.create("kept", FakeAgent(), tenant_id="t")
    store.close()


def write(store, number):
    for one in range(number):
        store.create(f"s{one}", FakeAgent(), tenant_id="t" if one % 3 else "other")
        store.delete(f"s{one}")


def with_next(watch, items, wanted):
    while len(items) < wanted:
        items.append(watch.next(timeout_s=0))


def with_for(watch, items, wanted):
    for item in watch:
        items.append(item)
        if len(items) >= wanted:
            return


def with_async_for(watch, items, wanted):
    async def read():
        async for item in watch:
            items.append(item)
            if len(items) >= wanted:
                return

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(read())


READERS = {"next": with_next, "for": with_for, "async for": with_async_for}
SITUATIONS = [
    nothing_yet,
    some_changes,
    more_than_is_read_ahead,
    a_tenants_changes,
    a_resynchronisation,
    the_end,
]
every_reader = pytest.mark.parametrize("read", READERS.values(), ids=READERS)


@every_reader
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.__name__)
def test_a_reader_that_was_broken_off_misses_nothing_and_repeats_nothing(
    make_store, situation, read
):
    # At each moment; of hundreds of items that are alike, at some of each.
    step = 17 if situation is more_than_is_read_ahead else 1
    for at in itertools.count(1, step):
        store = make_store(feed_capacity=FEED, watcher=StillWatcher())
        with store.watch(tenant_id="t") as watch, store.watch(tenant_id="t") as undisturbed:
            situation(store, (watch, undisturbed))
            expected = drained(undisturbed)
            items, control_c = [], ControlC(at, inside=of_the_library)
            with contextlib.suppress(KeyboardInterrupt), control_c:
                read(watch, items, len(expected))
            items += drained(watch)
            assert items == expected, control_c.place
        if control_c.place is None:
            assert at > 2
            return


def drained(watch):
    """Return what a watch has to say by now."""
    items = []
    with contextlib.suppress(TimeoutError, StopIteration):
        while True:
            items.append(watch.next(timeout_s=0))
    return items


# Not in an event loop: what asyncio leaves behind where a handler raises in it is asyncio's.
@pytest.mark.parametrize("read", [with_next, with_for], ids=["next", "for"])
def test_a_reader_that_waits_is_broken_off_and_misses_nothing(make_store, read):
    """By a real signal, while another thread writes as fast as it can."""
    store = make_store(feed_capacity=2000, watcher=StillWatcher())
    over = threading.Event()

    def write_on():
        while not over.is_set():
            write(store, 1)

    writing = threading.Thread(target=write_on)
    writing.start()
    try:
        with store.watch() as watch:
            items = []
            for number in range(100):
                interrupted_after(
                    0.0005 + 0.00001 * number, lambda: read_blocking(read, watch, items)
                )
    finally:
        over.set()
        writing.join(BOUND_S)
    assert_contiguous(items)


def read_blocking(read, watch, items):
    if read is with_next:
        items.append(watch.next(timeout_s=BOUND_S))
    else:
        read(watch, items, math.inf)


def assert_contiguous(items):
    """Check that each change follows what came before, but for resynchronisations."""
    assert isinstance(items[0], Snapshot)
    assert len(items) > 20
    for before, after in itertools.pairwise(items):
        if isinstance(after, Snapshot):
            assert after.resync
            assert after.revision >= before.revision
        else:
            assert after.revision == before.revision + 1


def test_a_watch_that_was_broken_off_as_it_began_is_not_published_for(make_store):
    for at in itertools.count(1):
        store = make_store(watcher=StillWatcher())
        store.create("s", FakeAgent())
        control_c = ControlC(at, inside=of_the_library)
        watches = []
        with contextlib.suppress(KeyboardInterrupt), control_c:
            watches.append(store.watch())
        assert len(store._core.changes.watches) == len(watches), control_c.place
        assert not store._core.lock.interrupting(), control_c.place
        if control_c.place is None:
            return
