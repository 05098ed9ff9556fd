"""`get_or_create`: one factory runs, however many callers race.

The lock of the store is not held while a factory runs; what the callers share is a `PendingCreate`,
found by the id of the session.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from frontdesk.errors import (
    AgentFactoryFailed,
    FrontdeskError,
    RecursiveCreate,
    SessionBusy,
    SessionNotFound,
)
from frontdesk.lock import InterruptibleLock
from frontdesk.records import Session
from frontdesk.waiting import running_library


class PendingCreate:
    """The making of one session: by one thread, for all who ask for it meanwhile.

    That thread holds `making` until `session` or `error` is there. Not an Event: from CPython 3.14
    on, a signal handler that raises as its wait() begins can leave it locked, and then the maker
    waits for ever to set it.
    """

    __slots__ = ("_making", "_thread", "error", "finish", "session")

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self.session: Session | None = None
        self.error: BaseException | None = None
        self._making = InterruptibleLock()
        self._making.acquire()
        self.finish: Callable[[], None] = self._making.release

    def wait(self, session_id: str, *, timeout_s: float) -> Session:
        """Wait for the caller that runs the factory, and share what comes of it."""
        if self.session is None and self.error is None:
            self._refuse_to_wait(session_id)
            if not self._wait(timeout_s):
                raise SessionBusy(session_id, waited_s=timeout_s)
        if self.session is not None:
            return self.session
        error = self.error or RuntimeError("the factory's thread ended")
        raise AgentFactoryFailed(session_id, error=error) from error

    def _refuse_to_wait(self, session_id: str) -> None:
        if self._thread == threading.get_ident():
            raise RecursiveCreate(session_id)
        if running_library() is not None:
            raise SessionBusy(session_id, waited_s=0)

    def _wait(self, timeout_s: float) -> bool:
        try:
            return self._making.acquire(timeout=timeout_s)
        finally:
            try:  # noqa: SIM105 - a call in its place could be interrupted itself
                self._making.release()  # for the next who waits
            except RuntimeError:  # it was not had in time, or a signal handler raised before
                pass


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
        get: Callable[[str], Session],
        factory: Callable[[], object],
        create: Callable[[object], Session],
        *,
        timeout_s: float,
    ) -> Session:
        """Return the session that there is, or create one with the agent of the factory.

        An agent that was made for nothing is the caller's: the error of a refused create has it.
        """

        def find() -> Session | None:
            try:
                return get(session_id)
            except SessionNotFound:
                return None

        def make() -> Session:
            session = find()
            if session is not None:
                return session
            agent = factory()
            try:
                return create(agent)
            except FrontdeskError as error:
                error.agent = agent
                raise

        return find() or self.share(session_id, make, timeout_s=timeout_s)

    def share(self, session_id: str, make: Callable[[], Session], *, timeout_s: float) -> Session:
        """Run `make` unless another caller does so already; return what came of it."""
        build = mine = PendingCreate()
        try:
            # One dict operation decides who builds, without a lock. A signal handler may raise
            # before its answer is here, so what is mine is looked for below.
            build = self._under_way.setdefault(session_id, mine)
            session = make() if build is mine else None
        except BaseException as error:
            if self._under_way.get(session_id) is mine:
                self._under_way.pop(session_id, None)
            mine.error = error
            mine.finish()
            raise
        if session is None:
            return build.wait(session_id, timeout_s=timeout_s)
        mine.session = session
        try:
            # First out of the table, then told: a caller that comes in between finds the session.
            self._under_way.pop(session_id, None)
        finally:
            mine.finish()
        return session
