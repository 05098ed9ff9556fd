"""One agent as one store knows it: who answers for it, and how the store hears of its end.

A future answers for itself, and all futures of a store share one callback, so that a session of a
task is one object. For any other agent an `AgentRegistration` answers, which has its monitor.
`ExitListener` adds that callback and makes those monitors.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import TypeVar, final

from frontdesk.lock import InterruptibleLock
from frontdesk.monitors import Monitor, MonitorFunction, Watcher, monitor
from frontdesk.monitors.dispatch import function_for, is_future
from frontdesk.monitors.futures import (
    add_callback,
    has_callback,
    on_closed_loop,
)
from frontdesk.records import ExitKind, ExitReason, Session
from frontdesk.store.event_loops import EventLoops

_log = logging.getLogger("frontdesk")
_UNKNOWN = ExitReason.of(ExitKind.UNKNOWN)

Future = asyncio.Future[object] | concurrent.futures.Future[object]
"""An agent that answers for itself."""

PLAIN_FUTURES: frozenset[type] = frozenset({asyncio.Task, asyncio.Future})
"""The types that are compared by identity and take no lock, as nobody can override in them."""

AgentKey = Future | int
"""What an agent is found by: itself, or its id where its type may define equality."""

Owner = TypeVar("Owner")


@final
class AgentRegistration:
    """Answer for an agent that is no future: its monitor calls this with the reason.

    `registered` tells whether a session relies on it, `ended` how the agent ended, once that is
    known. Whatever asks the monitor may run foreign code, and is called under no lock.
    """

    __slots__ = ("_monitor", "_on_exit", "agent_key", "ended", "pid", "registered")
    pid: int

    def __init__(self, agent: object, on_exit: RegistrationCallback) -> None:
        self._on_exit = on_exit
        self._monitor: Monitor | None = None
        self.agent_key: int = id(agent)
        self.ended: ExitReason | None = None
        self.registered: bool = False
        self.pid = os.getpid()

    @property
    def monitor(self) -> Monitor:
        """Return the agent's monitor."""
        assert self._monitor is not None
        return self._monitor

    def begin(self, monitor: Monitor) -> None:
        """Take the monitor, and ask it what a session needs to know; cancel it where that fails."""
        self._monitor = monitor
        try:
            self.pid = getattr(monitor, "pid", self.pid)
            if self.done():
                self.ended = self.reason()
        except BaseException:
            monitor.cancel()
            raise

    def done(self) -> bool:
        """Tell whether the agent has finished, as `Future.done` does: read, not told."""
        return self.ended is not None or not self.monitor.alive

    def reason(self) -> ExitReason:
        """Return how the agent, found finished, ended."""
        if self.ended is not None:
            return self.ended
        ask = getattr(self.monitor, "exit_reason", None)
        return (ask() if ask is not None else None) or _UNKNOWN

    def __call__(self, reason: ExitReason) -> None:
        """Take the monitor's word that the agent has ended."""
        self._on_exit(self, reason)


FutureCallback = Callable[[Future], None]
RegistrationCallback = Callable[[AgentRegistration, ExitReason], None]


def weak_callbacks(
    find: Callable[[], Owner | None],
    on_future_done: Callable[[Owner, Future], None],
    on_agent_exit: Callable[[Owner, AgentRegistration, ExitReason], None],
    *,
    put_off: Callable[[Callable[[], None]], None],
) -> tuple[FutureCallback, RegistrationCallback]:
    """Return what agents call when they end: one that outlives its store must not keep it.

    What is broken off at the recursion limit is put off. There is room for that then, where no
    function of Python's is called for it.
    """

    def when_done(future: Future) -> None:
        owner = find()
        if owner is not None:
            try:
                on_future_done(owner, future)
            except RecursionError:
                put_off(partial(on_future_done, owner, future))

    def on_exit(registration: AgentRegistration, reason: ExitReason) -> None:
        owner = find()
        if owner is not None:
            try:
                on_agent_exit(owner, registration, reason)
            except RecursionError:
                put_off(partial(on_agent_exit, owner, registration, reason))

    return when_done, on_exit


class ExitListener:
    """Have a store called when its agents end; owns what that takes.

    A callback cannot be taken back from a future, but need not be: of a future without a session
    the store does not know. `detached` tells whether a delete has left one in a future, which may
    be registered again.
    """

    when_done: FutureCallback
    detached: bool

    def __init__(
        self,
        *,
        monitors: Mapping[type, MonitorFunction],
        watcher: Watcher | None,
        callbacks: tuple[FutureCallback, RegistrationCallback],
    ) -> None:
        self.monitors = monitors
        self.watcher: Watcher = Watcher() if watcher is None else watcher
        self._owns_watcher = watcher is None
        self.when_done, self._on_exit = callbacks
        self.loops: EventLoops = EventLoops()
        self.detached = False
        self._ticks: list[Callable[[], None]] = []
        if self._owns_watcher:
            # A store that is forgotten without close() leaves no thread behind.
            weakref.finalize(self, self.watcher.close).atexit = False

    def is_future(self, agent: object) -> bool:
        """Tell whether the callback for futures is for this agent."""
        kind = type(agent)
        if self.monitors and function_for(kind, self.monitors) is not None:
            return False
        return kind in PLAIN_FUTURES or is_future(agent)

    def listen(self, future: Future, *, lock: InterruptibleLock, tick: Callable[[], None]) -> bool:
        """Add the callback to a future that was not done; False where it never comes.

        Under no lock: future, loop and watcher may be of a user's own type. `lock` is the store's,
        for what is ours. From the first future on that has a loop, which may be closed, `tick` is
        called once a second.
        """
        if self.detached and has_callback(future, self.when_done):
            return not on_closed_loop(future)
        if isinstance(future, concurrent.futures.Future):
            future.add_done_callback(self.when_done)
            return True
        loop = future.get_loop()
        if not self.loops.knows(loop):
            with lock:
                self.loops.add(loop)
        if not self._ticks:
            stop = self.watcher.every_second(tick)
            self._ticks.append(stop)
            if self._ticks[0] is not stop:  # another thread was faster
                stop()
        return add_callback(future, self.when_done, Context())

    def monitor(self, agent: object) -> AgentRegistration:
        """Monitor any other agent; under no lock, since a monitor may run foreign code."""
        registration = AgentRegistration(agent, self._on_exit)
        registration.begin(monitor(agent, registration, watcher=self.watcher, kinds=self.monitors))
        return registration

    def detach(self, session: Session, reason: ExitReason) -> Monitor | None:
        """Listen no more to the agent of a deleted session, its last; return what to cancel."""
        liveness = session._liveness
        if type(liveness) is AgentRegistration:
            liveness.ended = reason
            return liveness.monitor
        self.detached = True
        return None

    def close(self) -> None:
        """End the watcher, if it is the store's own."""
        if self._owns_watcher:
            self.watcher.close()


def future_key(future: Future) -> AgentKey:
    """Return what a future is found by."""
    return future if type(future) in PLAIN_FUTURES else id(future)


def key_of(session: Session) -> AgentKey:
    """Return what the agent of a session is found by."""
    liveness = session._liveness
    if type(liveness) is AgentRegistration:
        return liveness.agent_key
    agent = session.agent
    key: AgentKey = agent if type(agent) in PLAIN_FUTURES else id(agent)
    return key


def is_finished(session: Session) -> bool:
    """Tell whether an agent is known to be over, for use under the lock: no foreign code runs.

    So of a future of a user's own type it is not known, nor of an agent whose monitor has not told.
    """
    liveness = session._liveness
    if type(liveness) is AgentRegistration:
        return liveness.ended is not None
    return type(liveness) in PLAIN_FUTURES and liveness.done()


def report_crash(sessions: tuple[Session, ...], reason: ExitReason) -> None:
    """Log what asyncio would have: reading a task's exception silences its own report.

    In a context of its own: whoever heard of the crash may be another tenant's request, and what
    a log handler sets for one agent is not to be on the record of the next.
    """
    agent = sessions[0].agent if sessions else None
    # Not by class: a task factory, or a patch of asyncio, may make them in Python.
    if reason.kind is not ExitKind.CRASHED or not asyncio.isfuture(agent):
        return
    error: BaseException | None = None
    with suppress(Exception, asyncio.CancelledError):  # of a user's own type, perhaps
        error = agent.exception()
    more = f" and {len(sessions) - 1} more" if len(sessions) > 1 else ""
    text, session_id = "agent of session %s%s crashed", sessions[0].session_id
    Context().run(_log.error, text, session_id, more, exc_info=error)
