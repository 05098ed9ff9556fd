"""Leases: one a node, never one a session. Whether a node is alive, suspect or dead."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from frontdesk.cluster.index.moment import seconds
from frontdesk.cluster.records import NodeRecord, NodeState, NodeStatus
from frontdesk.records import ExitKind

__all__ = ["Lease", "Standing"]


class Standing(StrEnum):
    """What a node's lease says of what it owns."""

    LIVE = "live"
    SUSPECT = "suspect"
    DEAD = "dead"


@dataclass(slots=True)
class Lease:
    """A node that has joined and is not gone with all that it had.

    Attributes:
        node (NodeRecord): What it said when it joined.
        lease_us (int): How long a renewal lasts.
        grace_us (int): How long after its deadline it is suspect, and then dead.
        deadline_us (int): When it runs out, in engine time.
        restored (bool): In this era it has told all that it has; or it joined with nothing.
        stalled (bool): By its last renewal its loop or listener had not moved for a lease.
        draining (bool): By its last renewal it takes no new sessions.
        tokens (int): Of its entries, all exclusive-ored.
        gone (ExitKind | None): It is dead (`lost`) or has left (`shutdown`), for good: what is
            still here of it ends with this.
    """

    node: NodeRecord
    lease_us: int
    grace_us: int
    deadline_us: int
    restored: bool
    stalled: bool = False
    draining: bool = False
    tokens: int = 0
    gone: ExitKind | None = None

    def standing(self, now: int) -> Standing:
        """Tell what it says: gone is dead at once, else the deadline and the hold count."""
        if self.gone is not None or now >= self.deadline_us + self.grace_us:
            return Standing.DEAD
        return Standing.LIVE if now < self.deadline_us else Standing.SUSPECT

    def state(self, now: int) -> NodeState:
        """Return what others see, the worst first; of a dead one for as long as it has a lease."""
        if self.gone is ExitKind.SHUTDOWN:
            return NodeState.LEAVING
        if self.gone is not None or now >= self.deadline_us:
            return NodeState.SUSPECT
        return NodeState.STALLED if self.stalled else NodeState.ALIVE

    def status(self, now: int, *, sessions: int) -> NodeStatus:
        """Return it as others see it."""
        left_s = seconds(self.deadline_us - now)
        return NodeStatus(self.node, self.state(now), left_s, sessions, self.draining)
