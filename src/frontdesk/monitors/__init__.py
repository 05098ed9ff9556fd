"""Monitors: each watches one agent and tells once that it ended, and how.

`protocol.py` holds the protocol; `futures.py`, `threads.py`, `processes.py` and `custom.py` the
kinds; `dispatch.py` the dispatch on the agent's type. `watcher.py` has the one thread that waits on
the kernel for all threads and processes of a store; `pollable.py` is what its monitors have in
common, `poller.py` how it sleeps, `linux.py` what it asks. Nothing here knows of sessions.
"""

from frontdesk.monitors.custom import ExitCallbackAgent
from frontdesk.monitors.dispatch import KnownAgent, monitor
from frontdesk.monitors.futures import FutureMonitor, exit_reason_of
from frontdesk.monitors.processes import ProcessRef
from frontdesk.monitors.protocol import AgentMonitor, ExitCallback, Monitor, MonitorFunction
from frontdesk.monitors.watcher import Watcher

__all__ = [
    "AgentMonitor",
    "ExitCallback",
    "ExitCallbackAgent",
    "FutureMonitor",
    "KnownAgent",
    "Monitor",
    "MonitorFunction",
    "ProcessRef",
    "Watcher",
    "exit_reason_of",
    "monitor",
]
