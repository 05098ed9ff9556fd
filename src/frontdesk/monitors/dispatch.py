"""`monitor()`: which kind of agent is it, and who watches that kind.

The top of the package, below the store: it knows every kind and dispatches on the agent's type.
"""

from __future__ import annotations

import asyncio.subprocess
import concurrent.futures
import subprocess
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Union, overload

from frontdesk.errors import UnknownAgentKind
from frontdesk.monitors.custom import CustomMonitor, ExitCallbackAgent, monitor_by_callback
from frontdesk.monitors.futures import FutureMonitor
from frontdesk.monitors.processes import ProcessMonitor, ProcessRef, kind_of
from frontdesk.monitors.protocol import AgentMonitor, ExitCallback, MonitorFunction
from frontdesk.monitors.threads import ThreadMonitor
from frontdesk.monitors.watcher import Watcher

if TYPE_CHECKING:
    # At run time whoever has such a process has imported it.
    import multiprocessing.process

KnownAgent = Union[
    asyncio.Future[Any],
    concurrent.futures.Future[Any],
    threading.Thread,
    asyncio.subprocess.Process,
    subprocess.Popen[Any],
    "multiprocessing.process.BaseProcess",
    ProcessRef,
    ExitCallbackAgent,
]
"""To type checkers: what has a built-in monitor."""


@overload
def monitor(
    agent: KnownAgent,
    on_exit: ExitCallback,
    *,
    watcher: Watcher | None = None,
    kinds: None = None,
) -> AgentMonitor: ...


@overload
def monitor(
    agent: Any,
    on_exit: ExitCallback,
    *,
    watcher: Watcher | None = None,
    kinds: Mapping[Any, MonitorFunction],
) -> AgentMonitor: ...


def monitor(
    agent: Any,
    on_exit: ExitCallback,
    *,
    watcher: Watcher | None = None,
    kinds: Mapping[Any, MonitorFunction] | None = None,
) -> AgentMonitor:
    """Watch an agent: call `on_exit` once, when it ends, with how it ended.

    Agents are asyncio tasks and futures of any loop, concurrent futures, started threads, started
    processes (`asyncio.subprocess.Process`, `subprocess.Popen`, `multiprocessing.Process`), a
    `ProcessRef`, and objects with an `add_exit_callback()`. `kinds` maps further types, subclasses
    included, to monitor functions of yours; it comes before all others.

    `on_exit` is called at most once, from any thread: the future's loop, the thread that finishes a
    concurrent future, the watcher's; never inside `monitor()`, and never after `cancel()`. An agent
    that is dead already is not called back about: the monitor is not `alive`, and `exit_reason()`
    says how it ended. A monitor that nobody keeps goes on watching. Callbacks should not block: see
    `Watcher`, and one in an event loop stops that loop. One that raises is logged and harms nobody.

    Threads and processes need a watcher. Without one the monitor has its own: a thread and three
    descriptors, from here to the agent's end or `cancel()`. Give many of them one `Watcher`.

    Reading how a task crashed silences asyncio's own report of an exception never retrieved: log
    it where that matters.

    Raises `UnknownAgentKind`, `AgentNotStarted` for a thread or process without a life yet,
    `InvalidArgument` for one that cannot be told from others, and `MonitorFailed` where the
    operating system refuses (no free descriptor, say); nothing is left behind then.

    Examples:
        >>> import concurrent.futures
        >>> future = concurrent.futures.Future()
        >>> watched = monitor(future, lambda reason: print("ended:", reason))
        >>> watched.alive
        True
        >>> future.set_exception(ValueError("no such model"))
        ended: crashed: ValueError: no such model
    """
    function = function_for(type(agent), kinds)
    if function is not None:
        return CustomMonitor(agent, on_exit, function=function)
    if is_future(agent):
        return FutureMonitor(agent, on_exit)
    if isinstance(agent, threading.Thread):
        return ThreadMonitor(agent, on_exit, watcher=watcher)
    process = kind_of(agent)
    if process is not None:
        return ProcessMonitor(agent, on_exit, watcher=watcher, kind=process)
    if not isinstance(agent, type) and callable(getattr(agent, "add_exit_callback", None)):
        return CustomMonitor(agent, on_exit, function=monitor_by_callback)
    raise UnknownAgentKind(type(agent).__name__)


def is_future(agent: Any) -> bool:
    """Tell whether a `FutureMonitor` can watch this."""
    return asyncio.isfuture(agent) or isinstance(agent, concurrent.futures.Future)


def function_for(
    kind: type, kinds: Mapping[type, MonitorFunction] | None
) -> MonitorFunction | None:
    """Return the user's monitor function for a type: that of the nearest class of its mro."""
    if not kinds:
        return None
    return next((kinds[base] for base in kind.__mro__ if base in kinds), None)
