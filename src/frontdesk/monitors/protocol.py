"""What a monitor is: the protocol, the callback, and how an exit is notified.

The floor of the package: the kinds (`futures.py`, `threads.py`, `processes.py`, `custom.py`) and
the dispatch over them (`dispatch.py`) stand on it. It knows the records below and no kind of agent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from frontdesk.records import ExitReason

ExitCallback = Callable[[ExitReason], None]
"""Called with how the agent ended: at most once, from any thread."""

_logger = logging.getLogger("frontdesk")


class Monitor(Protocol):
    """Watch one agent. This much is asked of a monitor of yours."""

    @property
    def alive(self) -> bool:
        """Tell whether the agent lives: read, not told. False as soon as it is known to be over."""
        ...

    def cancel(self) -> None:
        """Stop watching. Idempotent, from any thread.

        After it has returned no call of the callback begins; one that is under way in another
        thread may still finish.
        """
        ...


class AgentMonitor(Monitor, Protocol):
    """What `monitor()` returns, whatever the kind of agent."""

    @property
    def pid(self) -> int:
        """Return the operating-system process that the agent runs in."""
        ...

    def exit_reason(self) -> ExitReason | None:
        """Return how the agent ended if it has, told or not, else None."""
        ...


MonitorFunction = Callable[[Any, ExitCallback], Monitor]
"""Monitors one kind of agent: takes the agent and the callback, returns the monitor."""


def notify(on_exit: ExitCallback, reason: ExitReason) -> None:
    """Call `on_exit`; where it raises, log that and go on: the other exits are not its business."""
    try:
        on_exit(reason)
    except Exception:
        _logger.exception("an exit callback raised (the agent's exit: %s)", reason)
