"""A ward: one agent process in the keeper's care, from the order to the last descendant's end.

The record that `wards.py` and `house.py` pass around; it acts on nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Stage(Enum):
    """How far the life of a ward has come."""

    FORKING = auto()
    """Ordered from a template, which has not said yet which process it is."""
    HARNESSING = auto()
    """There is a process, not yet bounded and not yet running the agent."""
    RUNNING = auto()
    """It runs."""
    EXITED = auto()
    """Its own process is reaped, descendants may be left."""


@dataclass(slots=True)
class Child:
    """What the keeper knows of a ward.

    `deadline` is when its ending stops being polite; `asked` and `killed` say what was sent to its
    group; `refused` that the gateway was told that it never ran.
    """

    number: int
    tag: int
    stage: Stage = Stage.FORKING
    pid: int = 0
    start_time: int = 0
    deadline: float | None = None
    asked: bool = False
    killed: bool = False
    refused: bool = False

    def spared(self, now: float) -> bool:
        """Tell whether what is left of it may still end by itself."""
        return self.deadline is not None and now < self.deadline
