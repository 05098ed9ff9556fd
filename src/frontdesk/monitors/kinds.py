"""`monitor()`: which kind of agent is it, and who watches that kind.

The top of the package, below the store: it knows every kind and dispatches on the agent's type.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Mapping
from typing import Any

from frontdesk.errors import UnknownAgentKind
from frontdesk.monitors.base import AgentMonitor, ExitCallback, MonitorFunction
from frontdesk.monitors.foreign import ForeignMonitor, monitor_by_callback
from frontdesk.monitors.futures import FutureMonitor
from frontdesk.monitors.watcher import Watcher


def monitor(
    agent: Any,
    on_exit: ExitCallback,
    *,
    watcher: Watcher | None = None,
    kinds: Mapping[type, MonitorFunction] | None = None,
) -> AgentMonitor:
    """Watch an agent: `on_exit` is called once, when it ends, with how it ended."""
    function = function_of(type(agent), kinds)
    if function is not None:
        return ForeignMonitor(agent, on_exit, function=function)
    if is_future(agent):
        return FutureMonitor(agent, on_exit)
    if callable(getattr(agent, "add_exit_callback", None)):
        return ForeignMonitor(agent, on_exit, function=monitor_by_callback)
    raise UnknownAgentKind(type(agent).__name__)


def is_future(agent: Any) -> bool:
    """Tell whether a `FutureMonitor` can watch this."""
    return asyncio.isfuture(agent) or isinstance(agent, concurrent.futures.Future)


def function_of(kind: type, kinds: Mapping[type, MonitorFunction] | None) -> MonitorFunction | None:
    """Return the user's monitor function for a type: that of the nearest class of its mro."""
    if not kinds:
        return None
    return next((kinds[base] for base in kind.__mro__ if base in kinds), None)
