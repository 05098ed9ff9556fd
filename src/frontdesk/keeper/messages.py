"""What the gateway and its keeper say to each other: requests down, events up.

A child is one agent process with all that descends from it. The gateway numbers children and
requests, and never uses a number twice, so that an answer that comes late is nobody else's.
"""

from __future__ import annotations

import msgspec

from frontdesk.keeper.hidden_directory import HiddenDirectory

MAX_PACKET_BYTES = 96 * 1024
"""Bytes of one request or event. A packet has to fit into a socket buffer of the default size."""


class ProcessLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limit what one agent process may use; `None` leaves the system's limit as it is.

    `memory_mb` bounds the memory that it can write to (`RLIMIT_DATA`: heap, private mappings), so
    that runtimes which merely reserve address space work; `cpu_s` the processor seconds
    (`RLIMIT_CPU`, ended by SIGXCPU); `open_files` the descriptors. These hold for each process of
    an agent by itself, not for their sum. `processes` bounds the number of processes of the
    account (`RLIMIT_NPROC`), and can be enforced only for an account of the agent's own.
    """

    memory_mb: int | None = None
    cpu_s: int | None = None
    open_files: int | None = None
    processes: int | None = None


class ForkServerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A warm interpreter that agents are forked from: started once, its imports done once.

    `preload` names modules to import; then `entry` (`module:function`) is called, once, with
    `argument`, and what it returns is called in each fork with the socket of its channel; where
    that has a text `description`, whoever warms the fork server gets it. `path` is
    the module search path, the keeper's own where it is empty; modules of the directories in
    `behind` are found when nobody else has the name. The environment is exactly `env`; `account` is
    the system account that imports and runs, `None` for the keeper's own. `python` is the path of
    an interpreter that is not the keeper's: it has to have msgspec, and finds this package, no
    other of ours, whatever its search path is.
    """

    entry: str
    argument: str = ""
    preload: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    env: dict[str, str] = {}
    account: str | None = None
    python: str | None = None

    @property
    def key(self) -> bytes:
        """Return what differs between two fork servers."""
        return msgspec.json.encode(self, order="deterministic")


class Command(msgspec.Struct, frozen=True, kw_only=True, tag="command"):
    """Execute a program: `argv[0]` is looked up in the `PATH` of `env`, which is all it gets.

    Its standard input and output are a pipe each.
    """

    argv: tuple[str, ...]
    env: dict[str, str] = {}
    account: str | None = None


class Fork(msgspec.Struct, frozen=True, kw_only=True, tag="fork"):
    """Fork an agent from a fork server, which is started first where it does not run yet."""

    server: ForkServerSpec


class SpawnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Say what to run and within which bounds. `label` names it in logs and errors."""

    run: Command | Fork
    label: str = ""
    cwd: str | None = None
    limits: ProcessLimits = ProcessLimits()

    @property
    def account(self) -> str | None:
        """Return the system account that it runs under, `None` for the keeper's own."""
        return self.run.account if isinstance(self.run, Command) else self.run.server.account


class KeeperOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a keeper is started with: its connection's descriptor, its run, where journals are.

    `hidden` is what its agents are not to reach; what they need is what the gateway does.
    """

    channel: int
    run: int
    journals: str | None = None
    hidden: HiddenDirectory | None = None


# -- requests: from the gateway to the keeper --------------------------------------------------


class Spawn(msgspec.Struct, frozen=True, tag="spawn"):
    """Spawn a child. With it travel its descriptors.

    A fork's are a stream socket, which its entry is called with, and its standard error; a
    command's are its standard input, output and error.
    """

    child_id: int
    request: SpawnRequest


class Warm(msgspec.Struct, frozen=True, tag="warm"):
    """Start a fork server ahead of its first use; answered by `Warmed`."""

    request_id: int
    server: ForkServerSpec


class End(msgspec.Struct, frozen=True, tag="end"):
    """End a child: SIGTERM to its group, `grace_s` later SIGKILL to whatever is left of it."""

    child_id: int
    grace_s: float


KeeperRequest = Spawn | Warm | End

# -- events: from the keeper to the gateway ----------------------------------------------------


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The keeper takes requests, and has ended this many leftovers of others before it.

    `not_enforced` says, in sentences, what this system cannot keep agents from.
    """

    ended: int
    not_enforced: tuple[str, ...] = ()


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The child runs. `start_time` is field 22 of `/proc/<pid>/stat`."""

    child_id: int
    pid: int
    start_time: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The child never ran: `stage` names the step that failed, `text` says how."""

    child_id: int
    stage: str
    text: str


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    """The child's own process ended; `returncode` as in `Popen`: negative is a signal."""

    child_id: int
    returncode: int


class Gone(msgspec.Struct, frozen=True, tag="gone"):
    """Nothing of the child is alive any more, neither its process nor a descendant."""

    child_id: int


class Warmed(msgspec.Struct, frozen=True, tag="warmed"):
    """The fork server is ready, or failed to start with `error`; `description` is its entry's."""

    request_id: int
    error: str | None
    description: str = ""


KeeperEvent = Ready | Started | Refused | Exited | Gone | Warmed
