"""Agents for dormant sessions: started when one is needed, and again later where that failed.

    a prompt wakes one       `resume`: at once
    one was loaded, or       `want`: a few at a time, and again after a while, for as long as
    could not be resumed     something waits in it; `retry`: now, as what was in the way may be gone

Nothing that waits is lost: it stays in its session, and what is stored needs no memory here but the
name of the session.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, NamedTuple

from frontdesk.agents.errors import CreateFailed
from frontdesk.agents.records import Restored
from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.errors import FrontdeskError
from frontdesk.persistence.errors import ConversationUnreadable
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.errors import NotResumable
from frontdesk.sessions.live import LiveSession
from frontdesk.sessions.reservations import Place, Reservations
from frontdesk.sessions.stop_reason import INTERRUPTED
from frontdesk.sessions.supervision import Supervisor

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0

_log = logging.getLogger("frontdesk.sessions")


class WaitingSession(NamedTuple):
    """A session of a tenant, in which something waits."""

    tenant_id: str
    session_id: str


class Resumer:
    """Start agents for dormant sessions. On one event loop.

    `loaded` returns a dormant session in which something waits, `prepare` what its next agent gets
    of the earlier ones, `refuse_over_limit` raises where it may have none now; each raises what is
    in the way.
    """

    def __init__(
        self,
        *,
        supervisor: Callable[[], Supervisor],
        reservations: Reservations,
        loaded: Callable[[WaitingSession], Awaitable[LiveSession | None]],
        prepare: Callable[[Conversation], Awaitable[Restored]],
        refuse_over_limit: Callable[[Conversation], None],
        at_once: int,
    ) -> None:
        self._supervisor, self._reservations = supervisor, reservations
        self._loaded, self._prepare = loaded, prepare
        self._refuse_over_limit = refuse_over_limit
        self._places = asyncio.Semaphore(at_once)
        self._timers: dict[WaitingSession, asyncio.TimerHandle] = {}
        self._failures: dict[WaitingSession, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def resume(self, live_session: LiveSession) -> asyncio.Task[None]:
        """Begin to start an agent for a dormant conversation; twice is once.

        Where none can be started it stays dormant, and its `blocked` says why; it is tried again
        while something waits in it. The result is the task that does it, which never fails.
        """
        if live_session.resuming is None:
            live_session.refused = None
            live_session.conversation.begin_resuming()
            live_session.resuming = self._spawn(self._resume(live_session))
        return live_session.resuming

    def want(self, name: WaitingSession, *, after_s: float = 0.0) -> None:
        """Have a session resumed in which something waits, when it is its turn."""
        if not self._closed and name not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[name] = loop.call_later(after_s, self._begin, name)

    async def resume_all(self, names: Iterable[WaitingSession]) -> None:
        """Resume sessions in which something waits, a few at a time; return when all were tried."""
        tasks = set() if self._closed else {self._spawn(self._try(each)) for each in names}
        if tasks:
            await asyncio.wait(tasks)

    def retry(self, *, first: int | None = None) -> None:
        """Try again now what failed: all, or the `first` so many."""
        for name in list(self._timers)[:first]:
            self._timers[name].cancel()
            self._begin(name)

    async def close(self) -> None:
        """Resume no more; return when nothing is under way."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _resume(self, live_session: LiveSession) -> None:
        conversation = live_session.conversation
        try:
            restored = await self._prepare(conversation)
            # From here on nothing waits until the place is reserved: no burst gets past a limit.
            self._refuse_over_limit(conversation)
            place = Place(conversation.tenant_id, conversation.api_key, conversation.rules.name)
            self._reservations.reserve(live_session.registry_key, place)
            await self._supervisor().open(live_session, restored=restored)
        except FrontdeskError as error:
            _log.warning("session %s has no agent: %s", conversation.session_id, error)
            self._on_failed(live_session, error)
        except Exception as error:  # noqa: BLE001 - its prompts wait, and it is seen why
            _log.exception("session %s has no agent", conversation.session_id)
            self._on_failed(live_session, CreateFailed(f"it failed: {type(error).__name__}"))
        else:
            self._failures.pop(_name_of(conversation), None)
            conversation.resume(conversation.left_for or INTERRUPTED, memory=live_session.memory)
        finally:
            self._reservations.release(live_session.registry_key)
            live_session.resuming = None

    def _on_failed(self, live_session: LiveSession, error: FrontdeskError) -> None:
        conversation = live_session.conversation
        problem = error.problem if isinstance(error, NotResumable) else str(error)
        lasting = isinstance(error, CreateFailed | ConversationUnreadable)
        refused = NotResumable(conversation.session_id, problem=problem) if lasting else error
        live_session.refused = refused
        conversation.stay_dormant(problem)
        if conversation.wants_agent:
            self._want_again(_name_of(conversation))

    def _want_again(self, name: WaitingSession) -> None:
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        self.want(name, after_s=min(FIRST_WAIT_S * 2 ** min(failures - 1, 10), LONGEST_WAIT_S))

    def _begin(self, name: WaitingSession) -> None:
        del self._timers[name]
        self._spawn(self._try(name))

    async def _try(self, name: WaitingSession) -> None:
        async with self._places:
            try:
                live_session = await self._loaded(name)
            except OwnerUnreachable:
                # Its owner by now resumes it; where that is gone, another one does.
                self._failures.pop(name, None)
                return
            except FrontdeskError as error:
                _log.info("session %s waits for an agent: %s", name.session_id, error)
                self._want_again(name)
                return
            if live_session is None:
                self._failures.pop(name, None)
            else:
                await asyncio.wait({self.resume(live_session)})

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _name_of(conversation: Conversation) -> WaitingSession:
    return WaitingSession(conversation.tenant_id, conversation.session_id)
