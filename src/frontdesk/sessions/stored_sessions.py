"""What can be asked of sessions that outlive their agents: resume, close, erase, list.

Beside the supervisor, which starts and ends agents, and the keeping, which has the storage. Where
nothing is stored, sessions end and are listed as well, and cannot be closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from frontdesk.agents.ids import registry_key
from frontdesk.errors import FrontdeskError, SessionNotFound
from frontdesk.persistence.conversations import Conversations
from frontdesk.persistence.errors import StorageUnavailable
from frontdesk.persistence.operations import ConversationErased, TenantErased
from frontdesk.persistence.stored import ListQuery, StoredConversation
from frontdesk.records import ExitKind, ExitReason
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.errors import NotResumable, NotStored
from frontdesk.sessions.keeping import Keeping
from frontdesk.sessions.listing import SessionPage, SessionQuery, page_of, state_of, until_of
from frontdesk.sessions.live import LiveSession, LiveSessions
from frontdesk.sessions.supervision import Supervisor

PAGE = 100
"""So many sessions are looked at together for what their agents left."""

_log = logging.getLogger("frontdesk.sessions")

_CLOSED = ExitReason.of(ExitKind.CLOSED)
_DELETED = ExitReason.of(ExitKind.DELETED)


class StoredSessions:
    """Resume, close, erase and list sessions, with or without an agent. On one event loop.

    `find` returns a session that is here, or raises what is the matter with it; `living` those of a
    tenant that have an agent.
    """

    def __init__(
        self,
        *,
        live_sessions: LiveSessions,
        supervisor: Supervisor,
        keeping: Keeping | None,
        find: Callable[[str, str], Conversation],
        living: Callable[[str], list[Conversation]],
    ) -> None:
        self._live, self._supervisor, self._keeping = live_sessions, supervisor, keeping
        self._find, self._living = find, living

    # -- agents ----------------------------------------------------------------------------------

    async def resume(self, tenant_id: str, session_id: str) -> Conversation:
        """Start an agent for a session that has none; one that has ended goes on.

        Nothing happens to one that has an agent. Raises `SessionNotFound`, `SessionDead` for one
        that is not stored, `NotResumable`.
        """
        key = registry_key(tenant_id, session_id)
        await self._until_left(key)
        if self._live.get(key) is None and self._keeping is not None:
            dormant = self._keeping.get(key) or await self._reopened(self._keeping, key, session_id)
            if dormant is not None:
                await asyncio.wait({self._keeping.resume(dormant)})
                if dormant.conversation.dormant:
                    problem = "no agent could be started"
                    raise dormant.refused or NotResumable(session_id, problem=problem)
        return self._find(key, session_id)

    async def close(self, tenant_id: str, session_id: str) -> Conversation:
        """End the agent of a session, and leave the session dormant; what waits in it waits on.

        Nothing happens to one that is dormant. Raises `SessionNotFound`, `SessionDead`,
        `NotStored`.
        """
        key = registry_key(tenant_id, session_id)
        if self._find(key, session_id).record is None:
            raise NotStored(session_id)
        await self._until_resumed(key)
        live_session = self._live.get(key)
        if live_session is not None:
            await asyncio.wait({self._begin_ending(live_session, _CLOSED, dormant=True)})
        return self._find(key, session_id)

    async def _reopened(self, keeping: Keeping, key: str, session_id: str) -> LiveSession | None:
        """Have a conversation that has ended be dormant; None where it is not a stored one.

        That is stored before anything is asked of it: what it accepts from here on is kept.
        """
        ended = self._supervisor.recent.get(key)
        if ended is None or ended.record is None:
            return None
        await ended.committed()
        # Before it is read anew: from then on that one follows what is committed.
        self._supervisor.recent.remove(key)
        live_session = await keeping.reopened(ended.tenant_id, session_id)
        if live_session is None:
            return keeping.get(key)
        record = live_session.conversation.record
        assert record is not None, "it was read from the storage"
        record.leave()
        keeping.add(live_session)
        return live_session

    # -- ending, erasing ---------------------------------------------------------------------------

    async def end(self, tenant_id: str, session_id: str) -> None:
        """End a session, and leave what is stored of it. See `TenantSessions.end`."""
        key = registry_key(tenant_id, session_id)
        ended = await self._end(key, _CLOSED)
        if ended is None:
            self._find(key, session_id)
        else:
            await ended.committed()

    async def erase(self, tenant_id: str, session_id: str) -> None:
        """End a session, and remove all that is stored under its id: its earlier ones as well.

        Returns when that is stored. Raises `SessionNotFound`; `SessionDead` for one that has ended
        and was not stored.
        """
        key = registry_key(tenant_id, session_id)
        newest = await self._end(key)
        if self._keeping is None:
            if newest is None:
                self._find(key, session_id)
            return
        if newest is not None:
            await newest.committed()
        # One whose agent was faster has ended for another reason, and is stored.
        ended = None if newest is None else newest.ended
        erased = ended is not None and ended.kind is ExitKind.DELETED
        number = newest.number if newest is not None and erased else None
        if not await self._erase_stored(self._keeping, tenant_id, session_id, newest=number):
            self._find(key, session_id)
            raise SessionNotFound(session_id)

    async def erase_tenant(self, tenant_id: str) -> int:
        """End all sessions of a tenant, and remove all that is stored of them; return how many.

        What is opened meanwhile is removed, or not there yet.
        """
        living = self._live.of_tenant(tenant_id)
        not_stored = sum(each.conversation.record is None for each in living)
        if self._keeping is None:
            await self._end_all(tenant_id)
            return not_stored
        stored = await self._keeping.commits.read(
            lambda store: store.count(tenant_id), asker=tenant_id
        )
        # Before they end: from there to the erasure is no time in which others are opened.
        await self._forget_files(self._keeping, tenant_id)
        await self._end_all(tenant_id)
        for key in self._supervisor.recent.of_tenant(tenant_id):
            self._supervisor.recent.remove(key)
        self._keeping.commits.add(TenantErased(number=0, tenant_id=tenant_id))
        await self._keeping.commits.committed(0)
        return stored + not_stored

    async def _forget_files(self, keeping: Keeping, tenant_id: str) -> None:
        """Remove what agents left elsewhere of all that a tenant has stored and no agent has."""
        asked = ListQuery(tenant_id=tenant_id, states=("dormant", "ended"), limit=PAGE)

        def stored(store: Conversations) -> list[StoredConversation]:
            return store.page(asked)

        while page := await keeping.commits.read(stored, asker=tenant_id):
            for each in page:
                try:
                    await keeping.forget_files(each)
                except FrontdeskError as error:
                    # Its tenant's key is lost, for instance: all else is erased nonetheless.
                    _log.warning("what session %s left in files stays: %s", each.session_id, error)
            asked = msgspec.structs.replace(asked, after=page[-1].number)

    async def _end_all(self, tenant_id: str) -> None:
        keys = [each.registry_key for each in self._live.of_tenant(tenant_id)]
        if self._keeping is not None:
            keys += [each.registry_key for each in self._keeping.of_tenant(tenant_id)]
        await asyncio.gather(*map(self._end, keys))

    async def _end(self, key: str, reason: ExitReason = _DELETED) -> Conversation | None:
        """End the session of a key, with an agent or dormant; return it, None where none is here.

        One that ends as `deleted` is erased, and says that last. What is not stored always does.
        """
        conversation = None
        while True:
            await self._until_left(key)
            await self._until_resumed(key)
            live_session = self._live.get(key)
            if live_session is not None and self._supervisor.refresh(live_session):
                conversation = live_session.conversation
                stored = conversation.record is not None
                ending = self._begin_ending(live_session, reason if stored else _DELETED)
                await asyncio.wait({ending})
            elif self._keeping is not None and (dormant := self._keeping.get(key)) is not None:
                conversation = dormant.conversation
                await self._keeping.end(dormant, reason)
            else:
                return conversation

    async def _erase_stored(
        self, keeping: Keeping, tenant_id: str, session_id: str, *, newest: int | None
    ) -> bool:
        """Remove what is stored under an id, one after another; say whether there was any.

        `newest` is removed already.
        """

        def find(store: Conversations) -> StoredConversation | None:
            return store.find(tenant_id, session_id)

        while True:
            stored = await keeping.commits.read(find, asker=tenant_id)
            if stored is None or (newest is not None and stored.number > newest):
                # All of it is gone; or somebody has opened one of this id meanwhile.
                break
            if stored.number == newest:
                raise StorageUnavailable("another node has this conversation")
            owned = await keeping.owned(stored)
            newest = owned.number
            await keeping.forget_files(owned)
            keeping.commits.add(ConversationErased(number=newest))
            await keeping.commits.committed(newest)
        self._supervisor.recent.remove(registry_key(tenant_id, session_id))
        return newest is not None

    # -- lists -------------------------------------------------------------------------------------

    async def page(
        self, tenant_id: str, asked: SessionQuery
    ) -> SessionPage[Conversation | StoredConversation]:
        """Return a page of a tenant's sessions, oldest first. Costs what it returns."""
        stored = await self.stored(tenant_id, asked)
        here = {each.number: each for each in self.here(tenant_id)}
        found: dict[int, Conversation | StoredConversation] = {
            each.number: each
            for each in stored
            # One that has an agent is among those that are here, or has ended since.
            if each.state != "live"
            and each.number not in here
            and asked.takes_state(state_of(each))
        }
        found |= {number: each for number, each in here.items() if asked.takes(each)}
        return page_of(found, asked, until=until_of(stored, asked))

    async def stored(self, tenant_id: str, asked: SessionQuery) -> list[StoredConversation]:
        """Return what the storage has for a page, and one more if there is."""
        listed = asked.of_storage(tenant_id)
        if self._keeping is None or listed is None:
            return []
        return await self._keeping.commits.read(lambda store: store.page(listed), asker=tenant_id)

    def here(self, tenant_id: str) -> list[Conversation]:
        """Return a tenant's sessions that are here, with an agent or dormant."""
        found = self._living(tenant_id)
        if self._keeping is not None:
            found += [each.conversation for each in self._keeping.of_tenant(tenant_id)]
        return found

    async def earlier(self, tenant_id: str, session_id: str, *, fence: int) -> Conversation:
        """Return a stored conversation by its fence, to be read; `SessionNotFound`."""
        if self._keeping is None:
            raise SessionNotFound(session_id)
        stored = await self._keeping.commits.read(
            lambda store: store.find(tenant_id, session_id, fence=fence), asker=tenant_id
        )
        if stored is None:
            raise SessionNotFound(session_id)
        conversation = (await self._keeping.read(stored)).conversation
        if conversation.record is not None:
            # It says nothing any more, and follows nothing.
            conversation.record.close()
        return conversation

    # -- within ------------------------------------------------------------------------------------

    def _begin_ending(
        self, live_session: LiveSession, reason: ExitReason, *, dormant: bool = False
    ) -> asyncio.Task[None]:
        return self._supervisor.begin_ending(live_session, reason, dormant=dormant)

    async def _until_left(self, key: str) -> None:
        """Wait for the end of an agent whose session is about to be dormant."""
        live_session = self._live.get(key)
        if live_session is not None and live_session.goes_dormant and live_session.ending:
            await asyncio.wait({live_session.ending})

    async def _until_resumed(self, key: str) -> None:
        """Wait for an agent that is being started for a dormant session."""
        dormant = None if self._keeping is None else self._keeping.get(key)
        if dormant is not None and dormant.resuming is not None:
            await asyncio.wait({dormant.resuming})
