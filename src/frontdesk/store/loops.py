"""The event loops that a store knows, to find those that were closed under their tasks.

Below `store.py`. A task that is pending on a closed loop never finishes and tells nobody, so the
store looks. Loops are held weakly; a look costs one call per loop, and there is usually one.
"""

from __future__ import annotations

import asyncio
import weakref
from contextvars import Context

Loop = asyncio.AbstractEventLoop


class Loops:
    """Remember loops, each with the context that the store's callbacks on it share."""

    __slots__ = ("_known", "_last")

    def __init__(self) -> None:
        self._known: tuple[tuple[weakref.ref[Loop], Context], ...] = ()
        self._last: tuple[weakref.ref[Loop], Context] | None = None

    def add(self, loop: Loop) -> Context:
        """Remember a loop; return its context. The store holds its lock."""
        if self._last is None or self._last[0]() is not loop:
            self._last = self._find(loop) or self._new(loop)
        return self._last[1]

    def any_closed(self) -> bool:
        """Tell whether one of the loops was closed. Takes no lock."""
        for reference, _ in self._known:
            loop = reference()
            if loop is not None and loop.is_closed():
                return True
        return False

    def forget_closed(self) -> None:
        """Look at the closed loops no more. The store holds its lock."""
        loops = [(one, one[0]()) for one in self._known]
        self._known = tuple(one for one, loop in loops if loop is not None and not loop.is_closed())
        self._last = None

    def _find(self, loop: Loop) -> tuple[weakref.ref[Loop], Context] | None:
        return next((one for one in self._known if one[0]() is loop), None)

    def _new(self, loop: Loop) -> tuple[weakref.ref[Loop], Context]:
        # One context a loop instead of a copy of the caller's for every agent: two loops may not
        # share one. Replaced as a whole, because `closed` looks through it without a lock.
        new = (weakref.ref(loop), Context())
        self._known = (*(one for one in self._known if one[0]() is not None), new)
        return new
