"""Idempotency keys: the same request again gets the first answer again.

Beside the limits, used by the routes that create a session and accept a prompt. Bounded in number
and in time. Answers that invite to try again (429, 503) are not kept: trying again must be able to
succeed. A second request that comes while the first is under way waits for the first's answer.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from starlette.responses import Response

from frontdesk.clock import Clock
from frontdesk.errors import FrontdeskError, InvalidArgument
from frontdesk.gateway.errors import IdempotencyMismatch
from frontdesk.gateway.problems import problem_of

KEPT_S = 600.0
MOST_ANSWERS = 10_000
LONGEST_KEY = 255
PASSING = frozenset({429, 500, 503})


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An answer: its status and its body as it was sent."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def response(self) -> Response:
        return Response(
            self.body,
            status_code=self.status,
            media_type="application/json",
            headers=dict(self.headers),
        )


@dataclass(slots=True)
class _First:
    digest: bytes
    until: float
    answer: asyncio.Future[StoredResponse]


class Idempotency:
    """Keep the first answers for ten minutes. Belongs to one event loop.

    The first part of a scope is its owner, an API key. At most `most` answers are kept; past that
    the owner of the most loses its oldest, so that nobody pushes out the answers of others. A
    repetition of what was forgotten is carried out as a new request.
    """

    __slots__ = ("_clock", "_firsts", "_most")

    def __init__(self, *, clock: Clock, most: int = MOST_ANSWERS) -> None:
        self._clock, self._most = clock, most
        self._firsts: dict[str, OrderedDict[tuple[str, ...], _First]] = {}

    async def once(
        self,
        scope: tuple[str, ...],
        key: str | None,
        *,
        body: bytes,
        answer: Callable[[], Awaitable[StoredResponse]],
    ) -> StoredResponse:
        """Return the first answer to this key and body within `scope`, making it if need be.

        `IdempotencyMismatch` where the key came with another body before.
        """
        if key is None:
            return await answer()
        _check(key)
        digest = hashlib.sha256(body).digest()
        first = self._remembered((*scope, key))
        if first is None:
            return await self._make((*scope, key), digest, answer)
        if first.digest != digest:
            raise IdempotencyMismatch(key)
        return await asyncio.shield(first.answer)

    async def _make(
        self, place: tuple[str, ...], digest: bytes, answer: Callable[[], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        # Others may wait for it while the client that came first has left: it runs on regardless.
        making = asyncio.ensure_future(answer())
        owned = self._firsts.setdefault(place[0], OrderedDict())
        owned[place] = _First(digest, self._clock.monotonic() + KEPT_S, making)
        if len(self) > self._most:
            self._forget_of_the_greatest()
        making.add_done_callback(lambda done: self._made(place, done))
        return await asyncio.shield(making)

    def _made(self, place: tuple[str, ...], done: asyncio.Future[StoredResponse]) -> None:
        failed = done.cancelled() or done.exception() is not None
        if failed or done.result().status in PASSING:
            first = self._find(place)
            if first is not None and first.answer is done:
                self._forget(place)

    def _remembered(self, place: tuple[str, ...]) -> _First | None:
        now = self._clock.monotonic()
        for owned in list(self._firsts.values()):
            self._forget_over(owned, now)
        return self._find(place)

    def _find(self, place: tuple[str, ...]) -> _First | None:
        owned = self._firsts.get(place[0])
        return None if owned is None else owned.get(place)

    def _forget_over(self, owned: OrderedDict[tuple[str, ...], _First], now: float) -> None:
        while owned:
            oldest, first = next(iter(owned.items()))
            if first.until > now:
                return
            self._forget(oldest)

    def _forget_of_the_greatest(self) -> None:
        greatest = max(self._firsts.values(), key=len)
        self._forget(next(iter(greatest)))

    def _forget(self, place: tuple[str, ...]) -> None:
        owned = self._firsts[place[0]]
        del owned[place]
        if not owned:
            del self._firsts[place[0]]

    def __len__(self) -> int:
        return sum(map(len, self._firsts.values()))


def _check(key: str) -> None:
    if not 0 < len(key) <= LONGEST_KEY:
        raise InvalidArgument(
            "Idempotency-Key", expected=f"1 to {LONGEST_KEY} characters", got=str(len(key))
        )


async def kept(answer: Callable[[], Awaitable[bytes]], *, status: int) -> StoredResponse:
    """Return what to keep of an answer; an error of ours is an answer as well."""
    try:
        return StoredResponse(status, await answer())
    except FrontdeskError as error:
        problem = problem_of(error)
        return StoredResponse(
            problem.status, msgspec.json.encode(problem.content), tuple(problem.headers.items())
        )
