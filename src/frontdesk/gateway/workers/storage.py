"""The storage of conversations of several workers: the supervisor has it open and serves it.

SQLite's file is written by one process. With another storage the workers go there themselves, and
nothing is served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from frontdesk.gateway.conversation_settings import SQLITE, ConversationSettings
from frontdesk.gateway.conversation_storage import sqlite_conversations
from frontdesk.gateway.state_dir import StateDir
from frontdesk.persistence.conversation_server import ConversationServer
from frontdesk.persistence.errors import StorageBroken

OWNER = "supervisor"
"""As what the supervisor would own conversations; it has none."""


@contextmanager
def served_storage(
    settings: ConversationSettings,
    state: StateDir,
    *,
    socket: Path,
    is_worker: Callable[[int], bool],
    on_broken: Callable[[StorageBroken], None],
) -> Iterator[Callable[[int], None]]:
    """Serve SQLite's storage, if that is it; yield what is told the id of a process that has died.

    `StorageRefused` where it cannot be had. Whoever enters it has the state directory's lock.
    """
    if settings.store != SQLITE:
        yield lambda _: None
        return
    server_of = partial(ConversationServer, is_worker=is_worker, on_broken=on_broken)
    with ExitStack() as stack:
        store = stack.enter_context(closing(sqlite_conversations(settings, state, owner=OWNER)))
        server = stack.enter_context(server_of(socket, store))
        yield server.process_died
