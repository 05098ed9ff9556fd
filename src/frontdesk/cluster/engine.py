"""The engine: the seam behind which the index lies, as verbs over our records.

Two have it: the supervisor's own (`local/`), for the workers of one machine, and Valkey or Redis
(`valkey/`), for several machines. What the verbs mean is told once, by the local one's index, which
is also the model that the scripts of the other are held to.

Every call is one round trip and happens whole or not at all. Every verb raises
`EngineUnavailable` within two seconds where the engine cannot do it, or where it is not known
whether it did: a create whose answer was lost is asked again with its token.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Protocol

from frontdesk.cluster.records import (
    Buried,
    Claim,
    EntryEnd,
    EntryPage,
    IndexEntry,
    IndexLimits,
    Joined,
    LogPage,
    NewEntry,
    NodeRecord,
    NodeStatus,
    Renewal,
    Renewed,
    Selection,
    Taken,
)
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.records import Fence

__all__ = ["Engine", "LeaseConnection"]


class LeaseConnection(Protocol):
    """A connection of its own for the thread that renews a lease; nothing else waits on it."""

    def renew(self, renewal: Renewal) -> Renewed:
        """Renew a lease. Blocks for a quarter of a lease at most.

        A renewal undoes suspicion; one that tells of a loop or listener that has not moved for a
        lease makes the node `stalled`. `LeaseLost` where the engine has no such node: it was
        buried, or the engine has lost everything.
        """
        ...

    def close(self) -> None:
        """Close it; a call under way ends with `EngineUnavailable`. From any thread."""
        ...


class Engine(Protocol):
    """The index over all nodes. Opened by `async with`; belongs to one event loop."""

    @property
    def known(self) -> int:
        """The highest revision that was ever heard from it here: it is told with every call.

        An engine that knows less has lost something, and begins a new era above it.
        """
        ...

    # -- nodes -----------------------------------------------------------------------------------

    async def join(self, node: NodeRecord, *, terms: LeaseTerms, era: int | None = None) -> Joined:
        """Take in a node, with a fresh lease.

        `era` is the one that it was in when it joined before, None the first time. The same
        incarnation again is `LeaseLost`, unless a newer era began since. Raises `SchemaRefused`.
        """
        ...

    async def leave(self, incarnation: str) -> None:
        """Let a node go, at once and without a hold. What is left of it ends with `shutdown`."""
        ...

    def lease_connection(self) -> LeaseConnection:
        """Return a connection for renewals, for a thread of its own."""
        ...

    async def nodes(self) -> Sequence[NodeStatus]:
        """Return all nodes, by name; one that is dead as suspect, until nothing of it is left."""
        ...

    async def bury(self, incarnation: str, *, proven: bool) -> Buried:
        """End a hundred of a dead node's entries with `lost`; the node goes with the last.

        Without `proven` only once its lease ran out and the hold is over: before, nothing is done
        (`Buried(0, done=False)`). Once begun it is dead, whoever goes on. `Buried(0, done=True)`
        for a node that is not there.
        """
        ...

    # -- sessions --------------------------------------------------------------------------------

    async def reserve(self, entry: NewEntry, *, limits: IndexLimits, ttl_s: float) -> None:
        """Hold an id, and a place under the limits, while an agent is started.

        It is in no list, and goes with its node, or after `ttl_s`. The same token again renews it.
        Raises `LeaseLost`, `SessionAlreadyExists` (with the holder's `Metadata`, None where it is
        reserved), `OwnerSuspect`, `SessionLimitExceeded`, and while the index is being rebuilt
        `Recovering`, unless the id is `minted`.
        """
        ...

    async def release(self, incarnation: str, session_id: str, *, token: str) -> None:
        """Give a reservation back. What is not reserved under this token is left alone."""
        ...

    async def create(self, entry: NewEntry, *, limits: IndexLimits) -> Fence:
        """Enter a session; return its fence.

        Its own reservation becomes the entry, and has been counted already. The same token again
        returns the same fence. An entry of a dead owner is ended first (`lost`), completely.
        Raises as `reserve` does.
        """
        ...

    async def restore(
        self, incarnation: str, entries: Sequence[IndexEntry], *, complete: bool
    ) -> Sequence[Fence]:
        """Tell again of entries that the engine may have lost, fences as they were.

        At most 100. Of two owners of an id the higher fence stays, and the other ends with
        `superseded`; returned are the fences of those entries that are *not* in the index now.
        `complete` says that the node has told all: when every node has, and a lease has passed,
        unknown ids are held to be gone again. Raises `LeaseLost`.
        """
        ...

    async def update(
        self,
        incarnation: str,
        session_id: str,
        *,
        fence: Fence,
        blueprint: str | EllipsisType | None = ...,
        model: str | EllipsisType | None = ...,
    ) -> int | None:
        """Change an entry; return the revision, None where that entry is not there."""
        ...

    async def end(self, incarnation: str, ends: Sequence[EntryEnd]) -> None:
        """End entries of this node; what is not there is left alone. At most 100 at a time."""
        ...

    async def read(self, session_id: str) -> IndexEntry | None:
        """Return the entry of an id. `Recovering` for an unknown one while the index is rebuilt."""
        ...

    async def list(self, selection: Selection, *, after: Fence = 0, limit: int = 1000) -> EntryPage:
        """Return up to `limit` entries with higher fences, oldest first. Costs what it returns.

        Entries of suspect nodes are among them: `nodes` says which.
        """
        ...

    async def count(self, selection: Selection) -> int:
        """Return how many entries there are; constant time. Reservations do not count."""
        ...

    async def follow(self, after: int, *, era: int, limit: int = 1000, wait_s: float) -> LogPage:
        """Return the changes after a revision of an era, waiting for one if there is none yet.

        On a connection of its own: nothing else waits on it. Returns an empty page after `wait_s`.
        """
        ...

    # -- shared besides sessions -----------------------------------------------------------------

    async def take(self, counted: str, *, limit: int, window_s: float) -> Taken:
        """Count one for `counted` in a moving window, if it is within the limit."""
        ...

    async def claim(self, incarnation: str, slot: str, *, digest: str, ttl_s: float) -> Claim:
        """Claim the answer to a request; return who has it, which may be this node.

        Of several nodes one has it, until `ttl_s` has passed or it is dead. Raises `LeaseLost`.
        """
        ...

    async def publish(self, topic: str, name: str, totals: bytes) -> None:
        """Put a node's absolute totals of a topic in place of its last ones, under its name.

        None are kept where they are empty.
        """
        ...

    async def totals(self, topic: str) -> dict[str, bytes]:
        """Return what each node published last of a topic, by name, dead ones included."""
        ...
