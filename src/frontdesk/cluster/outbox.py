"""Tells the index what becomes of this node's sessions: their ends, and their other metadata.

    the store's watch -> what is to be told -> at most a hundred ends in a call

Nobody waits for it but who asks to (`flush`). While the engine cannot be asked, what is to be told
waits: at most one end and one update for each session that the index has of this node.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from frontdesk.cluster.engine import Engine
from frontdesk.cluster.errors import EngineUnavailable, LeaseLost
from frontdesk.cluster.membership import Membership, new_token
from frontdesk.cluster.own_sessions import OwnEntry, OwnSessions
from frontdesk.cluster.records import EntryEnd
from frontdesk.cluster.together import all_of
from frontdesk.errors import SessionNotFound, StoreClosed
from frontdesk.feed import Wakers
from frontdesk.records import (
    Change,
    Ended,
    ExitKind,
    ExitReason,
    Fence,
    Metadata,
    Snapshot,
    Updated,
)
from frontdesk.store import SessionStore, Watch

__all__ = ["Outbox"]

BATCH = 100
FLUSH_S = 2.0
"""How long a caller waits at most until its own writes are in the index."""

_SHUTDOWN = ExitReason.of(ExitKind.SHUTDOWN)
_UNKNOWN = ExitReason.of(ExitKind.UNKNOWN)
_log = logging.getLogger("frontdesk")


class Outbox:
    """Follow a store, and tell the index of what a node had told it. Owned by a `Node`."""

    def __init__(
        self, engine: Engine, store: SessionStore[Any], membership: Membership, own: OwnSessions
    ) -> None:
        self._engine, self._store, self._membership, self._own = engine, store, membership, own
        self._ends: deque[tuple[OwnEntry, EntryEnd]] = deque()
        self._updates: dict[str, Metadata] = {}
        self._wakers = Wakers()
        self._watch: Watch | None = None
        self._read_to = self._at = 0
        self._noticed = self._sent = 0

    def open(self) -> None:
        """Begin with what the store has: nothing that happens from here on is missed."""
        self._watch = self._store.watch()
        self._read_to = self._at = self._store.revision

    def close(self) -> None:
        """Follow the store no longer."""
        if self._watch is not None:
            self._watch.close()

    # -- what is to be told ----------------------------------------------------------------------

    async def follow(self) -> None:
        """Read the store's changes until it is closed."""
        if self._watch is None:
            return
        async for item in self._watch:
            if isinstance(item, Snapshot):
                self.compare(item)
            else:
                self.take(item)
            self._read_to = item.revision
            self._wakers.wake_all()

    def end_finished(self, *session_ids: str) -> bool:
        """Have the ends told of those that are over, noticed or not; tell whether any is yet to be.

        Of those that live, have told what changed: the watch may have been faster than the index.
        """
        for session_id in session_ids:
            own = self._own.living(session_id)
            session = None
            with suppress(SessionNotFound, StoreClosed):
                session = self._store.get(session_id)
            if own is None:
                continue
            if session is not None and session.fence == own.local_fence:
                self._update(session.metadata)
            else:
                self._end(session_id, own.local_fence)
        return not self._own.ending.isdisjoint(session_ids)

    def next_token(self, session_id: str) -> str | None:
        """Return what holds the id of a session whose agent is being restarted."""
        self.end_finished(session_id)
        return self._own.next_tokens.get(session_id)

    def compare(self, snapshot: Snapshot) -> None:
        """Catch up where changes of the store were missed."""
        living = {one.session_id: one for one in snapshot.sessions}
        for own in list(self._own.entries.values()):
            session = living.get(own.session_id)
            if session is None or session.fence != own.local_fence:
                self._end(own.session_id, own.local_fence)
            else:
                self._update(session)

    def take(self, change: Change) -> None:
        """Take in a change of the store."""
        if isinstance(change, Ended):
            session = change.session
            self._end(session.session_id, session.fence, change)
            homeless = self._own.homeless.get(session.session_id)
            if homeless is not None and homeless.local_fence == session.fence:
                del self._own.homeless[session.session_id]
        elif isinstance(change, Updated):
            self._update(change.session)

    def _update(self, session: Metadata) -> None:
        own = self._own.living(session.session_id)
        if own is None or own.local_fence != session.fence:
            return
        entry = own.indexed.entry
        if (entry.model, entry.blueprint) != (session.model, session.blueprint):
            self._updates[session.session_id] = session
            self._wakers.wake_all()

    def _end(self, session_id: str, local_fence: Fence, ended: Ended | None = None) -> None:
        """Have an end told, once: of that very session, if the index has it."""
        own = self._own.living(session_id)
        if own is None or own.local_fence != local_fence:
            return
        if ended is None:
            with suppress(SessionNotFound, StoreClosed):
                ended = self._store.ended(session_id)
        # Another session of that id may have ended since: then the reason is not known any more.
        known = ended is not None and ended.session.fence == local_fence
        reason = ended.reason if ended is not None and known else _UNKNOWN
        if self._store.closed and not known:
            reason = _SHUTDOWN
        at = self._membership.clock.wall_ms() if ended is None else ended.ended_at
        token = None
        if reason.kind is ExitKind.RESTARTED:
            token = self._own.next_tokens[session_id] = new_token()
        self._own.ending.add(session_id)
        self._updates.pop(session_id, None)
        self._ends.append((own, EntryEnd(session_id, own.indexed.fence, reason, at, token)))
        self._noticed += 1
        self._wakers.wake_all()

    # -- telling ---------------------------------------------------------------------------------

    def give_free(self, token: str) -> None:
        """Have an end that was not told yet hold the id for no next agent."""
        for place, (own, end) in enumerate(self._ends):
            if end.next_token == token:
                self._ends[place] = (own, replace(end, next_token=None))

    async def flush(self) -> None:
        """Wait until the index knows what has happened in the store until now.

        `EngineUnavailable` after two seconds.
        """
        upto, ends = self._store.revision, self._noticed

        def is_known() -> bool:
            return self._at >= upto and self._sent >= ends

        try:
            async with asyncio.timeout(FLUSH_S):
                while not is_known():
                    await self._wakers.wait_async(is_known)
        except TimeoutError:
            raise EngineUnavailable("what ended here cannot be told to it") from None

    async def send(self) -> None:
        """Tell what is to be told, for as long as the node is a member."""
        while True:
            if self._membership.standing.rejoining:
                await self._membership.pause(self._membership.terms.renew_s)
                continue
            if not self._has_more():
                await self._wakers.wait_async(self._has_more, key=self)
                continue
            upto, number = self._read_to, len(self._ends)
            try:
                await self._send_updates(list(self._updates))
                for begun in range(0, number, BATCH):
                    await self._send_ends(min(BATCH, number - begun))
            except (EngineUnavailable, LeaseLost):
                # What was told is told again: an end that is not there is left alone.
                await self._membership.pause(self._membership.terms.renew_s)
                continue
            self._at = upto
            self._wakers.wake_all()

    def _has_more(self) -> bool:
        return bool(self._ends or self._updates) or self._read_to > self._at

    async def _send_updates(self, names: Sequence[str]) -> None:
        """Tell of other metadata, a hundred sessions at a time."""
        incarnation = self._membership.incarnation
        for begun in range(0, len(names), BATCH):
            batch = names[begun : begun + BATCH]
            with self._own.asking(*batch):
                await all_of(self._send_update(incarnation, name) for name in batch)

    async def _send_update(self, incarnation: str, session_id: str) -> None:
        session, own = self._updates.get(session_id), self._own.living(session_id)
        if session is not None and own is not None:
            model, blueprint = session.model, session.blueprint
            fence = own.indexed.fence
            await self._engine.update(
                incarnation, session_id, fence=fence, blueprint=blueprint, model=model
            )
            self._own.update(session_id, model=model, blueprint=blueprint)
        if self._updates.get(session_id) is session:
            self._updates.pop(session_id, None)

    async def _send_ends(self, number: int) -> None:
        batch = [self._ends[place] for place in range(number)]
        # Of entries of an incarnation that is gone there is nothing to tell any more.
        ours = [(own, end) for own, end in batch if self._is_ours(own)]
        with self._own.asking(*(own.session_id for own, _ in ours)):
            if ours:
                ends: Sequence[EntryEnd] = [end for _, end in ours]
                await self._engine.end(self._membership.incarnation, ends)
            for _ in batch:
                self._ends.popleft()
            self._sent += number
            for own, _ in ours:
                if self._is_ours(own):
                    self._own.remove(own.session_id)

    def _is_ours(self, own: OwnEntry) -> bool:
        present = self._own.entries.get(own.session_id)
        return present is not None and present.indexed.entry.token == own.indexed.entry.token
