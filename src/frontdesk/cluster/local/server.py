"""The supervisor's side of the local engine: a `ClusterIndex`, served on a Unix socket.

On the supervisor's event loop, which does nothing else that takes long. A call is answered in the
step that reads it, so what one worker sends is carried out in its order. A worker's death is heard
of from whoever is its parent: its connections are hung up on first, so that nothing it had sent is
still carried out, then its entries end in batches, between which others are answered.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import TracebackType
from typing import Self

from frontdesk.clock import Clock, SystemClock
from frontdesk.cluster.index import ClusterIndex
from frontdesk.cluster.local.revision_file import RevisionFile
from frontdesk.cluster.local.served import ServedConnection, ServedIndex
from frontdesk.cluster.local.wire import bind_socket

__all__ = ["LocalServer"]

_BACKLOG = 1024


class LocalServer:
    """Serve the index of one machine's workers. Opened by `async with`; belongs to one event loop.

    The socket has mode 0700, and whoever connects under another account is hung up on, as is who
    connects beside a thousand others.

    Args:
        path: Where the socket is made, in place of one that lies there.
        clock: Where its time comes from; the machine's unless given.
        revisions: A file that outlives it, so that no fence repeats after a clock was set back
            between two starts. Without one, that is the clock's to see to.
    """

    def __init__(
        self, path: Path, *, clock: Clock | None = None, revisions: Path | None = None
    ) -> None:
        self.path: Path = path
        kept = None if revisions is None else RevisionFile(revisions)
        index = ClusterIndex(recovers=False)
        self._served = ServedIndex(index, clock or SystemClock(), revisions=kept)
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._served.begin()
        bound = bind_socket(self.path)
        self._listener = await loop.create_unix_server(
            lambda: ServedConnection(self._served), sock=bound, backlog=_BACKLOG
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._listener is not None:
            self._listener.close()
        await self._served.close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def node_died(self, incarnation: str) -> None:
        """End all entries of a node whose process is known to have died, with `lost`.

        In batches, between which others are answered; returns at once. From the event loop.
        """
        self._served.end_node(incarnation)

    def process_died(self, pid: int) -> None:
        """Do so for every node that joined from a process that has died, and was waited for."""
        self._served.end_process(pid)
