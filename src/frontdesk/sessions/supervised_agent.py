"""What the registry monitors in an agent's place, where the desk has a word in how it ended.

Above the restart decision, below the desk. A process that a client deleted ends with an exit code,
one that will be restarted with a signal: in the registry the one is `deleted`, the other
`restarted`. The registrant watches the agent itself, and translates. It may be told by a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from frontdesk.lock import InterruptibleLock
from frontdesk.monitors import ExitCallback, Watcher, monitor
from frontdesk.records import ExitKind, ExitReason

_RESTARTED = ExitReason.of(ExitKind.RESTARTED)


class SupervisedAgent:
    """Stand for one agent in the registry (it is an agent with `add_exit_callback`).

    `restarts` is asked once, at the end of the agent and maybe in another thread, whether another
    agent will take over. `explain` says beforehand how an end that is being brought about is to be
    called. `agent_reason` is how the agent itself ended.
    """

    __slots__ = (
        "_explained",
        "_judged",
        "_lock",
        "_monitor",
        "_restarts",
        "_watcher",
        "agent",
        "agent_reason",
    )

    def __init__(
        self, agent: Any, *, restarts: Callable[[ExitReason], bool], watcher: Watcher
    ) -> None:
        self.agent = agent
        self.agent_reason: ExitReason | None = None
        self._restarts, self._watcher = restarts, watcher
        self._lock = InterruptibleLock()
        self._explained: ExitReason | None = None
        self._judged: ExitReason | None = None
        self._monitor: Any = None

    def add_exit_callback(self, callback: ExitCallback) -> Callable[[], None]:
        """Tell the callback how the agent ended, once it has."""
        self._monitor = monitor(
            self.agent, lambda reason: callback(self._judge(reason)), watcher=self._watcher
        )
        if not self._monitor.alive:
            callback(self._judge(self._monitor.exit_reason()))
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
        return None if reason is None else self._judge(reason)

    def explain(self, reason: ExitReason) -> None:
        """Call the end that follows by this reason. An end that was judged already stays."""
        with self._lock:
            self._explained = reason

    def _judge(self, reason: ExitReason | None) -> ExitReason:
        with self._lock:
            if self._judged is None:
                own = self._explained or reason or ExitReason.of(ExitKind.UNKNOWN)
                self.agent_reason = own
                self._judged = _RESTARTED if self._restarts(own) else own
            return self._judged
