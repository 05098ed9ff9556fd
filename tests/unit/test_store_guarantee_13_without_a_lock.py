"""Guarantee 13: correct without an interpreter lock; reads take no lock of ours, and a bucket is
copied before it is filtered.
"""

import concurrent.futures
import threading

import pytest

from frontdesk.testing import FakeAgent
from support.agents import BOUND_S, in_threads


@pytest.fixture
def locked(store):
    """A store whose lock is held by another thread for the time of the test."""
    finished = concurrent.futures.Future()
    store.create("s", FakeAgent(), tenant_id="t", api_key="k")
    store.create("finished", finished, tenant_id="t", api_key="k")
    entered, release = threading.Event(), threading.Event()

    def hold():
        with store._core.lock.held:
            entered.set()
            release.wait(BOUND_S)

    holding = threading.Thread(target=hold)
    holding.start()
    assert entered.wait(BOUND_S)
    ending = threading.Thread(target=finished.set_result, args=(None,))
    ending.start()  # its callback has to wait for the lock
    concurrent.futures.wait([finished])
    yield store
    release.set()
    holding.join()
    ending.join()


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda store: store.get("s").session_id, "s"),
        (lambda store: "s" in store, True),
        (lambda store: "finished" in store, False),
        (lambda store: [one.session_id for one in store.list()], ["s"]),
        (lambda store: [one.session_id for one in store.list_by_tenant("t")], ["s"]),
        (lambda store: [one.session_id for one in store.list_by_api_key("k")], ["s"]),
        (lambda store: [one.session_id for one in store], ["s"]),
        (lambda store: store.count(), 2),
        (lambda store: len(store), 2),
        (lambda store: store.count_by_tenant("t"), 2),
        (lambda store: store.count_by_api_key("k"), 2),
        (lambda store: store.get_or_create("s", FakeAgent).session_id, "s"),
        (lambda store: (store.revision, store.closed), (2, False)),
    ],
    ids=[
        "get", "contains", "contains-finished", "list", "tenant", "key", "iter", "count", "len",
        "count-tenant", "count-key", "get-or-create", "properties",
    ],
)  # fmt: skip
def test_a_read_does_not_wait_for_the_lock(locked, read, expected):
    answers = []
    reading = threading.Thread(target=lambda: answers.append(read(locked)), daemon=True)
    reading.start()
    reading.join(BOUND_S)
    assert answers == [expected]


def test_a_bucket_may_change_in_any_way_while_it_is_listed(store, eager_switches):
    """A dict that changes its size while it is iterated raises; a copy does not."""
    over = threading.Event()

    class Slow(FakeAgent):
        @property
        def alive(self):
            # Asked in the middle of a listing: the bucket changes right then.
            if not over.is_set() and threading.current_thread() is reader:
                store.create(f"new{len(seen)}", FakeAgent(), tenant_id="t", api_key="k")
                store.delete(f"new{len(seen)}")
                seen.append(1)
            return super().alive

    seen, reader = [], threading.current_thread()
    for number in range(20):
        store.create(f"s{number}", Slow(), tenant_id="t", api_key="k")
    for listing in (
        store.list,
        lambda: store.list_by_tenant("t"),
        lambda: store.list_by_api_key("k"),
        lambda: list(store),
    ):
        assert len(listing()) == 20
    over.set()
    assert len(seen) >= 80


def test_listings_and_writes_at_once_raise_nothing(store, eager_switches):
    over = threading.Event()

    def write(name):
        try:
            for number in range(300):
                store.create(f"{name}{number}", FakeAgent(), tenant_id="t", api_key="k")
                if number >= 20:
                    store.delete(f"{name}{number - 20}")
        finally:
            over.set()

    def read():
        while not over.is_set():
            assert len(store.list_by_tenant("t")) <= 45
            assert len(store.list_by_api_key("k")) <= 45
            assert store.count_by_tenant("t") <= 45

    in_threads(lambda: write("a"), lambda: write("b"), read, read)
