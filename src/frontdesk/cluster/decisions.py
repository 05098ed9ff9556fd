"""What a node decides, as pure functions over frozen records: time and facts in, actions out.

Nothing here waits, sends or reads a clock. The node carries the actions out; a simulation runs the
same functions on virtual time.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["NodeCondition"]


class NodeCondition(StrEnum):
    """How a node stands to the cluster, by its own clock."""

    JOINED = "joined"
    """Its lease holds."""

    CUT_OFF = "cut_off"
    """It has not heard of its lease for as long as that lasts: it creates nothing."""

    STALLED = "stalled"
    """Its event loop, or its private listener, has not moved for a lease."""

    REJOINING = "rejoining"
    """It was told that it is dead, and joins as another incarnation."""

    LEFT = "left"
    """It has not joined yet, or has left."""
