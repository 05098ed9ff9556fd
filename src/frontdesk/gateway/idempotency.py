"""Idempotency keys: the same request again gets the first answer again.

Used by the routes that create a session and accept a prompt. Bounded in number and in time. Answers
that invite to try again (429, 500, 503) are not stored: trying again must be able to succeed. A
second request that comes while the first is under way waits for the first's answer.

Where conversations are stored, what was accepted is written with what it tells of, in one commit
(`AnswerPlace.store`): a repetition gets it for a day, also from the next process and other nodes.
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
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.sessions.conversation import Conversation

STORED_S = 600.0
STORED_WITH_CONVERSATION_S = 24 * 3600
MAX_STORED = 10_000
MAX_KEY_CHARACTERS = 255
NOT_STORED = frozenset({429, 500, 503})

Slot = tuple[str, ...]
"""Where an answer is stored: its owner, what was asked, and the idempotency key."""


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


@dataclass(frozen=True, slots=True)
class AnswerPlace:
    """Where the answer to a request is stored with the conversation that it is about."""

    slot: str
    digest: bytes
    until_ms: int

    def store(self, conversation: Conversation, answer: StoredResponse) -> None:
        """Have the answer stored, in one commit with what is said in the same stretch of code."""
        if conversation.record is not None:
            conversation.record.store_answer(
                self.slot,
                digest=self.digest,
                answer=msgspec.msgpack.encode(answer),
                until_ms=self.until_ms,
            )


MakeAnswer = Callable[[AnswerPlace | None], Awaitable[StoredResponse]]
"""Makes an answer, and stores it where it is given a place."""


@dataclass(slots=True)
class _Stored:
    digest: bytes
    until: float
    answer: asyncio.Future[StoredResponse]


class Idempotency:
    """Store the first answers for ten minutes. Belongs to one event loop.

    The first part of a scope is its owner, an API key. At most `max_stored` answers are held; past
    that the owner of the most loses its oldest, so that nobody pushes out the answers of others. A
    repetition of what was dropped is carried out as a new request.
    """

    __slots__ = ("_by_owner", "_clock", "_max_stored", "commits")

    def __init__(self, *, clock: Clock, max_stored: int = MAX_STORED) -> None:
        self._clock, self._max_stored = clock, max_stored
        self.commits: CommitQueue | None = None
        """Where conversations are stored, if they are."""
        self._by_owner: dict[str, OrderedDict[Slot, _Stored]] = {}

    async def once(
        self,
        scope: tuple[str, ...],
        key: str | None,
        *,
        body: bytes,
        answer: MakeAnswer,
    ) -> StoredResponse:
        """Return the first answer to this key and body within `scope`, making it if need be.

        `IdempotencyMismatch` where the key came with another body before.
        """
        if key is None:
            return await answer(None)
        if not 0 < len(key) <= MAX_KEY_CHARACTERS:
            expected = f"1 to {MAX_KEY_CHARACTERS} characters"
            raise InvalidArgument("Idempotency-Key", expected=expected, got=str(len(key)))
        slot, digest = (*scope, key), hashlib.sha256(body).digest()
        now = self._clock.monotonic()
        for owned in list(self._by_owner.values()):
            # Oldest first, and all live equally long.
            while owned and (oldest := next(iter(owned.items())))[1].until <= now:
                self._drop(oldest[0])
        stored = self._find(slot)
        if stored is None:
            return await self._answer_first(slot, digest, answer)
        if stored.digest != digest:
            raise IdempotencyMismatch(key)
        return await asyncio.shield(stored.answer)

    async def _answer_first(self, slot: Slot, digest: bytes, answer: MakeAnswer) -> StoredResponse:
        def on_answer(done: asyncio.Future[StoredResponse]) -> None:
            failed = done.cancelled() or done.exception() is not None
            if failed or done.result().status in NOT_STORED:
                stored = self._find(slot)
                if stored is not None and stored.answer is done:
                    self._drop(slot)

        # Others may wait for it while the client that came first has left: it runs on regardless.
        making = asyncio.ensure_future(self._stored_or_made(slot, digest, answer))
        owned = self._by_owner.setdefault(slot[0], OrderedDict())
        owned[slot] = _Stored(digest, self._clock.monotonic() + STORED_S, making)
        if len(self) > self._max_stored:
            largest = max(self._by_owner.values(), key=len)
            self._drop(next(iter(largest)))
        making.add_done_callback(on_answer)
        return await asyncio.shield(making)

    async def _stored_or_made(
        self, slot: Slot, digest: bytes, answer: MakeAnswer
    ) -> StoredResponse:
        """Return what was stored for a slot by an earlier process, or make the answer."""
        if self.commits is None:
            return await answer(None)
        name = hashlib.sha256("\n".join(slot).encode()).hexdigest()
        now_ms = self._clock.wall_ms()
        found = await self.commits.read(
            lambda store: store.answer(name, now_ms=now_ms), asker=slot[0]
        )
        if found is None:
            return await answer(
                AnswerPlace(name, digest, now_ms + STORED_WITH_CONVERSATION_S * 1000)
            )
        if found.digest != digest:
            raise IdempotencyMismatch(slot[-1])
        return msgspec.msgpack.decode(found.answer, type=StoredResponse)

    def has(self, scope: tuple[str, ...], key: str | None) -> bool:
        """Say whether there is an answer, or one is being made."""
        return key is not None and self._find((*scope, key)) is not None

    def _find(self, slot: Slot) -> _Stored | None:
        owned = self._by_owner.get(slot[0])
        return None if owned is None else owned.get(slot)

    def _drop(self, slot: Slot) -> None:
        owned = self._by_owner[slot[0]]
        del owned[slot]
        if not owned:
            del self._by_owner[slot[0]]

    def __len__(self) -> int:
        return sum(map(len, self._by_owner.values()))


async def stored(answer: Callable[[], Awaitable[bytes]], *, status: int) -> StoredResponse:
    """Return what to store of an answer; an error of ours is an answer as well."""
    try:
        return StoredResponse(status, await answer())
    except FrontdeskError as error:
        problem = problem_of(error)
        return StoredResponse(problem.status, problem.body, tuple(problem.headers.items()))
