"""A node: one running process's part in the cluster.

It joins, renews its lease, tells the index what becomes of the sessions in its own store, and finds
everybody else's. Its store stays the authority on its own sessions: what the index lost, it is told
again. What it decides is in `decisions`; the rest is made of parts, each with a task or a thread:

    node_lease         renews the lease, from a thread
    outbox             tells the index of ends and updates, by the store's watch
    cluster_log        follows the log: near cache, watches, memory of ends
    reconciliation     joins again, restores, reconciles
    neighbours         knows the other nodes, and buries the dead
    locating           finds sessions that the near cache does not have
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from frontdesk.clock import Clock, SystemClock
from frontdesk.cluster.cluster_log import ClusterLog
from frontdesk.cluster.cluster_watch import ClusterWatch
from frontdesk.cluster.decisions import NodeAction, NodeCondition, Standing
from frontdesk.cluster.engine import Engine
from frontdesk.cluster.errors import EngineUnavailable, LeaseLost
from frontdesk.cluster.locating import Locating
from frontdesk.cluster.membership import Membership, new_token
from frontdesk.cluster.near_cache import NearCache
from frontdesk.cluster.neighbours import Neighbours
from frontdesk.cluster.node_lease import NodeLease
from frontdesk.cluster.node_records import NO_HOOKS, EndedElsewhere, Located, NodeHooks
from frontdesk.cluster.outbox import Outbox
from frontdesk.cluster.own_claims import OwnClaim, OwnClaims
from frontdesk.cluster.own_sessions import OwnEntry, OwnSessions
from frontdesk.cluster.reconciliation import Reconciliation, new_entry
from frontdesk.cluster.records import (
    Claim,
    EntryPage,
    IndexEntry,
    IndexLimits,
    NewEntry,
    NodeRecord,
    NodeStatus,
    Selection,
)
from frontdesk.cluster.terms import LEASE_TERMS, LeaseTerms
from frontdesk.errors import SessionLimitExceeded
from frontdesk.records import Fence, Session
from frontdesk.store import SessionStore

__all__ = ["Node"]

NEAR_ENTRIES = 32_768
"""So many entries of other nodes are remembered at least, and twice that at most."""

CREATE_S = 2.0
"""How long a create is asked again whose answer was lost; after that it is undone."""

ASK_AGAIN_S = 0.05
RESERVED_S = 600.0
"""How long an id is held for an agent that is being started, if this node lives so long."""

LEAVE_S = 2.0
CANCEL_AGAIN_S = 0.2

_log = logging.getLogger("frontdesk")

T = TypeVar("T")


class Node:
    """Take part in a cluster; one a process, on one event loop. Opened by `async with`.

    Entering joins: `EngineUnavailable`, `EngineRefused` or `SchemaRefused` where that is not
    possible. Leaving tells the ends that were not told yet, and lets the node go without a hold.
    The engine is opened and closed by whoever made it, around the node.

    Args:
        engine: Where the index is.
        store: This node's own sessions. It tells their ends to the index by itself.
        name: What it is called over its restarts: `host/1`.
        address: Where other nodes reach it: `unix:/path` or `https://host:port`.
        config_digest: Of keys, blueprints and limits, to show where nodes differ.
        terms: How long leases, graces and holds last.
        clock: For `ended_at` and the like; the machine's unless given.
        hooks: What it calls.
        feed_capacity: How many changes a slow watch may lag behind before it gets a fresh
            snapshot.
    """

    engine: Engine
    store: SessionStore[Any]

    def __init__(
        self,
        engine: Engine,
        store: SessionStore[Any],
        *,
        name: str,
        address: str,
        config_digest: str = "",
        terms: LeaseTerms = LEASE_TERMS,
        clock: Clock | None = None,
        hooks: NodeHooks = NO_HOOKS,
        feed_capacity: int = 4096,
    ) -> None:
        self.engine, self.store = engine, store
        self._membership = membership = Membership(
            name=name,
            address=address,
            config_digest=config_digest,
            terms=terms,
            clock=clock or SystemClock(),
            hooks=hooks,
        )
        self._own = own = OwnSessions()
        self._near = near = NearCache(capacity=NEAR_ENTRIES)
        self._log = ClusterLog(engine, membership, own, near, feed_capacity=feed_capacity)
        self._outbox = Outbox(engine, store, membership, own)
        self._claims = OwnClaims()
        self._repairs = Reconciliation(engine, store, membership, own, self._claims, self._log)
        self._neighbours = Neighbours(engine, membership)
        self._locating = Locating(engine, membership, own, near, self._log)
        self._lease = NodeLease(
            engine, membership, own, self._log, on_renewed=self._neighbours.refresh_soon
        )
        self._tasks: list[asyncio.Task[None]] = []

    # -- its life --------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._repairs.join()
        try:
            await self._neighbours.refresh()
            self._outbox.open()
            self._near.connected = True
            self._start()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with suppress(EngineUnavailable):
            await self._outbox.flush()
        await self._leave()

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        work = {
            "log": self._log.follow,
            "store": self._outbox.follow,
            "outbox": self._outbox.send,
            "repairs": self._repairs.repair,
            "neighbours": self._neighbours.follow,
        }
        self._tasks = [
            loop.create_task(_run_on(each), name=f"frontdesk cluster {name}")
            for name, each in work.items()
        ]
        self._lease.start()

    async def _leave(self) -> None:
        """End everything that it has; then it is let go, so that no renewal comes after that."""
        self._membership.standing = Standing()
        await self._lease.end()
        running = set(self._tasks)
        while running:
            # More than once: on CPython 3.11 `asyncio.wait_for`, which a client may use, loses a
            # cancellation that comes just as what it waits for is done.
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_S)
        self._outbox.close()
        self._log.finish()
        try:
            async with asyncio.timeout(LEAVE_S):
                await self.engine.leave(self._membership.incarnation)
        except (EngineUnavailable, TimeoutError) as error:
            _log.warning("the cluster was not told that this node leaves: %s", error)

    # -- how it stands ---------------------------------------------------------------------------

    @property
    def incarnation(self) -> str:
        """This run of it, since it last joined."""
        return self._membership.incarnation

    @property
    def terms(self) -> LeaseTerms:
        """How long leases, graces and holds last."""
        return self._membership.terms

    @property
    def owner(self) -> str:
        """As what it owns stored conversations: its name, and a process of that name.

        Another incarnation of the same process owns what that had, however it joined anew.
        """
        return self._membership.owner

    def named(self, owner: str) -> NodeStatus | None:
        """Return the living node whose name an owner's begins with, as it was heard of last."""
        name = owner.rpartition("/")[0]
        return next((each for each in self._membership.nodes if each.node.name == name), None)

    @property
    def record(self) -> NodeRecord:
        """What it says of itself to the others, since it last joined."""
        return self._membership.record

    @property
    def condition(self) -> NodeCondition:
        """How it stands to the cluster now, by its own clock."""
        return self._membership.condition

    @property
    def lease_age_s(self) -> float:
        """Return since when its lease was not renewed, by its own clock."""
        membership = self._membership
        renewed_s = membership.standing.lease_until_s - membership.terms.lease_s
        return max(0.0, membership.hooks.now_s() - renewed_s)

    @property
    def draining(self) -> bool:
        """Whether it takes no new sessions."""
        return self._membership.draining

    def begin_draining(self) -> None:
        """Take no new sessions: told with every renewal from now on. Those it has go on."""
        self._membership.draining = True
        self._lease.renew_soon()

    # -- its own sessions ------------------------------------------------------------------------

    async def reserve(
        self,
        session_id: str,
        *,
        tenant_id: str,
        api_key: str | None,
        blueprint: str | None,
        model: str | None,
        minted: bool,
        limits: IndexLimits,
    ) -> str:
        """Hold an id, and a place under the limits of all nodes; return the token.

        Before an agent is started. Raises `SessionAlreadyExists`, `SessionLimitExceeded`,
        `OwnerSuspect`, `Recovering`, and `EngineUnavailable` within two seconds, also while this
        node is cut off or joins anew: then nothing is reserved. What is neither created nor
        released goes after ten minutes, or with the node.
        """
        membership = self._membership
        entry = NewEntry(
            session_id=session_id,
            incarnation=membership.incarnation,
            token=new_token(),
            tenant_id=tenant_id,
            api_key=api_key,
            created_at=membership.clock.wall_ms(),
            blueprint=blueprint,
            model=model,
            pid=os.getpid(),
            minted=minted,
        )
        reserve = partial(self.engine.reserve, entry, limits=limits, ttl_s=RESERVED_S)
        membership.require_lease()
        try:
            await self._enter(entry, reserve)
        except (EngineUnavailable, asyncio.CancelledError):
            # It may be held all the same.
            self._own.unreleased[entry.token] = session_id
            membership.do_soon(NodeAction.RECONCILE)
            raise
        return entry.token

    async def release(self, session_id: str, *, token: str) -> None:
        """Give a reservation back; what cannot be told now is told later."""
        if self._own.next_tokens.get(session_id) == token:
            del self._own.next_tokens[session_id]
            self._outbox.give_free(token)
        try:
            await self.engine.release(self._membership.incarnation, session_id, token=token)
        except EngineUnavailable:
            self._own.unreleased[token] = session_id
            self._membership.do_soon(NodeAction.RECONCILE)

    async def create(
        self, session: Session[Any], *, token: str, minted: bool, limits: IndexLimits
    ) -> Fence:
        """Enter a session of the local store under the token of its reservation; return its fence.

        From here on its end is told by the node. Raises as `reserve` does; then it is not in the
        index, and the session is the caller's to end. An unknown outcome is asked again with the
        token for two seconds, and undone after. A limit that agents of this node fill which have
        finished is no limit.
        """
        session_id, incarnation = session.session_id, self._membership.incarnation
        entry = new_entry(session, incarnation=incarnation, token=token, minted=minted)
        self._membership.require_lease()
        fence = await self._enter(entry, partial(self.engine.create, entry, limits=limits))
        if incarnation != self._membership.incarnation:
            self._membership.refuse_lost(LeaseLost(incarnation))
        self._own.add(OwnEntry(IndexEntry(entry, fence, fence), session.fence))
        # It may have ended, or changed, while the index was being told of it.
        self._outbox.end_finished(session_id)
        return fence

    async def _enter(self, entry: NewEntry, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Ask for a place in the index, once what is over here is out of it; two seconds in all."""
        try:
            async with asyncio.timeout(CREATE_S):
                if entry.session_id in self._own.entries:
                    self._outbox.end_finished(entry.session_id)
                    await self._outbox.flush()
                try:
                    return await self._until_known(entry.session_id, ask)
                except SessionLimitExceeded:
                    if not self._outbox.end_finished(*self._own.of_tenant(entry.tenant_id)):
                        raise
                    await self._outbox.flush()
                    return await self._until_known(entry.session_id, ask)
        except TimeoutError:
            raise EngineUnavailable(f"it did not do it within {CREATE_S:g} s") from None

    async def _until_known(self, session_id: str, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Ask until it is known what came of it. If that stays unknown, it is undone later."""
        try:
            with self._own.asking(session_id):
                while True:
                    try:
                        return await ask()
                    except LeaseLost as error:
                        self._membership.refuse_lost(error)
                    except EngineUnavailable:
                        await asyncio.sleep(ASK_AGAIN_S)
        except asyncio.CancelledError:
            self._membership.do_soon(NodeAction.RECONCILE)
            raise

    async def flush(self) -> None:
        """Wait until the index knows what has ended and changed here until now.

        `EngineUnavailable` after two seconds.
        """
        await self._outbox.flush()

    def entry(self, session_id: str) -> IndexEntry | None:
        """Return the index's entry of a session that lives here: an owner's word."""
        own = self._own.living(session_id)
        return own.indexed if own is not None and session_id in self.store else None

    def fence(self, session_id: str) -> Fence | None:
        """Return the index's fence of a session that lives here; None where it has none."""
        own = self._own.living(session_id)
        return None if own is None else own.indexed.fence

    def fence_of(self, session: Session[Any]) -> Fence | None:
        """Return the index's fence of this very session of the store; None where it has none."""
        own = self._own.living(session.session_id)
        same = own is not None and own.local_fence == session.fence
        return own.indexed.fence if own is not None and same else None

    def next_token(self, session_id: str) -> str | None:
        """Return the token that a session between two agents is reserved under: of a restart.

        Whoever does not create the next one releases it.
        """
        return self._outbox.next_token(session_id)

    async def claim(self, slot: str, *, digest: str, ttl_s: float, by: str) -> Claim:
        """Claim the answer to a request for a node, by its incarnation; return who has it.

        This node claims again what it has where the engine forgets it: in a new era, or because it
        held the node to be dead. What comes to another node before that opens another session.
        `LeaseLost`, `EngineUnavailable`.
        """
        until_s = self._membership.hooks.now_s() + ttl_s
        claim = await self.engine.claim(by, slot, digest=digest, ttl_s=ttl_s)
        if claim.incarnation == self.incarnation:
            now_s = self._membership.hooks.now_s()
            self._claims.add(slot, OwnClaim(claim.digest, until_s), now_s=now_s)
        return claim

    # -- everybody's -----------------------------------------------------------------------------

    async def find(self, session_id: str) -> Located:
        """Return where a session is: from the near cache, else from the engine.

        `SessionNotFound`; `Recovering` where the engine has lost what it knew. While the engine
        cannot be asked: from the cache, or from the nodes last known, whose word counts;
        `EngineUnavailable` where none of them has it.
        """
        near = self._near
        if near.connected:
            entry = near.get(session_id)
            # What was a node's that is gone may be another one's by now: the engine knows.
            if entry is not None and not self._log.is_gone(entry):
                node = self._membership.node(entry.entry.incarnation)
                if node is not None:
                    return Located(entry, node)
        return await self._locating.find(session_id)

    def forget(self, session_id: str) -> None:
        """Take an owner's word that a session is not there (any more): look it up anew."""
        self._near.forget(session_id)

    def ended(self, session_id: str) -> EndedElsewhere:
        """Return how a session ended, wherever it was: this node's bounded memory of the log.

        While a session of the id lives, it tells of the one before. One whose node is known to be
        gone has ended when that was told, until its own end is. `SessionNotFound` where nothing is
        remembered: at least the last 10,000 ids are, since this node joined.
        """
        return self._log.ended(session_id)

    async def list(self, selection: Selection, *, after: Fence = 0, limit: int = 1000) -> EntryPage:
        """Return a page of the sessions of all nodes, oldest first.

        One of this node's that has just ended may be among them: its own store knows.
        """
        return await self.engine.list(selection, after=after, limit=limit)

    async def count(self, selection: Selection) -> int:
        """Return how many sessions there are on all nodes."""
        return await self.engine.count(selection)

    def watch(self, *, tenant_id: str | None = None, api_key: str | None = None) -> ClusterWatch:
        """Follow the changes of all nodes."""
        return ClusterWatch(self.engine, self._log, tenant_id=tenant_id, api_key=api_key)

    async def read_all(self) -> None:
        """Wait until this node has read all that has happened until now; for two seconds.

        Costs a call to the engine, which says how far that is.
        """
        page = await self.engine.list(Selection(incarnation=self.incarnation), limit=1)
        await self._log.read_until(page.revision)

    def nodes(self) -> Sequence[NodeStatus]:
        """Return all nodes, this one included, as last heard: no older than a quarter lease."""
        return self._membership.nodes

    @property
    def nodes_age_s(self) -> float:
        """Return how long ago it heard of the nodes: more than a lease where it is cut off."""
        return self._membership.nodes_age_s

    @property
    def knows_all_nodes(self) -> bool:
        """Whether all that live, and are not cut off, are among `nodes`.

        Not while this node is cut off itself, nor for a lease after the engine has lost something.
        """
        membership = self._membership
        return (
            membership.condition is NodeCondition.JOINED
            and membership.standing.era == self._log.era
            and membership.hooks.now_s() >= membership.complete_s
        )

    def node(self, incarnation: str) -> NodeStatus | None:
        """Return one node, as last heard of."""
        return self._membership.node(incarnation)

    def is_dead(self, incarnation: str) -> bool:
        """Tell whether a node is known to be dead: nobody need be asked any more."""
        return self._log.is_dead(incarnation)


async def _run_on(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do something as long as the node is a member. A fault of ours ends no node: it is logged."""
    while True:
        try:
            return await work()
        except Exception:  # noqa: BLE001 - whatever it is, the node's other tasks need this one
            _log.exception("a task of the cluster failed; it begins anew")
            await asyncio.sleep(1)
