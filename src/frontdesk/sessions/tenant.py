"""The service as one key of one tenant sees it: the only way from a door to a session.

Above nothing but names and records, below the doors. A tenant's own id is put into every question
here, so that no route can forget it: what is somebody else's is not found, as if it never existed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from frontdesk.agents.ids import check_tenant, registry_key
from frontdesk.agents.records import CreateSession
from frontdesk.errors import InvalidArgument, SessionNotFound
from frontdesk.sessions.conversation import Conversation

MAX_PAGE = 1000


class Floor(Protocol):
    """What `TenantSessions` asks of the service, by registry key."""

    async def open(
        self, order: CreateSession, *, tenant_id: str, api_key: str | None
    ) -> Conversation: ...

    def live(self, registered: str, session_id: str) -> Conversation: ...

    def recently_ended(self, registered: str) -> Conversation | None: ...

    def live_of_tenant(self, tenant_id: str) -> Iterable[Conversation]: ...

    async def delete(self, registered: str, session_id: str) -> None: ...


class TenantSessions:
    """Open, find and end a tenant's sessions, with one key. Made by `SessionService.tenant`."""

    __slots__ = ("_floor", "api_key", "tenant_id")

    def __init__(self, floor: Floor, *, tenant_id: str, api_key: str | None) -> None:
        self._floor = floor
        self.tenant_id, self.api_key = check_tenant(tenant_id), api_key

    async def create(self, order: CreateSession) -> Conversation:
        """Open a session. A refused or cancelled create leaves nothing behind.

        Raises `SessionAlreadyExists`, `SessionLimitExceeded`, `CreateFailed`, `Draining`,
        `InvalidArgument`.
        """
        return await self._floor.open(order, tenant_id=self.tenant_id, api_key=self.api_key)

    def find(self, session_id: str) -> Conversation:
        """Return a live session.

        Never returns one whose agent has ended, told of it or not. Raises `SessionNotFound`,
        `SessionDead` where it ended recently, `InvalidArgument` for an impossible id.
        """
        return self._floor.live(registry_key(self.tenant_id, session_id), session_id)

    def recent(self, session_id: str) -> Conversation:
        """Return a live session, or the last that ended under this id: its stream replays.

        Raises `SessionNotFound`; `SessionDead` where it ended but is no longer held.
        """
        registered = registry_key(self.tenant_id, session_id)
        try:
            return self._floor.live(registered, session_id)
        except SessionNotFound:
            ended = self._floor.recently_ended(registered)
            if ended is None:
                raise
            return ended

    def sessions(
        self, *, limit: int = 100, after: str | None = None
    ) -> tuple[list[Conversation], str | None]:
        """Return up to `limit` live sessions, oldest first, and the cursor of the next page.

        Raises `InvalidArgument` for a limit that is not 1 to 1000, and for a wrong cursor.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidArgument("limit", expected=f"1 to {MAX_PAGE}", got=str(limit))
        first = _fence(after)
        live = [each for each in self._floor.live_of_tenant(self.tenant_id) if each.fence > first]
        page = live[:limit]
        return page, str(page[-1].fence) if len(live) > limit else None

    async def delete(self, session_id: str) -> None:
        """End a session; returns when its entry is gone.

        That is within the grace period and a second, whatever its agent does, and whoever else
        deletes it at the same time. Raises `SessionNotFound`, `SessionDead`.
        """
        await self._floor.delete(registry_key(self.tenant_id, session_id), session_id)


def _fence(cursor: str | None) -> int:
    if cursor is None:
        return -1
    if cursor.isascii() and cursor.isdigit() and len(cursor) < 20:
        return int(cursor)
    raise InvalidArgument("after", expected="a cursor from `next`", got=repr(cursor[:40]))
