"""What the registry monitors in an agent's place where its session has a word in how it ended.

A process that a client deleted ends with an exit code, one that will be restarted with a signal: in
the registry the one is `deleted`, the other `restarted`. `SupervisedAgent` monitors the agent
itself, and translates.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from frontdesk.agents.errors import AgentLost
from frontdesk.lock import InterruptibleLock
from frontdesk.monitors import ExitCallback, Watcher, monitor
from frontdesk.records import ExitKind, ExitReason

_RESTARTED = ExitReason.of(ExitKind.RESTARTED)


class SupervisedAgent:
    """Stand for one agent in the registry (it is an agent with `add_exit_callback`).

    `restarts` is asked once, at the end of the agent and maybe in another thread, whether another
    agent will take over. `set_reason` says beforehand what an end that is being brought about is
    to be called. `agent_reason` is how the agent itself ended.
    """

    __slots__ = (
        "_given_reason",
        "_lock",
        "_monitor",
        "_restarts",
        "_translated",
        "_watcher",
        "agent",
        "agent_reason",
        "died_s",
    )

    def __init__(
        self, agent: Any, *, restarts: Callable[[ExitReason], bool], watcher: Watcher
    ) -> None:
        self.agent: Any = agent
        self.agent_reason: ExitReason | None = None
        self.died_s: float | None = None
        """When its death was first heard of here, by `perf_counter`."""
        self._restarts, self._watcher = restarts, watcher
        self._lock = InterruptibleLock()
        self._given_reason: ExitReason | None = None
        self._translated: ExitReason | None = None
        self._monitor: Any = None

    def add_exit_callback(self, callback: ExitCallback) -> Callable[[], None]:
        """Call back with how the agent ended, once it has."""
        self._monitor = monitor(
            self.agent, lambda reason: callback(self._translate(reason)), watcher=self._watcher
        )
        if not self._monitor.alive:
            callback(self._translate(self._monitor.exit_reason()))
        cancel: Callable[[], None] = self._monitor.cancel
        return cancel

    @property
    def alive(self) -> bool:
        """Read whether the agent lives."""
        return self._monitor is None or bool(self._monitor.alive)

    @property
    def pid(self) -> int:
        """Return the process that the agent runs in."""
        return int(self._monitor.pid)

    def exit_reason(self) -> ExitReason | None:
        """Return how the agent ended, as the registry is to show it; None while it lives."""
        reason = None if self._monitor is None else self._monitor.exit_reason()
        return None if reason is None else self._translate(reason)

    def set_reason(self, reason: ExitReason) -> None:
        """Call the end that follows by this reason. An end that was translated already stays."""
        with self._lock:
            self._given_reason = reason

    def _translate(self, reason: ExitReason | None) -> ExitReason:
        with self._lock:
            if self._translated is None:
                self.died_s = perf_counter()
                own = self._given_reason or reason or ExitReason.of(ExitKind.UNKNOWN)
                # A process that was killed for what it did ended of that, and of no signal.
                killed_for = getattr(self.agent, "killed_for", None)
                if self._given_reason is None and killed_for is not None:
                    own = ExitReason.crashed(AgentLost(killed_for))
                self.agent_reason = own
                self._translated = _RESTARTED if self._restarts(own) else own
            return self._translated
