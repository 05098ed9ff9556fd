"""What happens to a store when its process forks.

The child inherits a copy of the store whose agents live in the parent, and whose lock may be held
by a thread that does not exist in the child. Here every store is told in the child, so that it
answers `StoreClosed` instead of waiting for ever; the parent notices nothing.

The stores are listed at module level, the one place where Frontdesk does so: `os.register_at_fork`
takes functions for the life of the process, and has to find the stores from there.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_on_fork: dict[object, tuple[weakref.ref[object], Callable[..., None]]] = {}


def call_in_forked_child(owner: T, method: Callable[[T], None]) -> None:
    """Call `method(owner)`, for as long as the owner exists, in every child that is forked."""
    key = object()
    # Single dict operations only: a fork may come between any two of them, in another thread.
    # Not a WeakMethod: its own callback complains when the interpreter ends first.
    _on_fork[key] = weakref.ref(owner, lambda _: _on_fork.pop(key, None)), method


def _in_child() -> None:
    for reference, method in list(_on_fork.values()):
        owner = reference()
        if owner is not None:
            method(owner)


os.register_at_fork(after_in_child=_in_child)
