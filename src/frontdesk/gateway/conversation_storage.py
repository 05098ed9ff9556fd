"""Where this gateway's conversations are stored, as its configuration says.

Below `gateway.py`, which enters it before its sessions and leaves it after them: what they said
last is written then.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from frontdesk.gateway.conversation_settings import MEMORY, SQLITE, ConversationSettings
from frontdesk.gateway.logs import LAST_LINES_S, drain_logs
from frontdesk.gateway.settings import Config
from frontdesk.gateway.state_dir import StateDir
from frontdesk.gateway.state_lock import STORAGE_PATIENCE_S
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.conversations import Conversations
from frontdesk.persistence.disk_reserve import DiskReserve
from frontdesk.persistence.errors import StorageBroken, StorageRefused
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_conversations import SqliteConversations
from frontdesk.sessions.keeping_settings import WaitingFound

if TYPE_CHECKING:
    # Late: it comes with a cluster.
    from frontdesk.cluster.node import Node


logger: logging.Logger = logging.getLogger("frontdesk.gateway")

MB = 1024 * 1024
RESERVE = ".reserve"
LOST = "it is empty or gone, and the keys of its conversations are there"
START_BYTES = MB
"""A start that has less room on its disk frees what is in reserve."""


class ConversationStorage:
    """The storage of conversations. An async context manager; `commits` is None with `memory`.

    Args:
        settings: Which it is.
        state: Where SQLite's is.
        on_broken: Told that it failed; the process is to end.
        owner: As what this gateway owns conversations, which has its state's lock.
        socket: Where a supervisor serves SQLite's, which writes it for all its workers.
        node: Who knows which of the others live, that store theirs in the same database.
    """

    commits: CommitQueue | None
    file: Path | None
    """SQLite's; None for another store."""
    waiting_elsewhere: WaitingFound | None = None
    """Finds what waits at nodes that are gone; None where no other node stores there."""

    def __init__(
        self,
        settings: ConversationSettings,
        state: StateDir,
        *,
        on_broken: Callable[[BaseException], None],
        owner: str = "",
        socket: Path | None = None,
        node: Node | None = None,
    ) -> None:
        self.commits = None
        self.file = state.conversations if settings.store == SQLITE else None
        if settings.store == MEMORY:
            return
        store: Conversations
        if settings.store == SQLITE and socket is not None:
            # Late: it comes with a cluster's engine.
            from frontdesk.persistence.remote_conversations import RemoteConversations

            store = RemoteConversations(socket, owner=owner, place=str(state.own))
        elif settings.store == SQLITE:
            store = sqlite_conversations(settings, state, owner=owner)
        else:
            # Late: it comes with an extra.
            from frontdesk.gateway.conversation_database import database_conversations

            store = database = database_conversations(settings, state, owner=owner, node=node)
            if node is not None:
                self.waiting_elsewhere = database.waiting_elsewhere
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


@contextmanager
def database_locked(config: Config, *, on_lost: Callable[[StorageBroken], None]) -> Iterator[None]:
    """Hold the lock of the database that a gateway without a cluster stores in, if it does.

    `StorageRefused` where another such gateway has it for longer than is waited for. `on_lost` is
    called, from another thread, where one has taken it over: this process is to end.
    """
    if not _alone_in_database(config):
        yield
        return
    # Late: it comes with an extra.
    from frontdesk.gateway.conversation_database import database_lock

    with database_lock(config.conversations, on_lost=on_lost):
        yield


def _alone_in_database(config: Config) -> bool:
    return config.cluster.url is None and config.conversations.store not in (MEMORY, SQLITE)


def lock_patience_s(config: Config) -> float:
    """Return how long a start waits for the state directory, which one that drains may still have.

    Where the one before stores nothing that this one goes on with, or is a node of a cluster, not
    at all: two on one directory are a mistake, which is told at once.
    """
    waits = config.conversations.store == SQLITE or _alone_in_database(config)
    return STORAGE_PATIENCE_S if waits else 0.0


def end_process(error: BaseException) -> None:
    """End the process at once: what it would still say may not be stored, or not be true.

    Whoever starts it again has it recover from what is stored.
    """
    logger.critical("the storage of conversations is broken: %s", error)
    drain_logs(timeout_s=LAST_LINES_S)
    os.kill(os.getpid(), signal.SIGKILL)


def sqlite_conversations(
    settings: ConversationSettings, state: StateDir, *, owner: str
) -> SqliteConversations:
    """Open SQLite's storage in a state directory whose lock this process has; `StorageRefused`."""
    file = state.conversations
    if (advice := advice_of_lost_file(settings, state)) is not None:
        raise StorageRefused(str(file), problem=f"{LOST}: {advice}")
    keys = settings.keys or state.conversation_keys
    sealing = Sealing(state.master_secret(), keys, encrypt=settings.encrypt)
    reserve = DiskReserve(
        file.with_suffix(RESERVE),
        size=settings.reserve_mb * MB,
        after_s=settings.storage_patience_s,
    )
    return SqliteConversations(
        file, owner=owner, sealing=sealing, sync=settings.sync, reserve=reserve
    )


def advice_of_lost_file(settings: ConversationSettings, state: StateDir) -> str | None:
    """Return what to do where SQLite's file is lost, whose keys are there; None where it is not."""
    file, keys = state.conversations, state.conversation_keys
    if settings.keys is not None or (file.exists() and file.stat().st_size):
        return None
    if not any(keys.glob("*.key")):
        return None
    return f"put it back, or move {keys.name} away to begin without them"


def free_reserve_if_full(state: StateDir) -> None:
    """Give back what is in reserve where a start finds no room for what it has to write."""
    reserve = state.conversations.with_suffix(RESERVE)
    free = os.statvfs(state.path)
    if free.f_bavail * free.f_frsize < START_BYTES and reserve.exists():
        reserve.unlink(missing_ok=True)
        logger.warning("the disk of %s is full: the reserve there is freed", state.path)
