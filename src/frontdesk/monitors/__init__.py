"""Monitors: each watches one agent and tells once that it ended, and how.

Above the records, below the store. `base.py` holds the protocol and the dispatch on the agent's
type, `futures.py`, `threads.py` and `processes.py` the built-in kinds, `watcher.py` the one thread
that waits on the kernel for all threads and processes of a store. Nothing here knows of sessions.
"""

from frontdesk.monitors.base import ExitCallback, Monitor, MonitorFunction, monitor
from frontdesk.monitors.processes import ProcessRef
from frontdesk.monitors.watcher import Watcher

__all__ = ["ExitCallback", "Monitor", "MonitorFunction", "ProcessRef", "Watcher", "monitor"]
