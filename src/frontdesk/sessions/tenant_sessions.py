"""The sessions of one tenant, as one of its keys sees them: all that a protocol can reach.

Above the service, whose sessions are every tenant's; it puts its tenant's id into every question.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from frontdesk.agents.attachments import Attachment
from frontdesk.agents.ids import check_session_id, check_tenant, registry_key
from frontdesk.agents.records import Accepted, CreateSession
from frontdesk.errors import (
    InvalidArgument,
    SessionNotFound,
)
from frontdesk.persistence.stored import StoredConversation
from frontdesk.sessions.attachment_room import require_types
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.importing import ImportedConversation
from frontdesk.sessions.listing import SessionPage, SessionQuery, number_after
from frontdesk.sessions.session_opening import SessionOpening

MAX_PAGE = 1000


@dataclass(frozen=True, slots=True)
class OneConversation:
    """Names one conversation; another one of the same id has another fence."""

    session_id: str
    fence: int


class TenantSessions:
    """Open, find and end a tenant's sessions, with one key. Made by `SessionService.tenant`.

    With `only`, every session but that one is `SessionNotFound`, as if it had never been.
    """

    __slots__ = ("_only", "_service", "api_key", "found", "tenant_id")

    tenant_id: str
    api_key: str | None
    found: Conversation | None
    """The conversation that was asked for last: what was done to it is stored once that says so."""

    def __init__(
        self,
        service: SessionOpening,
        *,
        tenant_id: str,
        api_key: str | None,
        only: OneConversation | None = None,
    ) -> None:
        self._service, self._only, self.found = service, only, None
        self.tenant_id, self.api_key = check_tenant(tenant_id), api_key

    async def create(
        self, request: CreateSession, *, first: Callable[[Conversation], None] | None = None
    ) -> Conversation:
        """Open a session. A refused or cancelled create leaves nothing behind.

        `first` is called with it once it is open: what that does is stored together with the
        opening, and where it raises there is no session.

        Raises `SessionAlreadyExists`, `SessionLimitExceeded`, `CreateFailed`, `Draining`,
        `InvalidArgument`.
        """
        if self._only is not None:
            raise SessionNotFound(request.session_id or "")
        self.found = await self._service.open(
            request, tenant_id=self.tenant_id, api_key=self.api_key, first=first
        )
        return self.found

    def loading(self, session_id: str) -> Awaitable[None] | None:
        """Return what has to be awaited before a session is looked for; None where nothing has."""
        return self._service.loading(self.tenant_id, check_session_id(session_id))

    async def require_types(self, blueprint: str | None, media_types: Sequence[str]) -> None:
        """Raise `AttachmentRefused` for a type that a blueprint's sessions do not take."""
        known = await self._service.blueprints.completed(blueprint)
        rules = known.get(blueprint or known.default or "")
        if rules is not None:  # one that there is not is refused as that
            require_types(media_types, rules=rules)

    async def create_and_prompt(
        self,
        request: CreateSession,
        text: str,
        *,
        attachments: Sequence[Attachment] = (),
        first: Callable[[Conversation, Accepted], None] | None = None,
    ) -> tuple[Conversation, Accepted]:
        """Open a session and prompt it; where the prompt is refused there is no session.

        `first` is called when it is accepted, as in `create`. Raises what `create` and
        `Conversation.prompt` do.
        """
        self._service.check_prompt(
            text, attachments, tenant_id=self.tenant_id, api_key=self.api_key
        )
        if attachments and request.fork is None:
            await self.require_types(request.blueprint, [each.media_type for each in attachments])
        accepted: list[Accepted] = []

        def prompt(conversation: Conversation) -> None:
            # Refused though it was not before: the rules were changed, or the agent has ended.
            taken = conversation.prompt(text, attachments=attachments, api_key=self.api_key)
            accepted.append(taken)
            if first is not None:
                first(conversation, taken)

        conversation = await self.create(request, first=prompt)
        return conversation, accepted[0]

    def export(self, session_id: str) -> AsyncIterator[bytes]:
        """Give a session as JSON lines, a part at a time: live, dormant or ended.

        All that has come to an end when it begins; an iteration that raises was cut off. Raises
        `SessionNotFound`, `SessionDead`, `NotStored`, `ConversationUnreadable`.
        """
        return self._service.exported(self.recent(session_id))

    def importing(self) -> ImportedConversation:
        """Return what lines are read into, for `import_lines`."""
        return ImportedConversation(max_event_bytes=self._service.settings.max_event_bytes)

    async def import_lines(
        self, imported: ImportedConversation, *, session_id: str | None = None
    ) -> Conversation:
        """Store a session whose lines were all read, under its own id or another; all or nothing.

        It is dormant, or has ended as it had. No agent is started, and none of its events is told
        to anybody. Raises `ImportRefused` with every wrong line, `SessionAlreadyExists`,
        `CreateFailed`, `NotStored`, `Draining`.
        """
        imported.finish()
        if self._only is not None:
            raise SessionNotFound(session_id or "")
        added = await self._service.add_imported(
            imported, tenant_id=self.tenant_id, api_key=self.api_key, session_id=session_id
        )
        if (loading := self.loading(added)) is not None:
            await loading
        return self.recent(added)

    def find(self, session_id: str) -> Conversation:
        """Return a live session.

        Never returns one whose agent has ended, told of it or not. Raises `SessionNotFound`,
        `SessionDead` where it ended recently, `InvalidArgument` for an impossible id.
        """
        self.found = self._service.live(self._key_of(session_id), session_id)
        return self.found

    def recent(self, session_id: str) -> Conversation:
        """Return a live session, or the last that ended under this id: its stream replays.

        Raises `SessionNotFound`; `SessionDead` where it ended but is no longer held.
        """
        key = self._key_of(session_id)
        try:
            self.found = self._service.live(key, session_id)
        except SessionNotFound:
            self.found = self._service.recently_ended(key)
            if self.found is None:
                raise
        return self.found

    def sessions(
        self, *, limit: int = 100, after: str | None = None
    ) -> tuple[list[Conversation], str | None]:
        """Return up to `limit` live sessions, oldest first, and the cursor of the next page.

        Raises `InvalidArgument` for a limit that is not 1 to 1000, and for a wrong cursor.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidArgument("limit", expected=f"1 to {MAX_PAGE}", got=str(limit))
        first = number_after(after)
        live = self._service.live_of_tenant(self.tenant_id)
        live = [each for each in live if each.number > first and self._opens(each)]
        page = live[:limit]
        return page, str(page[-1].number) if len(live) > limit else None

    async def listed(self, asked: SessionQuery) -> SessionPage[Conversation | StoredConversation]:
        """Return a page of the sessions, live and dormant, in the order in which they were opened.

        Those that have ended too, where that is asked for. Costs what it returns.
        """
        if not 1 <= asked.limit <= MAX_PAGE:
            raise InvalidArgument("limit", expected=f"1 to {MAX_PAGE}", got=str(asked.limit))
        if self._only is not None:
            raise SessionNotFound(self._only.session_id)
        return await self._service.stored.page(self.tenant_id, asked)

    async def earlier(self, session_id: str, *, fence: int) -> Conversation:
        """Return the session of an id that has this fence, whatever became of it.

        One that is not the newest of its id can be read, and is not held. `SessionNotFound`.
        """
        found = self._service.latest(self._key_of(session_id))
        if found is None or found.fence != fence:
            if self._only is not None:
                raise SessionNotFound(session_id)
            found = await self._service.stored.earlier(self.tenant_id, session_id, fence=fence)
        self.found = found
        return found

    async def resume(self, session_id: str) -> Conversation:
        """Start an agent for a session that has none; one that has ended goes on. Twice is once.

        Raises `SessionNotFound`, `SessionDead` where nothing of it is stored, `NotResumable`,
        `SessionLimitExceeded`, `Draining`.
        """
        self._key_of(session_id)
        self.found = await self._service.resume(self.tenant_id, session_id)
        return self.found

    async def close(self, session_id: str) -> Conversation:
        """End a session's agent and leave the session dormant; what waits in it waits on.

        Raises `SessionNotFound`, `SessionDead`, `NotStored`.
        """
        self._key_of(session_id)
        self.found = await self._service.stored.close(self.tenant_id, session_id)
        return self.found

    async def delete(self, session_id: str) -> None:
        """End a session, and erase what is stored under its id; returns when that is done.

        Its entry is gone within the grace period and a second, whatever its agent does, and
        whoever else deletes it at the same time. A dormant one and one that has ended are erased
        as well. Raises `SessionNotFound`, `SessionDead`.
        """
        self._key_of(session_id)
        # A task of its own: a client that leaves does not keep its session from ending.
        erasing = asyncio.ensure_future(self._service.stored.erase(self.tenant_id, session_id))
        await asyncio.shield(erasing)

    async def end(self, session_id: str) -> None:
        """End a session, and leave what is stored of it; returns when that is done.

        It can be read, resumed and erased until its retention is over. One that is not stored goes
        as by `delete`. Raises `SessionNotFound`, `SessionDead`.
        """
        self._key_of(session_id)
        ending = asyncio.ensure_future(self._service.stored.end(self.tenant_id, session_id))
        await asyncio.shield(ending)

    def _key_of(self, session_id: str) -> str:
        """Return the registry's key of a session; `SessionNotFound` for what this does not open."""
        key = registry_key(self.tenant_id, session_id)
        if self._only is not None:
            conversation = self._service.latest(key)
            if conversation is None or not self._opens(conversation):
                raise SessionNotFound(session_id)
        return key

    def _opens(self, conversation: Conversation) -> bool:
        named = OneConversation(conversation.session_id, conversation.fence)
        return self._only is None or self._only == named
