"""A history of a cluster: what was done and what was answered, as frozen events with times.

Real processes write one as JSON lines, a file each (`HistoryFile`); the simulation makes one in
memory. Times are seconds of one clock for all, `time.monotonic()` on one machine. What is asked has
`asked_at` and `at`: the engine did it at some moment in between. `checker.py` finds in a history
what a cluster may not do.
"""

import os
import time

import msgspec


class Held(msgspec.Struct, frozen=True):
    """An entry as somebody was told of it; `node` is the name, which is stable over restarts."""

    session_id: str
    fence: int
    node: str
    tenant_id: str = ""
    api_key: str | None = None
    token: str = ""
    model: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Something that happened; each kind is a class."""

    at: float


# -- agents ----------------------------------------------------------------------------------------


class AgentStarted(Event, frozen=True, kw_only=True):
    """An agent runs under an id from here on; `agent` is its own name, used once."""

    node: str
    session_id: str
    agent: str


class AgentStopping(Event, frozen=True, kw_only=True):
    """A node ends a session because it has been cut off for long; its agent may take a moment."""

    node: str
    agent: str


class AgentEnded(Event, frozen=True, kw_only=True):
    """An agent is over, however. `NodeGone` says it for all that the node had."""

    node: str
    agent: str


class AgentUpdated(Event, frozen=True, kw_only=True):
    """The session of an agent has another model from here on."""

    node: str
    agent: str
    model: str | None


# -- creates and ends ------------------------------------------------------------------------------


class Reserved(Event, frozen=True, kw_only=True):
    """A node asks for an id to be held for it: from here on others may be refused."""

    node: str
    session_id: str


class CreateAsked(Event, frozen=True, kw_only=True):
    """A node asks for an agent's entry. Asked again with the same token, it is asked once here."""

    node: str
    session_id: str
    agent: str
    token: str
    incarnation: str = ""
    tenant_id: str = ""
    limit: int | None = None
    """How many sessions its tenant may have at once, where that was asked for."""


class CreateAnswered(Event, frozen=True, kw_only=True):
    """What came of it: a fence, or a refusal by the name of its error; neither where unknown."""

    token: str
    fence: int | None = None
    refused: str | None = None


class EndTold(Event, frozen=True, kw_only=True):
    """The engine was asked to end an entry, and it is not known to have been refused."""

    node: str
    session_id: str
    fence: int


class Renewed(Event, frozen=True, kw_only=True):
    """A node's lease was renewed; written where it may matter who took over from whom.

    `matches` is whether count and tokens were those of the engine.
    """

    node: str
    asked_at: float
    incarnation: str = ""
    matches: bool = True


# -- shared besides sessions -----------------------------------------------------------------------


class RateTaken(Event, frozen=True, kw_only=True):
    """A node was let do one more of what is `counted`: so many may be in a moving window."""

    asked_at: float
    node: str
    counted: str
    limit: int
    window_s: float


class ClaimAsked(Event, frozen=True, kw_only=True):
    """A node asks for the claim on a slot, for so long."""

    node: str
    slot: str
    incarnation: str
    ttl_s: float


class ClaimAnswered(Event, frozen=True, kw_only=True):
    """Who has the claim on a slot, by the answer that a node got."""

    asked_at: float
    node: str
    slot: str
    owner: str


# -- reading ---------------------------------------------------------------------------------------


class LookedUp(Event, frozen=True, kw_only=True):
    """Somebody at `node` looked an id up: the fence and owner found, or the name of the error."""

    asked_at: float
    node: str
    session_id: str
    fence: int | None = None
    owner: str | None = None
    refused: str | None = None


class Listed(Event, frozen=True, kw_only=True):
    """A whole list, of a tenant or key or of all; `partial` where it says so of itself."""

    asked_at: float
    node: str
    entries: tuple[Held, ...]
    tenant_id: str | None = None
    api_key: str | None = None
    partial: bool = False


class Requested(Event, frozen=True, kw_only=True):
    """A request for a session: `answered`, `retry` (503 and when), `missing` (404), or `failed`."""

    asked_at: float
    node: str
    session_id: str
    outcome: str


class WatchBegan(Event, frozen=True, kw_only=True):
    """A watcher's snapshot: the first one, or a later one that says `resync`."""

    watcher: str
    node: str
    revision: int
    entries: tuple[Held, ...]
    resync: bool = False
    tenant_id: str | None = None
    """Of a watch for a tenant only: the numbers between its changes are those of others."""


class WatchTold(Event, frozen=True, kw_only=True):
    """A watcher's next change: `created`, `updated`, or `ended` for a reason of some kind."""

    watcher: str
    revision: int
    kind: str
    session_id: str
    fence: int
    reason: str | None = None


class WatchClosed(Event, frozen=True, kw_only=True):
    """A watcher reads no more."""

    watcher: str


class Dumped(Event, frozen=True, kw_only=True):
    """Everything that the engine holds, at one moment: entries, indexes, counts.

    `settled` where faults are over and every bound has passed: nothing may be amiss now.
    """

    asked_at: float
    entries: tuple[Held, ...]
    tenants: dict[str, tuple[str, ...]]
    keys: dict[str, tuple[str, ...]]
    nodes: dict[str, tuple[str, ...]]
    counts: dict[str, int]
    """By `tenant:…`, `key:…`, `node:…`, and `all`: what each says that it holds."""
    settled: bool = False


# -- nodes -----------------------------------------------------------------------------------------


class NodeJoined(Event, frozen=True, kw_only=True):
    """A node is in the cluster, for the first time or again."""

    node: str
    incarnation: str


class NodeGone(Event, frozen=True, kw_only=True):
    """A node's process is no more: killed, or it left. Its agents went with it."""

    node: str
    how: str = "killed"


class Paused(Event, frozen=True, kw_only=True):
    """A node stands still."""

    node: str


class Resumed(Event, frozen=True, kw_only=True):
    """It goes on."""

    node: str


class Cut(Event, frozen=True, kw_only=True):
    """What a node says to the `engine` or to other `nodes`, or what they answer, may be lost."""

    node: str
    whom: str


class Healed(Event, frozen=True, kw_only=True):
    """It is not lost any more."""

    node: str
    whom: str


# -- the engine ------------------------------------------------------------------------------------


class EngineDown(Event, frozen=True, kw_only=True):
    """The engine answers nobody: killed, loading, read-only, full, or cut off from all."""

    why: str = "killed"


class EngineUp(Event, frozen=True, kw_only=True):
    """It answers again; `lost` where it may know less than it did."""

    lost: bool = False


class EngineLost(Event, frozen=True, kw_only=True):
    """It knows less than it did, at once: wiped, or another one took over."""

    how: str = "wiped"


class ClockJumped(Event, frozen=True, kw_only=True):
    """The engine's server's clock was moved, forward or back."""

    by_s: float


AnyEvent = (
    AgentStarted
    | AgentEnded
    | AgentStopping
    | AgentUpdated
    | Reserved
    | CreateAsked
    | CreateAnswered
    | EndTold
    | Renewed
    | RateTaken
    | ClaimAsked
    | ClaimAnswered
    | LookedUp
    | Listed
    | Requested
    | WatchBegan
    | WatchTold
    | WatchClosed
    | Dumped
    | NodeJoined
    | NodeGone
    | Paused
    | Resumed
    | Cut
    | Healed
    | EngineDown
    | EngineUp
    | EngineLost
    | ClockJumped
)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AnyEvent).decode


class HistoryFile:
    """Write events into a file, a line each and at once, so that a kill loses none.

    Several processes may write into one file: a line is one write.
    """

    def __init__(self, path):
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, event):
        """Append an event."""
        os.write(self._descriptor, _encode(event) + b"\n")

    def close(self):
        """Close the file."""
        os.close(self._descriptor)

    @staticmethod
    def now():
        """Return the time, the same in all processes of this machine."""
        return time.monotonic()


def read_history(*paths):
    """Return the events of all files in the order of their times."""
    events = []
    for path in paths:
        with open(path, "rb") as lines:
            # The last line of a process that was killed while it wrote has no end.
            events += [_decode(line) for line in lines if line.endswith(b"\n")]
    return sorted(events, key=lambda event: event.at)


def in_words(event):
    """Return an event as a line for people."""
    told = [
        f"{name}={value!r}"
        for name in event.__struct_fields__
        if name != "at" and (value := getattr(event, name)) not in (None, (), {}, False)
    ]
    return f"{event.at:10.3f}  {type(event).__name__:<15} {' '.join(told)}"
