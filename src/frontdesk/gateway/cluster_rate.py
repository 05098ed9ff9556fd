"""How much a key may ask for on all nodes together: counted in the cluster's engine.

Beside the rate limit of one gateway, which goes on counting, and decides alone while the engine
does not answer: for that long, a key may ask as often on each node.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

from frontdesk.clock import Clock
from frontdesk.cluster.arguments import MAX_TAKEN
from frontdesk.cluster.engine import Engine
from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.gateway.errors import RateLimited
from frontdesk.gateway.rate_limit import Allowance, RateLimit

WAIT_S = 0.05
"""So long a request waits for the engine's answer at most."""

ALONE_S = 1.0
"""For so long an engine that did not answer is not asked again: nobody else waits for it."""

WINDOW_S = 60.0


class ClusterRate:
    """Hold a key to its rate over all nodes. One call of the engine a request."""

    __slots__ = ("_alone_until_s", "_clock", "_engine", "_rate")

    def __init__(self, rate: RateLimit, *, engine: Engine, clock: Clock) -> None:
        self._rate, self._engine, self._clock = rate, engine, clock
        self._alone_until_s = 0.0

    async def hit(self, identifier: str) -> Allowance:
        """Count one and return what is left; `RateLimited` where nothing was."""
        limit = min(self._rate.per_minute, MAX_TAKEN)
        if self._clock.monotonic() < self._alone_until_s:
            return self._rate.hit(identifier)
        try:
            async with asyncio.timeout(WAIT_S):
                taken = await self._engine.take(
                    f"requests of {identifier}", limit=limit, window_s=WINDOW_S
                )
        except (EngineUnavailable, TimeoutError):
            self._alone_until_s = self._clock.monotonic() + ALONE_S
            return self._rate.hit(identifier)
        reset_s = max(1, math.ceil(taken.reset_s))
        if not taken.allowed:
            raise self._rate.refusal(Allowance(limit, 0, reset_s))
        with suppress(RateLimited):
            # For when this node counts alone: all that it let in counts then.
            self._rate.hit(identifier)
        return Allowance(limit, taken.remaining, reset_s)
