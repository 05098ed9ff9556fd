"""What a call brings along: the server's clock, its run, and what the caller knows."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Moment", "micros", "seconds"]


@dataclass(frozen=True, slots=True)
class Moment:
    """When a call is made, of which run of a server, and by whom.

    Attributes:
        clock_us (int): The server's wall clock, in microseconds since the epoch: Redis's `TIME`.
            It may jump; engine time is made of it.
        run_id (str): Of this start of the server: Redis's `run_id`. Another one may have lost
            something.
        known (int): The highest revision that the caller ever heard of, 0 if none.
    """

    clock_us: int
    run_id: str
    known: int = 0

    @property
    def wall_ms(self) -> int:
        """Return the server's wall clock in whole milliseconds: `ended_at` of what it ends."""
        return self.clock_us // 1000


def micros(duration_s: float) -> int:
    """Return seconds in whole microseconds, rounded to the nearest, halves to even.

    >>> micros(2.5)
    2500000
    """
    return round(duration_s * 1_000_000)


def seconds(duration_us: int) -> float:
    """Return microseconds in seconds."""
    return duration_us / 1_000_000
