"""Meta: what an engine knows of itself: its time, its revision, its era, how it recovers."""

from __future__ import annotations

from dataclasses import dataclass

from frontdesk.cluster.index.moment import Moment, micros
from frontdesk.cluster.records import SCHEMA
from frontdesk.cluster.terms import LeaseTerms

__all__ = ["RECOVERY_US", "Epoch"]

RECOVERY_US = micros(60)
"""So long an engine recovers at most, whoever has not told yet."""

ASK_AGAIN_US = micros(1)
"""How long whoever asks for an unknown id is told to wait for nodes that have yet to tell."""


@dataclass(slots=True)
class Epoch:
    """The engine's numbers, which live as long as its `meta` does.

    Attributes:
        era (int): The revision that the present era began at.
        revision (int): Of the last change; of the era, where there was none yet.
        run_id (str): Of the server, when it was last asked.
        clock_us (int): The server's clock, when engine time last moved.
        time_us (int): Engine time then; 0 when all was lost.
        schema (int): Of the cluster's records.
        lease_us (int): Of the node that joined last; ten seconds before the first. Engine time
            moves by half of it at most, and recovery lasts for one at least.
        began_us (int): Engine time at the beginning of the era.
        recovered (bool): Unknown ids are known to be gone. Once it is, it stays so for the era.
    """

    era: int
    revision: int
    run_id: str
    clock_us: int
    time_us: int = 0
    schema: int = SCHEMA
    lease_us: int = micros(LeaseTerms().lease_s)
    began_us: int = 0
    recovered: bool = False

    @classmethod
    def first(cls, at: Moment) -> Epoch:
        """Begin with nothing: the first era ever, or all was lost."""
        era = max(at.clock_us, at.known + 1)
        return cls(era, era, at.run_id, at.clock_us)

    def is_over(self, at: Moment) -> bool:
        """Tell whether a new era is due: something may be lost, or is known to be."""
        return at.run_id != self.run_id or at.known > self.revision

    def renew_era(self, at: Moment) -> None:
        """Begin a new era, at the clock's microseconds or above the highest revision known.

        Engine time goes on from where it was, by the common rule.
        """
        self.era = self.revision = max(at.clock_us, self.revision + 1, at.known + 1)
        self.run_id = at.run_id
        self.move(at)
        self.began_us, self.recovered = self.time_us, False

    def time_at(self, at: Moment) -> int:
        """Return engine time as it would be now: on by what the clock did, within bounds."""
        return self.time_us + min(max(at.clock_us - self.clock_us, 0), self.lease_us // 2)

    def move(self, at: Moment) -> None:
        """Move engine time on. The clock is taken over as it is, back too."""
        self.time_us, self.clock_us = self.time_at(at), at.clock_us

    def recovering_us(self, now: int, *, all_restored: bool) -> int:
        """Return how long to wait before asking for an unknown id again; 0 when it is gone.

        Until a lease has passed that is the rest of it, then a second; never beyond the minute.
        """
        left = self.began_us + RECOVERY_US - now
        quiet = self.began_us + self.lease_us - now
        if self.recovered or left <= 0 or (quiet <= 0 and all_restored):
            return 0
        return min(left, quiet if quiet > 0 else ASK_AGAIN_US)
