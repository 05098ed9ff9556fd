"""When a session has been idle, unused or alive for too long.

One timer a session, set again only when it rings too early: a turn that begins or ends costs an
assignment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from frontdesk.clock import Clock


@dataclass(frozen=True, slots=True)
class LifeTimes:
    """How long a session may be idle, idle before its first prompt, and alive; None is for ever."""

    idle_s: float | None = None
    unused_s: float | None = None
    age_s: float | None = None


class Expiry:
    """Call `expire` once, when one of the times has run out.

    A session that is busy does not idle, but ages. All on one event loop.
    """

    __slots__ = (
        "_age_limit_s",
        "_born_s",
        "_clock",
        "_expire",
        "_idle_from_s",
        "_rings_s",
        "_timer",
        "_times",
        "_used",
    )

    def __init__(
        self,
        times: LifeTimes,
        *,
        clock: Clock,
        expire: Callable[[], None],
        born_s: float | None = None,
        used: bool = False,
    ) -> None:
        self._times, self._clock, self._expire = times, clock, expire
        self._born_s = clock.monotonic() if born_s is None else born_s
        self._age_limit_s = times.age_s
        self._idle_from_s: float | None = clock.monotonic()
        self._used = used
        self._timer: asyncio.TimerHandle | None = None
        self._rings_s = 0.0
        self._set()

    def busy(self, *, used: bool = False) -> None:
        """Stop the idle time; `used` says that a prompt came."""
        self._idle_from_s = None
        self._used = self._used or used

    def idle(self) -> None:
        """Begin the idle time, if it does not run."""
        if self._idle_from_s is None:
            self._idle_from_s = self._clock.monotonic()
            self._set()

    @property
    def aged(self) -> bool:
        """Say whether it has lived for as long as it may."""
        limit_s = self._age_limit_s
        return limit_s is not None and self._clock.monotonic() >= self._born_s + limit_s

    def cancel(self) -> None:
        """Never expire."""
        self._times = LifeTimes()
        self._drop_timer()

    def check(self) -> None:
        """Expire if it is time, else see when to check again."""
        due_s = self._due_s()
        self._timer = None
        if due_s is not None and self._clock.monotonic() >= due_s:
            self.cancel()
            self._expire()
        else:
            self._set()

    def _due_s(self) -> float | None:
        limits_s = (
            [self._times.idle_s] if self._used else [self._times.unused_s, self._times.idle_s]
        )
        idle_limit_s = min((each for each in limits_s if each is not None), default=None)
        dues_s = []
        if self._idle_from_s is not None and idle_limit_s is not None:
            dues_s.append(self._idle_from_s + idle_limit_s)
        if self._times.age_s is not None:
            dues_s.append(self._born_s + self._times.age_s)
        return min(dues_s, default=None)

    def _set(self) -> None:
        """Set the timer, unless one rings soon enough: it will check again."""
        due_s = self._due_s()
        if due_s is None or (self._timer is not None and self._rings_s <= due_s):
            return
        self._drop_timer()
        self._rings_s = due_s
        wait_s = max(0.0, due_s - self._clock.monotonic())
        self._timer = asyncio.get_running_loop().call_later(wait_s, self.check)

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
