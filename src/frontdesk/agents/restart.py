"""Whether an agent that ended is started again: a pure decision, and the memory that it needs.

Time comes in as a number, so that a test decides what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from frontdesk.records import ExitKind, ExitReason

RestartPolicy = Literal["never", "on_crash", "always"]

CRASHES = frozenset(
    {
        ExitKind.CRASHED,
        ExitKind.SIGNALLED,
        ExitKind.EXITED,
        ExitKind.LOST,
        ExitKind.NOT_ALIVE,
        ExitKind.UNKNOWN,
    }
)
"""Ends that nobody meant."""

MEANT = frozenset({ExitKind.DELETED, ExitKind.SHUTDOWN, ExitKind.EXPIRED, ExitKind.SUPERSEDED})
"""Ends of the session, not only of its agent: no policy restarts after them."""


@dataclass(frozen=True, slots=True)
class RestartLimit:
    """At most `max_restarts` restarts within `within_s` seconds."""

    max_restarts: int = 3
    within_s: float = 60.0


@dataclass(frozen=True, slots=True)
class RestartState:
    """The restarts so far: how many in all, and when the recent ones were (monotonic seconds)."""

    count: int = 0
    recent: tuple[float, ...] = ()

    def after_restart(self, now: float, *, limit: RestartLimit) -> RestartState:
        """Return the state after one more restart, now."""
        recent = tuple(at for at in self.recent if now - at < limit.within_s)
        return RestartState(self.count + 1, (*recent, now))


def restarts(
    policy: RestartPolicy,
    reason: ExitReason,
    *,
    state: RestartState,
    now: float,
    limit: RestartLimit,
) -> bool:
    """Say whether an agent that ended for this reason is started again.

    >>> restarts("on_crash", ExitReason.signalled(9), state=RestartState(), now=0.0,
    ...          limit=RestartLimit())
    True
    """
    if policy == "never" or reason.kind in MEANT:
        return False
    if policy == "on_crash" and reason.kind not in CRASHES:
        return False
    return sum(now - at < limit.within_s for at in state.recent) < limit.max_restarts
