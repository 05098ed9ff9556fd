"""What is asked again, and when: one decision for requests and for streams.

Asked again is what cannot do anything twice (a GET, or a POST under an `Idempotency-Key`) where no
answer came, or the gateway, or a proxy before it, is busy. A quota that is used up is not: it stays
so.
"""

from __future__ import annotations

import random

from frontdesk.client.errors import (
    ClientError,
    RateLimitedError,
    RefusedError,
    UnavailableError,
    UnreachableError,
)

REPEATS = 5
"""How often more than once."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0
LONGEST_RETRY_AFTER_S = 120
"""Who is to come again later than that is told so at once."""


class Retries:
    """How often a request, or a stream since it last brought something, was tried.

    Waits double from half a second to eight, each by up to a half less, so that not all clients of
    a gateway that comes back come back at once.
    """

    __slots__ = ("_random", "_repeatable", "_tried")

    def __init__(self, *, repeatable: bool, chance: random.Random | None = None) -> None:
        self._repeatable, self._tried = repeatable, 0
        self._random = chance or random.Random()  # noqa: S311 - it is no secret

    def on_progress(self) -> None:
        """Begin to count anew: something came."""
        self._tried = 0

    def wait_s(self, error: ClientError) -> float:
        """Return how long to wait before the next try; raises the error where there is none."""
        self._tried += 1
        if not self._repeatable or self._tried > REPEATS or not is_passing(error):
            raise error
        after_s = error.retry_after_s if isinstance(error, RefusedError) else None
        if after_s is not None:
            # As asked, and up to a tenth more.
            return after_s * (1 + self._random.random() / 10)
        longest_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * (1 << (self._tried - 1)))
        return longest_s * (1 - self._random.random() / 2)


def is_passing(error: ClientError) -> bool:
    """Say whether the same request may well succeed a little later."""
    if isinstance(error, RateLimitedError | UnavailableError):
        return (error.retry_after_s or 0) <= LONGEST_RETRY_AFTER_S
    return isinstance(error, UnreachableError)
