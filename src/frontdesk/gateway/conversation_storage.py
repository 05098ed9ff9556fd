"""Where this gateway's conversations are stored, as its configuration says.

Below `gateway.py`, which enters it before its sessions and leaves it after them: what they said
last is written then.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from frontdesk.gateway.conversation_settings import ConversationSettings
from frontdesk.gateway.state_dir import StateDir
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_conversations import SqliteConversations

MEMORY = "memory"


class ConversationStorage:
    """The storage of conversations. An async context manager; `commits` is None with `memory`."""

    commits: CommitQueue | None

    def __init__(
        self,
        settings: ConversationSettings,
        state: StateDir,
        *,
        on_broken: Callable[[BaseException], None],
    ) -> None:
        self.commits = None
        if settings.store == MEMORY:
            return
        keys: Path = settings.keys or state.conversation_keys
        sealing = Sealing(state.master_secret(), keys, encrypt=settings.encrypt)
        store = SqliteConversations(
            state.conversations, owner="", sealing=sealing, sync=settings.sync
        )
        self.commits = CommitQueue(
            store, commit_interval_s=settings.commit_interval_ms / 1000, on_broken=on_broken
        )

    async def __aenter__(self) -> Self:
        if self.commits is not None:
            await self.commits.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self.commits is not None:
            await self.commits.__aexit__(kind, error, at)
