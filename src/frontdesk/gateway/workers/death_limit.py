"""How many deaths of workers are too many: a decision over the times of the last ones."""

from __future__ import annotations

from collections import deque

MAX_DEATHS = 5
WITHIN_S = 60.0


class DeathLimit:
    """Count deaths; `add` says whether there were as many as end the service."""

    def __init__(self, *, max_deaths: int = MAX_DEATHS, within_s: float = WITHIN_S) -> None:
        self._times: deque[float] = deque(maxlen=max_deaths)
        self._max_deaths, self._within_s = max_deaths, within_s

    def add(self, now_s: float) -> bool:
        """Count a death at this time, which only runs forwards; True where it is one too many."""
        self._times.append(now_s)
        full = len(self._times) == self._max_deaths
        return full and now_s - self._times[0] <= self._within_s
