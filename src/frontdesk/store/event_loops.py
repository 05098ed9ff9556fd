"""The event loops that a store knows, to find those that were closed under their tasks.

A task that is pending on a closed loop never finishes and tells nobody, so the store looks. Loops
are held weakly; a look costs one call per loop, and there is usually one.
"""

from __future__ import annotations

import asyncio
import weakref
from asyncio import _get_running_loop
from contextvars import Context

Loop = asyncio.AbstractEventLoop


class EventLoops:
    """Remember loops, each with the context that the store's callbacks on it share."""

    __slots__ = ("_known", "_last", "_only")

    def __init__(self) -> None:
        self._known: tuple[tuple[weakref.ref[Loop], Context], ...] = ()
        self._last: tuple[weakref.ref[Loop], Context] | None = None
        self._only: tuple[weakref.ref[Loop], Context] | None = None

    def add(self, loop: Loop) -> Context:
        """Remember a loop; return its context. The store holds its lock."""
        last = self._last = self._find(loop) or self._new(loop)
        return last[1]

    def last_context(self, loop: Loop) -> Context | None:
        """Return the context of a loop that was the last to be added. Takes no lock."""
        last = self._last
        return last[1] if last is not None and last[0]() is loop else None

    def context_here(self, future: asyncio.Future[object]) -> Context | None:
        """Return the context for a future of the running loop, where no other loop is known.

        Then none can be closed, and nobody has to look. Takes no lock.
        """
        only = self._only
        if only is None:
            return None
        loop = future.get_loop()
        return only[1] if loop is _get_running_loop() and loop is only[0]() else None

    def closed(self) -> list[Loop]:
        """Return those of the loops that were closed. Takes no lock: a loop may be a user's own."""
        closed = []
        for reference, _ in self._known:
            loop = reference()
            if loop is not None and loop.is_closed():
                closed.append(loop)
        return closed

    def forget(self, closed: list[Loop]) -> None:
        """Look at these loops no more. The store holds its lock."""
        gone = {id(loop) for loop in closed}
        loops = [(one, one[0]()) for one in self._known]
        self._know(*(one for one, loop in loops if loop is not None and id(loop) not in gone))

    def _find(self, loop: Loop) -> tuple[weakref.ref[Loop], Context] | None:
        return next((one for one in self._known if one[0]() is loop), None)

    def _new(self, loop: Loop) -> tuple[weakref.ref[Loop], Context]:
        # One context a loop instead of a copy of the caller's for every agent: two loops may not
        # share one.
        new = (weakref.ref(loop), Context())
        self._know(*(one for one in self._known if one[0]() is not None), new)
        return new

    def _know(self, *known: tuple[weakref.ref[Loop], Context]) -> None:
        # Replaced as a whole, because others look through it without a lock.
        self._known, self._last = known, None
        self._only = known[0] if len(known) == 1 else None
