"""`ValkeyEngine`: the verbs of an engine, asked of a Valkey or Redis server."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType, TracebackType
from typing import Self, TypeVar

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
from frontdesk.cluster.valkey import verbs
from frontdesk.cluster.valkey.calls import ScriptCall
from frontdesk.cluster.valkey.driver import CallConnection
from frontdesk.cluster.valkey.engine_address import EngineAddress
from frontdesk.cluster.valkey.log_reader import LogReader
from frontdesk.cluster.valkey.renewals import RenewalConnection
from frontdesk.records import Fence

__all__ = ["ValkeyEngine"]

T = TypeVar("T")


class ValkeyEngine:
    """Ask the index on a server. An `Engine`; opened by `async with`; belongs to one event loop.

    Opening it raises `EngineUnavailable`, and `EngineRefused` where the server or the account
    cannot be used, and says what to do.

    Args:
        address: Where it is; `EngineAddress.parse` reads a URL.
    """

    def __init__(self, address: EngineAddress) -> None:
        self.address: EngineAddress = address
        self.on_call: OnCall | None = None
        """Told of each call, where somebody counts them; not of those that wait for changes."""
        self._calls = CallConnection(address)
        self._log = LogReader(address)
        self._renewals: list[RenewalConnection] = []
        self._renew_s = LeaseTerms().renew_s

    async def __aenter__(self) -> Self:
        await self._calls.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for renewals in self._renewals:
            renewals.close()
        await self._log.close()
        await self._calls.close()

    @property
    def known(self) -> int:
        """The highest revision that was ever heard from it here: it is told with every call."""
        heard = (self._log.known, *(one.known for one in self._renewals))
        return max(self._calls.known, *heard)

    # -- nodes -----------------------------------------------------------------------------------

    async def join(self, node: NodeRecord, *, terms: LeaseTerms, era: int | None = None) -> Joined:
        """Take in a node, with a fresh lease."""
        self._renew_s = terms.renew_s
        return await self._ask(verbs.join(node, terms=terms, era=era))

    async def leave(self, incarnation: str) -> None:
        """Let a node go, at once and without a hold. A hundred of its entries in each call."""
        while not (await self._ask(verbs.leave(incarnation))).done:
            pass

    def lease_connection(self) -> RenewalConnection:
        """Return a connection for renewals, for a thread of its own."""
        self._renewals = [one for one in self._renewals if not one.is_closed]
        heard = max((one.known for one in self._renewals), default=0)
        self._calls.known = max(self._calls.known, heard)
        made = RenewalConnection(self.address, timeout_s=self._renew_s, known=lambda: self.known)
        self._renewals.append(made)
        return made

    async def nodes(self) -> Sequence[NodeStatus]:
        """Return all nodes, by name; one that is dead as suspect, until nothing of it is left."""
        return await self._ask(verbs.nodes())

    async def bury(self, incarnation: str, *, proven: bool) -> Buried:
        """End a hundred of a dead node's entries with `lost`; the node goes with the last."""
        return await self._ask(verbs.bury(incarnation, proven=proven))

    # -- sessions --------------------------------------------------------------------------------

    async def reserve(self, entry: NewEntry, *, limits: IndexLimits, ttl_s: float) -> None:
        """Hold an id, and a place under the limits, while an agent is started."""
        await self._ask(verbs.reserve(entry, limits=limits, ttl_s=ttl_s))

    async def release(self, incarnation: str, session_id: str, *, token: str) -> None:
        """Give a reservation back."""
        await self._ask(verbs.release(incarnation, session_id, token=token))

    async def create(self, entry: NewEntry, *, limits: IndexLimits) -> Fence:
        """Enter a session; return its fence."""
        return await self._ask(verbs.create(entry, limits=limits))

    async def restore(
        self, incarnation: str, entries: Sequence[IndexEntry], *, complete: bool
    ) -> Sequence[Fence]:
        """Tell again of entries that the engine may have lost, fences as they were."""
        return await self._ask(verbs.restore(incarnation, entries, complete=complete))

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
        call = verbs.update(incarnation, session_id, fence=fence, blueprint=blueprint, model=model)
        return await self._ask(call)

    async def end(self, incarnation: str, ends: Sequence[EntryEnd]) -> None:
        """End entries of this node; what is not there is left alone."""
        await self._ask(verbs.end(incarnation, ends))

    async def read(self, session_id: str) -> IndexEntry | None:
        """Return the entry of an id."""
        return await self._ask(verbs.read(session_id))

    async def list(self, selection: Selection, *, after: Fence = 0, limit: int = 1000) -> EntryPage:
        """Return up to `limit` entries with higher fences, oldest first."""
        return await self._ask(verbs.list_entries(selection, after=after, limit=limit))

    async def count(self, selection: Selection) -> int:
        """Return how many entries there are."""
        return await self._ask(verbs.count(selection))

    async def follow(self, after: int, *, era: int, limit: int = 1000, wait_s: float) -> LogPage:
        """Return the changes after a revision of an era, waiting for one if there is none yet."""
        self._log.known = self.known
        return await self._log.follow(after, era=era, limit=limit, wait_s=wait_s)

    # -- shared besides sessions -----------------------------------------------------------------

    async def take(self, counted: str, *, limit: int, window_s: float) -> Taken:
        """Count one for `counted` in a moving window, if it is within the limit."""
        return await self._ask(verbs.take(counted, limit=limit, window_s=window_s))

    async def claim(self, incarnation: str, slot: str, *, digest: str, ttl_s: float) -> Claim:
        """Claim the answer to a request; return who has it, which may be this node."""
        return await self._ask(verbs.claim(incarnation, slot, digest=digest, ttl_s=ttl_s))

    async def publish(self, topic: str, name: str, totals: bytes) -> None:
        """Put a node's absolute totals of a topic in place of its last ones, under its name."""
        await self._ask(verbs.publish(topic, name, totals))

    async def totals(self, topic: str) -> dict[str, bytes]:
        """Return what each node published last of a topic, by name, dead ones included."""
        return await self._ask(verbs.totals(topic))

    # -- what they have in common ----------------------------------------------------------------

    async def _ask(self, call: ScriptCall[T]) -> T:
        asked = self._calls.ask(call)
        if self.on_call is None:
            return await asked
        return await timed(asked, verb=call.script.name, on_call=self.on_call)
