"""Taking over conversations that another process owned: claimed, then brought to rest.

    a process starts       `all`: whatever has no living owner, those that were under way first
    one is asked for here, `one`: if its owner is dead; a living one answers for it itself
    or waits elsewhere

Who claims is decided by the storage: of two that try, one has it. What is claimed and not brought
to rest, because the claimer died in between, is the next one's to claim.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.conversations import Conversations
from frontdesk.persistence.stored import StoredConversation
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.recovery import Recovery, counters_in, recovered

_log = logging.getLogger("frontdesk.sessions")


class Takeover:
    """Claim conversations for an owner, and bring them to rest. On one event loop."""

    def __init__(self, commits: CommitQueue, *, context: ServiceContext, owner: str) -> None:
        self._commits, self._context = commits, context
        self.owner: str = owner

    async def all(self) -> list[StoredConversation]:
        """Claim what has no living owner; return what was under way, as it was before.

        Costs a read of what was under way, and one commit for all of it.
        """
        self._begin_above(await self._commits.read(lambda store: store.greatest_fence()))

        def claim(store: Conversations) -> list[StoredConversation]:
            store.claim()
            return store.unfinished()

        found = await self._commits.read(claim)
        await self._bring_to_rest(found)
        return found

    async def one(self, stored: StoredConversation) -> StoredConversation:
        """Claim one that another process owned; return it as it is at rest.

        `OwnerUnreachable` where that lives.
        """

        def claim(store: Conversations) -> StoredConversation | None:
            store.claim(stored.number)
            return store.find(stored.tenant_id, stored.session_id, fence=stored.fence)

        found = await self._commits.read(claim, asker=stored.tenant_id)
        if found is None or found.owner != self.owner:
            raise OwnerUnreachable(stored.session_id, problem="it was not asked")
        self._begin_above(max((each.fence for each in found.epochs), default=0))
        if not await self._bring_to_rest([found]):
            return found
        _log.info("session %s is taken over from %s", stored.session_id, stored.owner)
        at_rest = await self._commits.read(
            lambda store: store.find(stored.tenant_id, stored.session_id, fence=stored.fence),
            asker=stored.tenant_id,
        )
        return at_rest or found

    def _begin_above(self, fence: int) -> None:
        self._context.latest_fence = max(self._context.latest_fence, fence)

    async def _bring_to_rest(self, found: Sequence[StoredConversation]) -> int:
        """End what was cut off; return how many conversations there was something to do for."""
        fence, now_ms = self._context.next_fence, self._context.clock.wall_ms()

        def ask(store: Conversations) -> list[Recovery]:
            return [recovered(store, each, fence=fence, now_ms=now_ms) for each in found]

        recoveries = [each for each in await self._commits.read(ask) if each.operations]
        for each in recoveries:
            self._commits.add(*each.operations)
        for each in recoveries:
            await self._commits.committed(each.stored.number, wait_s=None)
            # Two writes: of a crash between them the meter misses a turn. The other way round, who
            # recovers next, or has taken the conversation over meanwhile, would count it again.
            self._count(each)
        if recoveries and self._context.observer is not None:
            turns = sum(len(each.cut_off) for each in recoveries)
            self._context.observer.on_recovered(conversations=len(recoveries), turns=turns)
        return len(recoveries)

    def _count(self, recovery: Recovery) -> None:
        """Tell the meter that what turns used last is unknown, unless their agents have said so."""
        stored = recovery.stored
        for turn in recovery.cut_off:
            if not counters_in(turn.usage or b"").unknown_usage:
                self._context.meter.record(
                    tenant_id=stored.tenant_id,
                    api_key=turn.api_key,
                    model=stored.model,
                    unknown_turns=1,
                )
