"""A worker's side of the local engine: the verbs of `Engine`, asked of the supervisor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Self

from frontdesk.cluster.engine import LeaseConnection
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
    Selection,
    Taken,
)
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.records import Fence

__all__ = ["LocalEngine"]


class LocalEngine:
    """Ask the supervisor's index. An `Engine`; opened by `async with`; belongs to one event loop.

    Args:
        path: The supervisor's socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        raise NotImplementedError

    async def lost(self) -> None:
        """Return once the supervisor is gone, at once where it is already: a worker ends then."""
        raise NotImplementedError

    @property
    def known(self) -> int:
        """The highest revision that was ever heard from it here: it is told with every call.

        An engine that knows less has lost something, and begins a new era above it.
        """
        raise NotImplementedError

    # -- nodes -----------------------------------------------------------------------------------

    async def join(self, node: NodeRecord, *, terms: LeaseTerms, era: int | None = None) -> Joined:
        """Take in a node, with a fresh lease.

        `era` is the one that it was in when it joined before, None the first time. The same
        incarnation again is `LeaseLost`, unless a newer era began since. Raises `SchemaRefused`.
        """
        raise NotImplementedError

    async def leave(self, incarnation: str) -> None:
        """Let a node go, at once and without a hold. What is left of it ends with `shutdown`."""
        raise NotImplementedError

    def lease_connection(self) -> LeaseConnection:
        """Return a connection for renewals, for a thread of its own."""
        raise NotImplementedError

    async def nodes(self) -> Sequence[NodeStatus]:
        """Return all nodes that are not dead, by name."""
        raise NotImplementedError

    async def bury(self, incarnation: str, *, proven: bool) -> Buried:
        """End a hundred of a dead node's entries with `lost`; the node goes with the last.

        Without `proven` only once its lease ran out and the hold is over: before, nothing is done
        (`Buried(0, done=False)`). Once begun it is dead, whoever goes on. `Buried(0, done=True)`
        for a node that is not there.
        """
        raise NotImplementedError

    # -- sessions --------------------------------------------------------------------------------

    async def reserve(self, entry: NewEntry, *, limits: IndexLimits, ttl_s: float) -> None:
        """Hold an id, and a place under the limits, while an agent is started.

        It is in no list, and goes with its node, or after `ttl_s`. The same token again renews it.
        Raises `LeaseLost`, `SessionAlreadyExists` (with the holder's `Metadata`, None where it is
        reserved), `OwnerSuspect`, `SessionLimitExceeded`, and while the index is being rebuilt
        `Recovering`, unless the id is `minted`.
        """
        raise NotImplementedError

    async def release(self, incarnation: str, session_id: str, *, token: str) -> None:
        """Give a reservation back. What is not reserved under this token is left alone."""
        raise NotImplementedError

    async def create(self, entry: NewEntry, *, limits: IndexLimits) -> Fence:
        """Enter a session; return its fence.

        Its own reservation becomes the entry, and has been counted already. The same token again
        returns the same fence. An entry of a dead owner is ended first (`lost`), completely.
        Raises as `reserve` does.
        """
        raise NotImplementedError

    async def restore(
        self, incarnation: str, entries: Sequence[IndexEntry], *, complete: bool
    ) -> Sequence[Fence]:
        """Tell again of entries that the engine may have lost, fences as they were.

        At most 100. Of two owners of an id the higher fence stays, and the other ends with
        `superseded`; returned are the fences of those entries that are *not* in the index now.
        `complete` says that the node has told all: when every node has, and a lease has passed,
        unknown ids are held to be gone again. Raises `LeaseLost`.
        """
        raise NotImplementedError

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
        raise NotImplementedError

    async def end(self, incarnation: str, ends: Sequence[EntryEnd]) -> None:
        """End entries of this node; what is not there is left alone. At most 100 at a time."""
        raise NotImplementedError

    async def read(self, session_id: str) -> IndexEntry | None:
        """Return the entry of an id. `Recovering` for an unknown one while the index is rebuilt."""
        raise NotImplementedError

    async def list(self, selection: Selection, *, after: Fence = 0, limit: int = 1000) -> EntryPage:
        """Return up to `limit` entries with higher fences, oldest first. Costs what it returns.

        Entries of suspect nodes are among them: `nodes` says which.
        """
        raise NotImplementedError

    async def count(self, selection: Selection) -> int:
        """Return how many entries there are; constant time. Reservations do not count."""
        raise NotImplementedError

    async def follow(self, after: int, *, era: int, limit: int = 1000, wait_s: float) -> LogPage:
        """Return the changes after a revision of an era, waiting for one if there is none yet.

        On a connection of its own: nothing else waits on it. Returns an empty page after `wait_s`.
        """
        raise NotImplementedError

    # -- shared besides sessions -----------------------------------------------------------------

    async def take(self, counted: str, *, limit: int, window_s: float) -> Taken:
        """Count one for `counted` in a moving window, if it is within the limit."""
        raise NotImplementedError

    async def claim(self, incarnation: str, slot: str, *, digest: str, ttl_s: float) -> Claim:
        """Claim the answer to a request; return who has it, which may be this node.

        Of several nodes one has it, until `ttl_s` has passed or it is dead. Raises `LeaseLost`.
        """
        raise NotImplementedError

    async def publish(self, topic: str, name: str, totals: bytes) -> None:
        """Put a node's absolute totals of a topic in place of its last ones, under its name.

        None are kept where they are empty.
        """
        raise NotImplementedError

    async def totals(self, topic: str) -> dict[str, bytes]:
        """Return what each node published last of a topic, by name, dead ones included."""
        raise NotImplementedError
