"""Which requests start in a turn of the event loop: a few of each owner, so that nobody waits long.

Beside the server's protocol (`http_protocol.py`), which asks it before it gives a request to the
application. Whoever else is ready waits for a whole turn, several times in a request, and a turn
would be as long as one owner's connections are many. So each owner starts a few requests in a turn,
and only one while turns take long; the rest wait in order, which costs their owner nothing but the
turns. An owner is a key, or an address before one was shown. It belongs to one event loop.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from time import perf_counter

MAX_STARTS = 8
"""Requests of one owner that start in one turn, where they are cheap."""

LONG_TURN_S = 0.004
"""A turn that takes longer leaves each owner one start in the next."""

Call = Callable[[Callable[[], None]], object]


class FairStarts:
    """Let each owner's requests start, some in a turn of the loop and in their order."""

    __slots__ = ("_call_soon", "_clock", "_looking", "_per_turn", "_since", "_started", "_waiting")

    def __init__(self, call_soon: Call, *, clock: Callable[[], float] = perf_counter) -> None:
        """`call_soon` is the loop's: it calls in the next turn."""
        self._call_soon, self._clock = call_soon, clock
        self._waiting: dict[str, deque[Callable[[], None]]] = {}
        self._started: Counter[str] = Counter()
        self._per_turn = MAX_STARTS
        self._looking = False
        self._since = 0.0

    def start(self, owner: str, request: Callable[[], None]) -> None:
        """Start a request now, or in the first turn that has room for it."""
        if owner in self._waiting or self._started[owner] >= self._per_turn:
            self._waiting.setdefault(owner, deque()).append(request)
        else:
            self._started[owner] += 1
            request()
        if not self._looking:
            self._looking = True
            self._since = self._clock()
            self._call_soon(self._on_next_turn)

    def _on_next_turn(self) -> None:
        now = self._clock()
        self._per_turn = MAX_STARTS if now - self._since < LONG_TURN_S else 1
        self._since = now
        self._started.clear()
        for owner, waiting in list(self._waiting.items()):
            for _ in range(min(self._per_turn, len(waiting))):
                self._started[owner] += 1
                waiting.popleft()()
            if not waiting:
                del self._waiting[owner]
        self._looking = bool(self._started)
        if self._looking:
            self._call_soon(self._on_next_turn)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))
