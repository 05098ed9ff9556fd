"""Frontdesk: the session registry and gateway for AI agents.

The public names of the library. `SessionStore` is the place to start; the agents, the gateway and
the command line are optional parts (`frontdesk.agents`, `frontdesk.gateway`, `frontdesk.cli`) and
are not imported from here.
"""

from frontdesk._version import __version__
from frontdesk.clock import Clock, SystemClock
from frontdesk.errors import (
    AgentFactoryFailed,
    AgentNotStarted,
    FrontdeskError,
    InvalidArgument,
    InvalidType,
    MissingExtra,
    MonitorFailed,
    ProcessNotFound,
    RecursiveCreate,
    ReentrantWrite,
    SessionAlreadyExists,
    SessionBusy,
    SessionLimitExceeded,
    SessionNotFound,
    StoreClosed,
    UnknownAgentKind,
)
from frontdesk.monitors import (
    ExitCallback,
    KnownAgent,
    Monitor,
    MonitorFunction,
    ProcessRef,
    Watcher,
    monitor,
)
from frontdesk.records import (
    Change,
    Created,
    Ended,
    ExitKind,
    ExitReason,
    Fence,
    Metadata,
    Session,
    Snapshot,
    Updated,
)
from frontdesk.store import Limits, SessionStore, Watch

__all__ = [
    # the store
    "SessionStore",
    "Limits",
    "Watch",
    # its records
    "Session",
    "Metadata",
    "ExitReason",
    "ExitKind",
    "Change",
    "Created",
    "Updated",
    "Ended",
    "Snapshot",
    "Fence",
    # monitors
    "monitor",
    "KnownAgent",
    "Monitor",
    "MonitorFunction",
    "ExitCallback",
    "ProcessRef",
    "Watcher",
    # time
    "Clock",
    "SystemClock",
    # errors
    "FrontdeskError",
    "SessionNotFound",
    "SessionAlreadyExists",
    "SessionLimitExceeded",
    "SessionBusy",
    "StoreClosed",
    "AgentFactoryFailed",
    "AgentNotStarted",
    "InvalidArgument",
    "InvalidType",
    "MissingExtra",
    "MonitorFailed",
    "ProcessNotFound",
    "RecursiveCreate",
    "ReentrantWrite",
    "UnknownAgentKind",
    "__version__",
]
