"""What is stored does not stay for ever: what nobody uses is erased, what is too old ends.

Looked for now and then, a page at a time, beside all that goes on. Never what waits for an agent:
a prompt that was accepted begins at some time, however long that takes. What an owner left that is
gone for good goes as well: whoever finds it takes it over, and then erases it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from frontdesk.agents.blueprints import Blueprints
from frontdesk.clock import Clock
from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.errors import FrontdeskError, SessionLimitExceeded
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.errors import StorageUnavailable
from frontdesk.persistence.stored import StoredConversation
from frontdesk.sessions.keeping_settings import StorageLimits

SWEEP_S = 300.0
PAGE = 100

_log = logging.getLogger("frontdesk.sessions")


class Retention:
    """Erase and end dormant conversations whose time is over. On one event loop.

    `erase` erases one, unless it is used by now or another process has it, and says whether it did;
    `load` has one read, which ends it where it is too old.
    """

    def __init__(
        self,
        commits: CommitQueue,
        *,
        clock: Clock,
        limits: Callable[[], StorageLimits],
        blueprints: Callable[[], Blueprints],
        erase: Callable[[StoredConversation], Awaitable[bool]],
        load: Callable[[str, str], Awaitable[None] | None],
    ) -> None:
        self._commits, self._clock = commits, clock
        self._limits, self._blueprints = limits, blueprints
        self._erase, self._load = erase, load

    async def refuse_too_many(self, tenant_id: str) -> None:
        """Raise `SessionLimitExceeded` where a tenant has as many stored as it may.

        `StorageUnavailable` where none can be stored now.
        """
        if (problem := self._commits.unavailable) is not None:
            raise StorageUnavailable(problem)
        limit = self._limits().per_tenant
        stored = await self._commits.read(lambda store: store.count(tenant_id), asker=tenant_id)
        if stored >= limit:
            raise SessionLimitExceeded(scope="stored_per_tenant", limit=limit)

    async def run(self) -> None:
        """Sweep again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except FrontdeskError as error:
                _log.warning("stored conversations could not be looked through: %s", error)

    async def sweep(self) -> None:
        """Erase what nobody used for as long as it is stored, and end what is too old."""
        now_ms, erased = self._clock.wall_ms(), 0
        shortest = self._limits().shortest_ms(self._blueprints())
        async for each in self._unused(before_ms=round(now_ms - shortest)):
            blueprint = self._blueprints().get(each.blueprint)
            stored_ms = self._limits().retention_ms(each.tenant_id, blueprint)
            if now_ms - each.last_activity_ms >= stored_ms and await self._erase(each):
                erased += 1
                await self._commits.committed(each.number)
        if erased:
            _log.info("%d conversations were erased that nobody used any more", erased)
        for blueprint in list(self._blueprints().values()):
            if blueprint.max_age_s is not None:
                before_ms = now_ms - blueprint.max_age_s * 1000
                await self._end_older(blueprint.name, before_ms=before_ms, now_ms=now_ms)

    async def _end_older(self, blueprint: str, *, before_ms: float, now_ms: int) -> None:
        async for each in self._unused(before_ms=now_ms + 1, blueprint=blueprint):
            if each.state != "ended" and each.created_at_ms <= before_ms:
                loading = self._load(each.tenant_id, each.session_id)
                if loading is not None:
                    with suppress(OwnerUnreachable):  # another process has it by now
                        await loading

    async def _unused(
        self, *, before_ms: int, blueprint: str | None = None
    ) -> AsyncIterator[StoredConversation]:
        after = 0
        while True:
            page = await self._commits.read(
                lambda store, after=after: store.expired(  # type: ignore[misc]
                    before_ms=before_ms, limit=PAGE, after=after, blueprint=blueprint
                )
            )
            for each in page:
                yield each
            if len(page) < PAGE:
                return
            after = page[-1].number
