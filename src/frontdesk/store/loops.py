"""The event loops that a store knows, to find those that were closed under their tasks.

Below `store.py`. A task that is pending on a closed loop never finishes and tells nobody, so the
store looks. Loops are held weakly; a look costs one call per loop, and there is usually one.
"""

from __future__ import annotations

import asyncio
import weakref

Loop = asyncio.AbstractEventLoop


class Loops:
    """Remember loops and say which of them are closed."""

    __slots__ = ("_known", "_last")

    def __init__(self) -> None:
        self._known: tuple[weakref.ref[Loop], ...] = ()
        self._last: weakref.ref[Loop] | None = None

    def add(self, loop: Loop) -> bool:
        """Remember a loop; tell whether it is new. The store holds its lock."""
        if self._last is not None and self._last() is loop:
            return False
        known = tuple(one for one in self._known if one() is not None)
        new = all(one() is not loop for one in known)
        self._last = weakref.ref(loop)
        # Replaced as a whole, because `closed` looks through it without a lock.
        self._known = (*known, self._last) if new else known
        return new

    def closed(self) -> list[Loop]:
        """Return the loops that were closed."""
        gone = []
        for reference in self._known:
            loop = reference()
            if loop is not None and loop.is_closed():
                gone.append(loop)
        return gone

    def forget(self, gone: list[Loop]) -> None:
        """Look at these loops no more. The store holds its lock."""
        self._known = tuple(one for one in self._known if one() not in (None, *gone))
        self._last = None
