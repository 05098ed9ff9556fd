"""The supervisor's side of the local engine: a `ClusterIndex`, served on a Unix socket."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from frontdesk.clock import Clock, SystemClock

__all__ = ["LocalServer"]


class LocalServer:
    """Serve the index of one machine's workers. Opened by `async with`; belongs to one event loop.

    The socket has mode 0700, and whoever connects under another account is hung up on.

    Args:
        path: Where the socket is made; what lies there is replaced. At most 107 bytes.
        clock: Where its time comes from; the machine's unless given.
    """

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self.path: Path = path
        self._clock = clock or SystemClock()

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        raise NotImplementedError

    def node_died(self, incarnation: str) -> None:
        """End all entries of a node whose process is known to have died. From the event loop.

        They end in batches, between which others are answered; returns at once.
        """
        raise NotImplementedError

    def process_died(self, pid: int) -> None:
        """Do so for every node that joined from a process that has died; it was reaped by us."""
        raise NotImplementedError
