"""The watchdog of a server: somebody is told that it moves, for as long as it does.

Beside the server, whose loop it runs on: a loop that is blocked does not come here. That the
listener moves is seen by a connection to its own address, which it has to accept; where several
processes share the address, another one may get it, and then nothing may be left waiting here.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

LOOKS = 4
"""How often it looks within the time that may pass in silence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """Who is told that a server moves, and how long they wait to be told again."""

    notify: Callable[[], None]
    within_s: float


class Watchdog:
    """Tell that a server moves, while it does. An async context manager, on the server's loop.

    `accepted` says how many connections were accepted on the socket that listens, by now.
    """

    def __init__(
        self, alive: Alive, *, listening: socket.socket, accepted: Callable[[], int]
    ) -> None:
        self._alive, self._listening, self._accepted = alive, listening, accepted
        self._pause_s = alive.within_s / LOOKS

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch(), name="frontdesk-watchdog")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _watch(self) -> None:
        while True:
            before = self._accepted()
            await self._connect()
            await asyncio.sleep(self._pause_s)
            if self._accepted() != before or not self._left_waiting():
                self._alive.notify()

    async def _connect(self) -> None:
        """Connect to the address that is listened on, and leave."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(self._pause_s):
                host, port = self._listening.getsockname()[:2]
                _, writer = await asyncio.open_connection(host, port)
                writer.close()

    def _left_waiting(self) -> bool:
        """Say whether connections wait to be accepted; also of a socket that listens no more."""
        if self._listening.fileno() == -1:
            return True
        poll = select.poll()
        poll.register(self._listening, select.POLLIN)
        return bool(poll.poll(0))
