"""The event loops that a store knows, to find those that were closed under their tasks.

A task that is pending on a closed loop never finishes and tells nobody, so the store looks. Loops
are held weakly; a look costs one call per loop, and there is usually one.
"""

from __future__ import annotations

import asyncio
import weakref
from asyncio import _get_running_loop

Loop = asyncio.AbstractEventLoop


class EventLoops:
    """Remember loops, for as long as they are there and open."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # Replaced as a whole, because others look through it without a lock.
        self._known: tuple[weakref.ref[Loop], ...] = ()

    def add(self, loop: Loop) -> None:
        """Remember a loop. The store holds its lock."""
        if not self.knows(loop):
            there = (one for one in self._known if one() is not None)
            self._known = (*there, weakref.ref(loop))

    def knows(self, loop: Loop) -> bool:
        """Tell whether a loop is remembered. Takes no lock."""
        return any(one() is loop for one in self._known)

    def runs_only(self, future: asyncio.Future[object]) -> bool:
        """Tell whether a future is of the running loop, and no other loop is known.

        Then none can be closed, and nobody has to look. Takes no lock.
        """
        known = self._known
        if len(known) != 1:
            return False
        loop = future.get_loop()
        return loop is _get_running_loop() and loop is known[0]()

    def closed(self) -> list[Loop]:
        """Return those of the loops that were closed. Takes no lock: a loop may be a user's own."""
        closed = []
        for reference in self._known:
            loop = reference()
            if loop is not None and loop.is_closed():
                closed.append(loop)
        return closed

    def forget(self, closed: list[Loop]) -> None:
        """Look at these loops no more. The store holds its lock."""
        gone = {id(loop) for loop in closed}
        loops = [(one, one()) for one in self._known]
        self._known = tuple(one for one, loop in loops if loop is not None and id(loop) not in gone)
