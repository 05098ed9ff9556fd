"""What nodes and engines say to each other. Frozen; none holds an agent, a secret or a connection.

Three numbers stand in them. A **revision** counts the changes of the index, contiguous within an
era, under 2^53. A **fence** is the revision at which a session was created. An **era** is the
revision at which the engine last began anew, having lost something: no fence of an older era is
ever given again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from frontdesk.records import Change, ExitReason, Fence, Metadata

__all__ = [
    "Buried",
    "Claim",
    "EntryEnd",
    "EntryPage",
    "IndexEntry",
    "IndexLimits",
    "Joined",
    "LogPage",
    "LoggedChange",
    "NewEntry",
    "NodeRecord",
    "NodeState",
    "NodeStatus",
    "Renewal",
    "Renewed",
    "Selection",
    "Taken",
]

SCHEMA = 1
"""The form of the records in an engine. A node joins a cluster of its own or the one before."""

LOG_ENTRIES = 65_536
"""So many changes an engine's log holds; who fell further behind begins with the entries."""

BURY_BATCH = 100
"""So many entries end in one call, so that the engine answers others in between."""


class NodeState(StrEnum):
    """What the cluster holds of a node. A dead one is final: listed until nothing of it is left."""

    ALIVE = "alive"
    STALLED = "stalled"
    SUSPECT = "suspect"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What a node says of itself when it joins.

    Attributes:
        incarnation (str): This run of it: 32 hex digits from a secure source, never reused.
        name (str): What it is called over its restarts: `host/1`.
        address (str): Where other nodes reach it: `unix:/path` or `https://host:port`.
        schema (int): The form of its records.
        version (str): Of Frontdesk.
        config_digest (str): Of keys, blueprints and limits, to show where they differ.
    """

    incarnation: str
    name: str
    address: str
    schema: int
    version: str
    config_digest: str


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node as the engine sees it.

    Attributes:
        node (NodeRecord): What it said when it joined.
        state (NodeState): Whether its lease holds, and its loop moves.
        lease_left_s (float): Until its lease runs out, by the engine's time; below 0 since then.
        sessions (int): How many entries are its own.
        draining (bool): Whether it takes no new sessions.
    """

    node: NodeRecord
    state: NodeState
    lease_left_s: float
    sessions: int
    draining: bool


@dataclass(frozen=True, slots=True)
class IndexLimits:
    """How many sessions there may be over all nodes, reservations included. None is no limit.

    Attributes:
        per_tenant (int | None): Of the entry's tenant.
        per_api_key (int | None): Of the entry's key.
        per_blueprint (int | None): Of the entry's tenant and blueprint together.
    """

    per_tenant: int | None = None
    per_api_key: int | None = None
    per_blueprint: int | None = None


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A session that a node reserves a place for, and then creates.

    Attributes:
        session_id (str): As the node's store has it.
        incarnation (str): The node's.
        token (str): 16 hex digits, of this session's reservation and create: asked again with the
            same token, the same answer.
        tenant_id, api_key, created_at, blueprint, model, pid: As in `Metadata`.
        minted (bool): The id was drawn here from a secure source, so nobody else can get it.
    """

    session_id: str
    incarnation: str
    token: str
    tenant_id: str
    api_key: str | None
    created_at: int
    blueprint: str | None
    model: str | None
    pid: int
    minted: bool


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A session as the index has it.

    Attributes:
        entry (NewEntry): What its node created it with; `model` and `blueprint` as of `version`.
        fence (Fence): The revision at which it was created.
        version (int): The revision of its last change.
    """

    entry: NewEntry
    fence: Fence
    version: int

    @property
    def metadata(self) -> Metadata:
        """Return what everybody may know of it."""
        entry = self.entry
        return Metadata(
            entry.session_id,
            entry.pid,
            entry.api_key,
            entry.tenant_id,
            entry.created_at,
            entry.blueprint,
            entry.model,
            self.fence,
        )


@dataclass(frozen=True, slots=True)
class EntryEnd:
    """The end of an entry, told by its node.

    Attributes:
        session_id (str): Whose.
        fence (Fence): Of the entry; another one of that id is left alone.
        reason (ExitReason): How it ended.
        ended_at (int): The node's wall clock, in whole milliseconds.
        next_token (str | None): The token under which the id stays reserved for the next agent of
            this session, for as long as the node lives; None gives the id free.
    """

    session_id: str
    fence: Fence
    reason: ExitReason
    ended_at: int
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """A change of the index, and whose session it was about.

    Attributes:
        change (Change): What happened, as a watch tells it.
        incarnation (str): The node that owns the session, or owned it.
        token (str): Of the entry.
        node_gone (bool): It ended because its node is gone for good: all else that the node had
            ends too, and whoever hears of one knows it of all.
    """

    change: Change
    incarnation: str
    token: str
    node_gone: bool = False


@dataclass(frozen=True, slots=True)
class LogPage:
    """What happened after a revision.

    Attributes:
        era (int): The era that the engine is in.
        head (int): The revision of the last change of all.
        changes (Sequence[LoggedChange]): The next ones, without a gap.
        gap (bool): The log does not reach back so far, or the era is another one: there are no
            changes here, and the reader begins anew with the entries.
    """

    era: int
    head: int
    changes: Sequence[LoggedChange] = ()
    gap: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries are meant: of a tenant, of a key, of a node, or, without any, all."""

    tenant_id: str | None = None
    api_key: str | None = None
    incarnation: str | None = None


@dataclass(frozen=True, slots=True)
class EntryPage:
    """A page of entries, oldest first.

    Attributes:
        revision (int): The last change that it includes.
        era (int): The era that the engine is in.
        entries (tuple[IndexEntry, ...]): By fence, ascending.
        more (bool): Whether there are further ones after the last fence.
        partial (bool): The index is being rebuilt: some may be missing.
    """

    revision: int
    era: int
    entries: tuple[IndexEntry, ...]
    more: bool
    partial: bool


@dataclass(frozen=True, slots=True)
class Joined:
    """The answer to a node that joins.

    Attributes:
        era (int): The era that the engine is in.
        revision (int): The last change.
        recovering_s (float): How long unknown ids are still held to be unknown; 0 as a rule.
    """

    era: int
    revision: int
    recovering_s: float


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a node says when it renews its lease.

    Attributes:
        incarnation (str): Which run of it.
        count (int): How many entries it has told the engine of and not taken back.
        tokens (int): All their tokens, exclusive-ored.
        loop_age_s (float): Since its event loop last moved.
        listener_age_s (float): Since its private listener last answered.
        draining (bool): Whether it takes no new sessions.
    """

    incarnation: str
    count: int
    tokens: int
    loop_age_s: float = 0.0
    listener_age_s: float = 0.0
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Renewed:
    """The answer to a renewal.

    Attributes:
        era (int): The era that the engine is in: another one than before asks the node to restore.
        revision (int): The last change, compared with what the node has read.
        matches (bool): Whether count and tokens are the engine's own.
    """

    era: int
    revision: int
    matches: bool


@dataclass(frozen=True, slots=True)
class Buried:
    """What became of a dead node.

    Attributes:
        ended (int): How many of its entries this call has ended with `lost`.
        done (bool): It is gone, with all that it had; else call again.
    """

    ended: int
    done: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """What is left of a rate over all nodes.

    Attributes:
        allowed (bool): Whether this one was within it; if not, nothing was counted.
        remaining (int): How many more are.
        reset_s (float): Until the oldest that counts, counts no more.
    """

    allowed: bool
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Claim:
    """Who answers a request that comes more than once.

    Attributes:
        incarnation (str): The node that came first, and lives.
        digest (str): Of the request's body there.
    """

    incarnation: str
    digest: str
