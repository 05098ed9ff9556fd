"""Repairs what the engine and a node believe differently of the node's sessions.

    rejoin          the node was told that it is dead. If the engine has begun a new era, it joins
                    as it was, and restores; else it was buried: it joins as another incarnation,
                    and creates its live sessions again, with new fences and tokens.
    restore         the engine has lost something: all entries are told again, fences as they were.
                    After this and a rejoin, what the node has the answers to is claimed again.
    reconcile       count or tokens differ: what the engine has too many ends there, what it lacks
                    is restored.

Where an id is somebody else's by now, the agent here is stopped. One repair runs at a time; one
that the engine does not let come to its end stays due.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from frontdesk.cluster.cluster_log import ClusterLog
from frontdesk.cluster.decisions import NodeAction, Standing, differences
from frontdesk.cluster.engine import Engine
from frontdesk.cluster.errors import EngineUnavailable, LeaseLost, OwnerSuspect, Recovering
from frontdesk.cluster.membership import Membership, new_token
from frontdesk.cluster.own_claims import OwnClaim, OwnClaims
from frontdesk.cluster.own_sessions import OwnEntry, OwnSessions
from frontdesk.cluster.pages import all_pages
from frontdesk.cluster.records import (
    EntryEnd,
    IndexEntry,
    IndexLimits,
    Joined,
    NewEntry,
    Selection,
)
from frontdesk.cluster.together import all_of
from frontdesk.errors import (
    FrontdeskError,
    SessionAlreadyExists,
    SessionNotFound,
    StoreClosed,
)
from frontdesk.records import ExitKind, ExitReason, Session
from frontdesk.store import SessionStore

__all__ = ["Reconciliation", "new_entry"]

BATCH = 100
_UNKNOWN = ExitReason.of(ExitKind.UNKNOWN)
_NO_LIMITS = IndexLimits()
_log = logging.getLogger("frontdesk")


def new_entry(session: Session[Any], *, incarnation: str, token: str, minted: bool) -> NewEntry:
    """Return what the index is told of a session of a node's store."""
    return NewEntry(
        session_id=session.session_id,
        incarnation=incarnation,
        token=token,
        tenant_id=session.tenant_id,
        api_key=session.api_key,
        created_at=session.created_at,
        blueprint=session.blueprint,
        model=session.model,
        pid=session.pid,
        minted=minted,
    )


class Reconciliation:
    """Join, and carry out what is due. Owned by a `Node`."""

    def __init__(
        self,
        engine: Engine,
        store: SessionStore[Any],
        membership: Membership,
        own: OwnSessions,
        claims: OwnClaims,
        log: ClusterLog,
    ) -> None:
        self._engine, self._store, self._log = engine, store, log
        self._membership, self._own, self._claims = membership, own, claims

    async def join(self, *, era: int | None = None) -> Joined:
        """Join as the incarnation that it is; the lease counts from before it is asked."""
        membership = self._membership
        membership.hooks.on_joining(membership.incarnation)
        sent_s = membership.hooks.now_s()
        membership.joins += 1
        try:
            joined = await self._engine.join(membership.record, terms=membership.terms, era=era)
        finally:
            membership.joins += 1
        if membership.standing.joined and joined.era != membership.standing.era:
            membership.hooks.on_era()
        until_s = sent_s + membership.terms.lease_s
        membership.standing = Standing(
            joined=True, era=joined.era, lease_era=joined.era, lease_until_s=until_s
        )
        if joined.recovering_s:
            membership.complete_s = membership.hooks.now_s() + membership.terms.lease_s
        self._log.restart(era=joined.era, head=joined.revision)
        membership.changed.wake_all()
        return joined

    async def repair(self) -> None:
        """Do what is due, for as long as the node is a member."""
        membership = self._membership
        while True:
            if not self._is_anything_due:
                await membership.changed.wait_async(lambda: bool(membership.due), key=self)
                continue
            try:
                await self.repair_once()
            except LeaseLost:
                membership.renew_soon()
            except (EngineUnavailable, Recovering):
                pass
            except FrontdeskError as error:
                _log.error("the cluster does not take this node back: %s", error)
            if self._is_anything_due:
                await membership.pause(membership.terms.renew_s)

    @property
    def _is_anything_due(self) -> bool:
        return bool(self._membership.due or self._own.homeless or self._claims.forgotten)

    async def repair_once(self) -> None:
        """Do the most urgent thing. It is due no more when it has come to its end."""
        due = self._membership.due
        if NodeAction.REJOIN in due:
            await self.rejoin()
            due.discard(NodeAction.REJOIN)
            self._membership.hooks.on_repair(NodeAction.REJOIN)
        if self._claims.forgotten:
            await self.claim_again()
        if self._own.homeless:
            await self.create_again()
        for action, repair in (
            (NodeAction.RESTORE, self.restore),
            (NodeAction.RECONCILE, self.reconcile),
        ):
            if action in due:
                due.discard(action)
                try:
                    await repair()
                except BaseException:
                    due.add(action)
                    raise
                self._membership.hooks.on_repair(action)

    # -- told dead -------------------------------------------------------------------------------

    async def rejoin(self) -> None:
        """Join anew: as the incarnation that it was if the engine has lost that, else another.

        1. The engine has begun a new era since: it takes the same one in again.
        2. It has not: it has buried it, and it is dead for good.
        """
        membership = self._membership
        membership.standing = replace(membership.standing, rejoining=True)
        try:
            await self.join(era=membership.standing.lease_era)
            membership.due.add(NodeAction.RESTORE)
        except LeaseLost:
            before, membership.incarnation = membership.incarnation, secrets.token_hex(16)
            self._own.detach()
            self._claims.forget()
            _log.warning(
                "node %s was held to be dead; it joins as another",
                before,
                extra={"event": "node_changed", "incarnation": before, "state": "held_dead"},
            )
            await self.join()

    async def create_again(self) -> None:
        """Create the sessions that live here under the node's new incarnation."""
        homeless = list(self._own.homeless.values())
        for begun in range(0, len(homeless), BATCH):
            batch = homeless[begun : begun + BATCH]
            await all_of(self._create_one_again(own) for own in batch)

    async def claim_again(self) -> None:
        """Claim what this node has the answers to; what another one has claimed since is its."""
        forgotten = list(self._claims.forgotten.items())
        for begun in range(0, len(forgotten), BATCH):
            batch = forgotten[begun : begun + BATCH]
            await all_of(self._claim_one_again(slot, claim) for slot, claim in batch)

    async def _claim_one_again(self, slot: str, claim: OwnClaim) -> None:
        now_s, incarnation = self._membership.hooks.now_s(), self._membership.incarnation
        if (left_s := claim.until_s - now_s) > 0:
            there = await self._engine.claim(incarnation, slot, digest=claim.digest, ttl_s=left_s)
            if there.incarnation == incarnation:
                self._claims.add(slot, claim, now_s=now_s)
        self._claims.forgotten.pop(slot, None)

    async def _create_one_again(self, own: OwnEntry) -> None:
        session = None
        with suppress(SessionNotFound, StoreClosed):
            session = self._store.get(own.session_id)
        if session is None or session.fence != own.local_fence:
            self._own.homeless.pop(own.session_id, None)
            return
        incarnation, minted = self._membership.incarnation, own.indexed.entry.minted
        entry = new_entry(session, incarnation=incarnation, token=new_token(), minted=minted)
        try:
            with self._own.asking(own.session_id):
                fence = await self._engine.create(entry, limits=_NO_LIMITS)
        except SessionAlreadyExists:
            if self._own.homeless.pop(own.session_id, None) is not None:
                self._membership.supersede(own.session_id, own.local_fence)
            return
        except OwnerSuspect:
            return  # whose it is will be known when that node's hold is over
        if self._own.homeless.pop(own.session_id, None) is None:
            # It ended while the index was being told of it.
            await self._end_there([IndexEntry(entry, fence, fence)])
        elif incarnation == self._membership.incarnation:
            self._own.add(OwnEntry(IndexEntry(entry, fence, fence), own.local_fence))
        else:
            self._own.homeless[own.session_id] = own

    # -- the engine has lost something -----------------------------------------------------------

    async def restore(self) -> None:
        """Tell all entries again, in batches; the last one says that it is complete."""
        self._claims.forget()
        await self.claim_again()
        living = [own for name, own in self._own.entries.items() if name not in self._own.ending]
        batches = [living[begun : begun + BATCH] for begun in range(0, len(living), BATCH)] or [[]]
        era = self._membership.standing.era
        for batch in batches:
            await self._restore(batch, complete=batch is batches[-1])
        standing = self._membership.standing
        self._membership.standing = replace(standing, lease_era=max(standing.lease_era, era))

    async def _restore(self, batch: Sequence[OwnEntry], *, complete: bool) -> None:
        entries = [own.indexed for own in batch]
        incarnation = self._membership.incarnation
        with self._own.asking(*(own.session_id for own in batch)):
            refused = set(await self._engine.restore(incarnation, entries, complete=complete))
        for own in batch:
            present = self._own.living(own.session_id)
            same = present is not None and present.indexed.fence == own.indexed.fence
            if same and own.indexed.fence in refused:
                self._own.remove(own.session_id)
                self._membership.supersede(own.session_id, own.local_fence)
            elif same and present is not None and present.indexed.entry != own.indexed.entry:
                # An update that was under way came before this, which took it back.
                await self._update_there(present.indexed)

    # -- count or tokens differ ------------------------------------------------------------------

    async def reconcile(self) -> None:
        """Compare all entries, and repair both sides. What is under way meanwhile is left alone."""
        own = self._own
        for token, session_id in list(own.unreleased.items()):
            await self._engine.release(self._membership.incarnation, session_id, token=token)
            own.unreleased.pop(token, None)
        before, busy = dict(own.entries), set(own.under_way)
        pages = await all_pages(self._engine, Selection(incarnation=self._membership.incarnation))
        theirs = [entry for page in pages for entry in page.entries]
        busy |= own.under_way.keys()
        busy |= {name for name, one in before.items() if own.entries.get(name) is not one}
        mine = {name: one.indexed for name, one in own.entries.items() if name not in own.ending}
        busy |= own.ending | (mine.keys() - before.keys())
        differing = differences(mine, theirs, under_way=busy)
        for begun in range(0, len(differing.end), BATCH):
            await self._end_there(differing.end[begun : begun + BATCH])
        restored = [own.entries[one.entry.session_id] for one in differing.restore]
        for begun in range(0, len(restored), BATCH):
            await self._restore(restored[begun : begun + BATCH], complete=False)
        for one in differing.update:
            await self._update_there(one)

    async def _update_there(self, entry: IndexEntry) -> None:
        """Tell the engine what an entry's metadata are here."""
        await self._engine.update(
            self._membership.incarnation,
            entry.entry.session_id,
            fence=entry.fence,
            blueprint=entry.entry.blueprint,
            model=entry.entry.model,
        )

    async def _end_there(self, entries: Sequence[IndexEntry]) -> None:
        """End entries that the engine has and this node has not, for the reason that it knows."""
        at = self._membership.clock.wall_ms()
        ends = []
        for one in entries:
            session_id = one.entry.session_id
            try:
                ended = self._store.ended(session_id)
                ends.append(EntryEnd(session_id, one.fence, ended.reason, ended.ended_at))
            except (SessionNotFound, StoreClosed):
                ends.append(EntryEnd(session_id, one.fence, _UNKNOWN, at))
        await self._engine.end(self._membership.incarnation, ends)
