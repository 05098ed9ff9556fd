"""How long leases, graces and holds last: one frozen record, checked where it is made."""

from __future__ import annotations

from dataclasses import dataclass

from frontdesk.errors import InvalidArgument

__all__ = ["LEASE_TERMS", "LeaseTerms"]

MARGIN_S = 2.0


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """Say how long a node is believed to live, and what it does when it hears nothing.

    Attributes:
        lease_s (float): A node that has not renewed for so long is suspect.
        isolation_grace_s (float): A node that is cut off stops its agents under chosen ids after
            so long.
        kill_grace_s (float): An agent that is being stopped is gone after so long.
        stalled_exit_s (float): A node whose loop has not moved for so long ends itself.
    """

    lease_s: float = 10.0
    isolation_grace_s: float = 20.0
    kill_grace_s: float = 5.0
    stalled_exit_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("lease_s", "isolation_grace_s", "kill_grace_s", "stalled_exit_s"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise InvalidArgument(name, expected="a number of seconds above 0", got=str(value))

    @property
    def renew_s(self) -> float:
        """A quarter of a lease: how often it is renewed."""
        return self.lease_s / 4

    @property
    def hold_s(self) -> float:
        """How long after its deadline a suspect node's ids are held back.

        By then a node that lives on, cut off, has stopped what somebody else might start:

        >>> LeaseTerms().hold_s
        32.0
        """
        return self.isolation_grace_s + self.kill_grace_s + self.lease_s / 2 + MARGIN_S


LEASE_TERMS = LeaseTerms()
"""Those of a cluster whose settings say nothing else."""
