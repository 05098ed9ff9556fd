"""Ways to run a store inside a host: `with`, `async with`, ASGI lifespan, anyio task group.

Below `store.py`, which inherits them; all of them come down to `close()`. No host is imported: an
ASGI framework calls `lifespan`, a task group calls `serve`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Protocol, Self

from frontdesk.feed import Wakers


class TaskStatus(Protocol):
    """What a task group waits for: anyio's and trio's `task_status`."""

    def started(self, value: Any = None) -> None: ...


class Hosted:
    """The parts of a store's life that depend on its host."""

    __slots__ = ()

    _closing: Wakers

    @property
    def closed(self) -> bool:
        """Tell whether the store was closed."""
        raise NotImplementedError

    def close(self) -> None:
        """End the store."""
        raise NotImplementedError

    async def serve(self, *, task_status: TaskStatus | None = None) -> None:
        """Live as a child of a task group: `store = await task_group.start(store.serve)`.

        Returns when the store is closed; closes it when cancelled.

        Examples:
            >>> import anyio, frontdesk
            >>> async def main():
            ...     async with anyio.create_task_group() as group:
            ...         store = await group.start(frontdesk.SessionStore().serve)
            ...         print(store.count())
            ...         store.close()
            >>> anyio.run(main)
            0
        """
        try:
            if task_status is not None:
                task_status.started(self)
            await self._until_closed()
        finally:
            self.close()

    async def _until_closed(self) -> None:
        while not self.closed:
            await self._closing.wait_async(lambda: self.closed)

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[dict[str, Self]]:
        """Live as long as an ASGI application: `Starlette(lifespan=store.lifespan)`.

        Its state is `{"sessions": store}`: requests find the store as `request.state.sessions`.
        """
        del app
        with self:
            yield {"sessions": self}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()
