"""Finds whose session an id is: this node's, by the near cache, by the engine, by asking nodes.

While the engine cannot be asked, an owner's word counts: a short outage of the engine hides no
session that lives.
"""

from __future__ import annotations

import asyncio
import logging

from frontdesk.cluster.cluster_log import ClusterLog
from frontdesk.cluster.engine import Engine
from frontdesk.cluster.errors import EngineUnavailable, OwnerUnreachable
from frontdesk.cluster.membership import Membership
from frontdesk.cluster.near_cache import NearCache
from frontdesk.cluster.node_records import Located
from frontdesk.cluster.own_sessions import OwnSessions
from frontdesk.cluster.records import IndexEntry, NodeStatus
from frontdesk.errors import SessionNotFound

__all__ = ["Locating"]

ASK_S = 2.0
"""How long all nodes together have to say whether a session is theirs."""

MAX_LOGGED_KINDS = 16
"""So many kinds of unexpected errors of other nodes' answers are logged."""

_log = logging.getLogger("frontdesk")


class Locating:
    """Find sessions. Owned by a `Node`."""

    def __init__(
        self,
        engine: Engine,
        membership: Membership,
        own: OwnSessions,
        near: NearCache,
        log: ClusterLog,
    ) -> None:
        self._engine, self._membership, self._own, self._near = engine, membership, own, near
        self._log = log
        self._logged_kinds: set[type[Exception]] = set()

    async def find(self, session_id: str) -> Located:
        """Return where a session is that the near cache does not have, or may not have right."""
        own = self._own.living(session_id)
        if own is not None:
            return await self._located(own.indexed)
        read, entry = self._near.begin_read(session_id), None
        try:
            entry = await self._engine.read(session_id)
        except EngineUnavailable:
            return await self._without_engine(session_id)
        finally:
            self._near.end_read(read, entry)
        if entry is None or self._log.is_gone(entry):
            raise SessionNotFound(session_id)
        return await self._located(entry)

    def _log_once(self, error: Exception, node: NodeStatus) -> None:
        """Log what no node should have answered: each kind once, and so many kinds at most."""
        if type(error) not in self._logged_kinds and len(self._logged_kinds) < MAX_LOGGED_KINDS:
            self._logged_kinds.add(type(error))
            _log.error("node %s answered what it should not have", node.node.name, exc_info=error)

    async def _located(self, entry: IndexEntry) -> Located:
        node = self._membership.node(entry.entry.incarnation)
        if node is None:
            # It joined since all were heard of last.
            self._membership.nodes = await self._engine.nodes()
            node = self._membership.node(entry.entry.incarnation)
        if node is None:
            problem = "it is dead, and its sessions are being ended"
            raise OwnerUnreachable(entry.entry.session_id, problem=problem)
        return Located(entry, node)

    async def _without_engine(self, session_id: str) -> Located:
        """Take what is remembered, or an owner's word: that of the first node that has it."""
        entry = self._near.get(session_id)
        if entry is not None and self._log.is_gone(entry):
            entry = None
        node = None if entry is None else self._membership.node(entry.entry.incarnation)
        if entry is not None and node is not None:
            return Located(entry, node, confirmed=False)
        incarnation, ask = self._membership.incarnation, self._membership.hooks.ask_owner

        async def asked(node: NodeStatus) -> Located | None:
            try:
                entry = await ask(session_id, node)
            except OwnerUnreachable:
                return None
            except Exception as error:  # noqa: BLE001 - whatever it is, it is no word of an owner's
                self._log_once(error, node)
                return None
            return None if entry is None else Located(entry, node, confirmed=False)

        others = [one for one in self._membership.nodes if one.node.incarnation != incarnation]
        asking = [asyncio.create_task(asked(node)) for node in others]
        try:
            for answer in asyncio.as_completed(asking, timeout=ASK_S):
                located = await answer
                if located is not None:
                    return located
        except TimeoutError:
            pass
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        problem = "it cannot be asked, and no node that was known last has the session"
        raise EngineUnavailable(problem)
