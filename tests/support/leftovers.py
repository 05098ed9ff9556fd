"""What a store still holds: the one place where tests look inside it.

Beside the tests that show that nothing is left.
"""

from __future__ import annotations

import gc
import os
import threading


def leftovers(store):
    """Return how much of each kind of thing a store holds."""
    return {
        "entries": len(store._core.index.entries),
        "tenants": len(store._core.index.tenants),
        "api_keys": len(store._core.index.api_keys),
        "agents": len(store._core.index.agents),
        "watches": len(store._core.changes.watches),
        "builds": len(store._pending),
        "deferred": len(store._core.lock.deferred),
        "waiting": len(store._core.changes.wakers),
        "watched": len(store._core.listener.watcher),
    }


def nothing_left(store):
    """Tell whether a store holds nothing at all; say what it holds where it does."""
    left = {kind: number for kind, number in leftovers(store).items() if number}
    assert left == {}, left
    return True


def assert_indexes_agree(store):
    """Compare the indexes with a filter over all entries, and see that no bucket is empty."""
    index = store._core.index
    entries = list(index.entries.values())
    for buckets, name in ((index.tenants, "tenant_id"), (index.api_keys, "api_key")):
        assert all(buckets.values()), f"an empty bucket in {name}"
        bucketed = {one.fence: key for key, bucket in buckets.items() for one in bucket.values()}
        filtered = {one.fence: getattr(one, name) for one in entries}
        assert bucketed == {fence: key for fence, key in filtered.items() if key is not None}
    fences = [one.fence for one in entries]
    assert fences == sorted(fences)
    registered = [
        one.fence for held in store._core.index.agents.values() for one in sessions_of(held)
    ]
    assert sorted(registered) == fences


def sessions_of(held):
    """Return the sessions of an agent."""
    return held.values() if isinstance(held, dict) else [held]


def descriptors():
    """Return the number of open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def earlier_watchers_ended(store):
    """Wait for the watchers of earlier tests: told to end, they may still have descriptors."""
    own = store._core.listener.watcher._loop._thread
    for thread in watcher_threads():
        if thread is not own:
            thread.join(10)


def watcher_threads():
    """Return the threads of watchers that are alive."""
    return [one for one in threading.enumerate() if one.name == "frontdesk-watcher"]


def collected():
    """Run the collector until it finds nothing more."""
    while gc.collect():
        pass
    return True
