"""What happens to a store when its process forks.

Below `store.py`. The child inherits a copy of the store whose agents live in the parent, and whose
lock may be held by a thread that does not exist in the child. Here every store is told in the
child, so that it answers `StoreClosed` instead of waiting for ever; the parent notices nothing.

The stores are listed at module level, the one place where Frontdesk does so: `os.register_at_fork`
takes functions for the life of the process, and has to find the stores from there.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Inherited(Protocol):
    """What can be told that it is a copy in a forked child."""

    def _after_fork_in_child(self) -> None: ...


_stores: dict[int, weakref.ref[Inherited]] = {}


def tell_after_fork(store: Inherited) -> None:
    """Tell this store, for as long as it exists, when it finds itself in a forked child."""
    key = id(store)
    # Single dict operations only: a fork may come between any two of them, in another thread.
    _stores[key] = weakref.ref(store, lambda _: _stores.pop(key, None))


def _in_child() -> None:
    for reference in list(_stores.values()):
        store = reference()
        if store is not None:
            store._after_fork_in_child()


os.register_at_fork(after_in_child=_in_child)
