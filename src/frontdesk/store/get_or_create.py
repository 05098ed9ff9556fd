"""`get_or_create`, plain and awaited: one factory runs, however many callers race.

The lock of the store is not held while a factory runs; what the callers share is a `PendingCreate`,
found by the id of the session.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TypeVar

from frontdesk.errors import FrontdeskError, InvalidType, SessionNotFound
from frontdesk.records import Session
from frontdesk.store.pending_create import Construction, PendingCreate

Agent = TypeVar("Agent")
Factory = Callable[[], Agent]
AsyncFactory = Callable[[], Coroutine[object, None, Agent]]
Create = Callable[[Agent], Session[Agent]]


class PendingCreates:
    """The makings under way, by session id. Each is removed before its callers are told."""

    __slots__ = ("_under_way",)

    def __init__(self) -> None:
        self._under_way: dict[str, PendingCreate] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def get_or_create(
        self,
        session_id: str,
        get: Callable[[str], Session[Agent]],
        factory: Factory[Agent],
        create: Create[Agent],
        *,
        timeout_s: float,
    ) -> Session[Agent]:
        """Return the session that there is, or create one with the agent of the factory.

        An agent that was made for nothing is the caller's: the error of a refused create has it.
        """
        find = _finder(get, session_id)

        def make() -> Session[Agent]:
            return find() or _registered(factory(), create)

        while True:
            session = find() or self.share(session_id, make, timeout_s=timeout_s)
            if session is not None:
                return session

    async def get_or_create_async(
        self,
        session_id: str,
        get: Callable[[str], Session[Agent]],
        factory: AsyncFactory[Agent],
        create: Create[Agent],
        *,
        timeout_s: float,
    ) -> Session[Agent]:
        """Do what `get_or_create` does with a factory that is awaited, in a task of its own."""
        find = _finder(get, session_id)

        async def make() -> Session[Agent]:
            return find() or _registered(await _begun(factory), create)

        while True:
            session = find() or await self.share_async(session_id, make, timeout_s=timeout_s)
            if session is not None:
                return session

    def share(
        self, session_id: str, make: Callable[[], Session], *, timeout_s: float
    ) -> Session | None:
        """Run `make` unless another caller does so already; return what came of it."""
        build = mine = PendingCreate()
        try:
            # One dict operation decides who builds, without a lock. A signal handler may raise
            # before its answer is here, so what is mine is looked for below.
            build = self._under_way.setdefault(session_id, mine)
            session = make() if build is mine else None
        except BaseException as error:
            self._forget(session_id, mine)
            mine.error = error
            mine.finish()
            mine.wakers.wake_all()
            raise
        if session is None:
            return build.wait(session_id, timeout_s=timeout_s)
        mine.session = session
        try:
            # First out of the table, then told: a caller that comes in between finds the session.
            self._under_way.pop(session_id, None)
        finally:
            mine.finish()
        mine.wakers.wake_all()
        return session

    async def share_async(
        self, session_id: str, make: AsyncFactory[Session], *, timeout_s: float
    ) -> Session | None:
        """Run `make` in a task of its own unless another caller does so already."""
        mine = Construction(lambda construction: self._forget(session_id, construction))
        try:
            build = self._under_way.setdefault(session_id, mine)
            if build is mine:
                mine.begin(make)
        except BaseException as error:
            mine.complete(error=error)
            raise
        if build is mine:
            return await mine.run(session_id)
        return await build.wait_async(session_id, timeout_s=timeout_s)

    def _forget(self, session_id: str, build: PendingCreate) -> None:
        if self._under_way.get(session_id) is build:
            self._under_way.pop(session_id, None)


def _finder(
    get: Callable[[str], Session[Agent]], session_id: str
) -> Callable[[], Session[Agent] | None]:
    def find() -> Session[Agent] | None:
        try:
            return get(session_id)
        except SessionNotFound:
            return None

    return find


def _begun(factory: AsyncFactory[Agent]) -> Coroutine[object, None, Agent]:
    made: object = factory()
    if not isinstance(made, Coroutine):
        # Perhaps an agent: a task can be awaited, and would be until its end.
        got = f"one that returns {type(made).__name__}"
        error = InvalidType("factory", expected="a coroutine function", got=got)
        error.agent = made
        raise error
    return made


def _registered(agent: Agent, create: Create[Agent]) -> Session[Agent]:
    try:
        return create(agent)
    except FrontdeskError as error:
        error.agent = agent
        raise
