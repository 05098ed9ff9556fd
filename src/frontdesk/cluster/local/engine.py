"""A worker's side of the local engine: the verbs of `Engine`, asked of the supervisor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Self, TypeVar

from frontdesk.cluster import arguments
from frontdesk.cluster.local import wire
from frontdesk.cluster.local.calls import CALL_DEADLINE_S, ReopenedConnection
from frontdesk.cluster.local.lease import LocalLease
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
from frontdesk.cluster.timed_calls import OnCall, timed
from frontdesk.records import Fence

__all__ = ["LocalEngine"]

T = TypeVar("T")


class LocalEngine:
    """Ask the supervisor's index. An `Engine`; opened by `async with`; belongs to one event loop.

    One connection carries the calls, one the log; `lease_connection` makes a third. One that ends
    is opened anew, and what was asked is asked once more. When the supervisor is gone, every call
    ends with `EngineUnavailable` at once, and `lost` returns.

    Args:
        path: The supervisor's socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = 0
        self.on_call: OnCall | None = None
        """Told of each call, where somebody counts them; not of those that wait for changes."""
        self._terms = LeaseTerms()
        self._calls, self._log = ReopenedConnection(path), ReopenedConnection(path)

    async def __aenter__(self) -> Self:
        try:
            await self._calls.open()
            await self._log.open()
        except BaseException:
            await self._calls.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._calls.close()
        await self._log.close()

    async def lost(self) -> None:
        """Return once the supervisor is gone, at once where it is already: a worker ends then.

        It returns too when this engine is closed.
        """
        await self._calls.lost()

    @property
    def known(self) -> int:
        """The highest revision that was ever heard from it here: it is told with every call.

        An engine that knows less has lost something, and begins a new era above it.
        """
        return self._known

    # -- nodes -----------------------------------------------------------------------------------

    async def join(self, node: NodeRecord, *, terms: LeaseTerms, era: int | None = None) -> Joined:
        """Take in a node, with a fresh lease.

        `era` is the one that it was in when it joined before, None the first time. The same
        incarnation again is `LeaseLost`, unless a newer era began since. Raises `SchemaRefused`.
        """
        self._terms = terms
        joined = await self._ask(wire.JOIN, node, terms, era)
        self._learn(joined.revision)
        return joined

    async def leave(self, incarnation: str) -> None:
        """Let a node go, at once and without a hold. What is left of it ends with `shutdown`."""
        while not (await self._ask(wire.LEAVE, incarnation)).done:
            pass

    def lease_connection(self) -> LocalLease:
        """Return a connection for renewals, for a thread of its own."""
        return LocalLease(self._path, patience_s=self._terms.renew_s)

    async def nodes(self) -> Sequence[NodeStatus]:
        """Return all nodes, by name; one that is dead as suspect, until nothing of it is left."""
        return await self._ask(wire.NODES)

    async def bury(self, incarnation: str, *, proven: bool) -> Buried:
        """End a hundred of a dead node's entries with `lost`; the node goes with the last.

        Without `proven` only once its lease ran out and the hold is over: before, nothing is done
        (`Buried(0, done=False)`). Once begun it is dead, whoever goes on. `Buried(0, done=True)`
        for a node that is not there.
        """
        return await self._ask(wire.BURY, incarnation, proven)

    # -- sessions --------------------------------------------------------------------------------

    async def reserve(self, entry: NewEntry, *, limits: IndexLimits, ttl_s: float) -> None:
        """Hold an id, and a place under the limits, while an agent is started.

        It is in no list, and goes with its node, or after `ttl_s`. The same token again renews it.
        Raises `LeaseLost`, `SessionAlreadyExists` (with the holder's `Metadata`, None where it is
        reserved), `OwnerSuspect`, `SessionLimitExceeded`, and while the index is being rebuilt
        `Recovering`, unless the id is `minted`.
        """
        arguments.check_entry(entry)
        arguments.check_duration("ttl_s", ttl_s)
        await self._ask(wire.RESERVE, entry, limits, ttl_s)

    async def release(self, incarnation: str, session_id: str, *, token: str) -> None:
        """Give a reservation back. What is not reserved under this token is left alone."""
        await self._ask(wire.RELEASE, incarnation, session_id, token)

    async def create(self, entry: NewEntry, *, limits: IndexLimits) -> Fence:
        """Enter a session; return its fence.

        Its own reservation becomes the entry, and has been counted already. The same token again
        returns the same fence. An entry of a dead owner is ended first (`lost`), completely.
        Raises as `reserve` does.
        """
        arguments.check_entry(entry)
        fence = await self._ask(wire.CREATE, entry, limits)
        self._learn(fence)
        return fence

    async def restore(
        self, incarnation: str, entries: Sequence[IndexEntry], *, complete: bool
    ) -> Sequence[Fence]:
        """Tell again of entries that the engine may have lost, fences as they were.

        At most 100. Of two owners of an id the higher fence stays, and the other ends with
        `superseded`; returned are the fences of those entries that are *not* in the index now.
        `complete` says that the node has told all: when every node has, and a lease has passed,
        unknown ids are held to be gone again. Raises `LeaseLost`.
        """
        arguments.check_restored(incarnation, entries)
        return await self._ask(wire.RESTORE, incarnation, entries, complete)

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
        changed = {"blueprint": blueprint, "model": model}
        changed = {name: value for name, value in changed.items() if value is not ...}
        revision = await self._ask(wire.UPDATE, incarnation, session_id, fence, changed)
        self._learn(revision or 0)
        return revision

    async def end(self, incarnation: str, ends: Sequence[EntryEnd]) -> None:
        """End entries of this node; what is not there is left alone. At most 100 at a time."""
        arguments.check_ends(ends)
        await self._ask(wire.END, incarnation, ends)

    async def read(self, session_id: str) -> IndexEntry | None:
        """Return the entry of an id. `Recovering` for an unknown one while the index is rebuilt."""
        return await self._ask(wire.READ, session_id)

    async def list(self, selection: Selection, *, after: Fence = 0, limit: int = 1000) -> EntryPage:
        """Return up to `limit` entries with higher fences, oldest first. Costs what it returns.

        Entries of suspect nodes are among them: `nodes` says which.
        """
        arguments.check_selection(selection)
        arguments.check_page(limit)
        page = await self._ask(wire.LIST, selection, after, limit)
        self._learn(page.revision)
        return page

    async def count(self, selection: Selection) -> int:
        """Return how many entries there are; constant time. Reservations do not count."""
        arguments.check_selection(selection)
        return await self._ask(wire.COUNT, selection)

    async def follow(self, after: int, *, era: int, limit: int = 1000, wait_s: float) -> LogPage:
        """Return the changes after a revision of an era, waiting for one if there is none yet.

        On a connection of its own: nothing else waits on it. Returns an empty page after `wait_s`.
        """
        arguments.check_page(limit)
        deadline_s = wait_s + CALL_DEADLINE_S
        row = await self._log.ask(wire.FOLLOW, after, era, limit, wait_s, deadline_s=deadline_s)
        self._learn(row.head)
        return row.page

    # -- shared besides sessions -----------------------------------------------------------------

    async def take(self, counted: str, *, limit: int, window_s: float) -> Taken:
        """Count one for `counted` in a moving window, if it is within the limit."""
        arguments.check_rate(limit, window_s)
        return await self._ask(wire.TAKE, counted, limit, window_s)

    async def claim(self, incarnation: str, slot: str, *, digest: str, ttl_s: float) -> Claim:
        """Claim the answer to a request; return who has it, which may be this node.

        Of several nodes one has it, until `ttl_s` has passed or it is dead. Raises `LeaseLost`.
        """
        arguments.check_duration("ttl_s", ttl_s)
        return await self._ask(wire.CLAIM, incarnation, slot, digest, ttl_s)

    async def publish(self, topic: str, name: str, totals: bytes) -> None:
        """Put a node's absolute totals of a topic in place of its last ones, under its name.

        None are kept where they are empty.
        """
        arguments.check_totals(totals)
        await self._ask(wire.PUBLISH, topic, name, totals)

    async def totals(self, topic: str) -> dict[str, bytes]:
        """Return what each node published last of a topic, by name, dead ones included."""
        return await self._ask(wire.TOTALS, topic)

    # -- what they have in common ----------------------------------------------------------------

    async def _ask(self, verb: wire.Verb[T], *arguments: object) -> T:
        # Who joins twice is told that it has joined; who takes twice has taken two.
        again = verb is not wire.JOIN and verb is not wire.TAKE
        call = self._calls.ask(verb, *arguments, again=again)
        if self.on_call is None:
            return await call
        return await timed(call, verb=verb.name, on_call=self.on_call)

    def _learn(self, revision: int) -> None:
        self._known = max(self._known, revision)
