"""Keeps what a node knows of the other nodes up to date, and buries those that are dead."""

from __future__ import annotations

import asyncio
import logging

from frontdesk.cluster.decisions import burials_due
from frontdesk.cluster.engine import Engine
from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.cluster.membership import Membership

__all__ = ["Neighbours"]

_log = logging.getLogger("frontdesk")


class Neighbours:
    """Ask for the nodes after every renewal that was answered. Owned by a `Node`."""

    def __init__(self, engine: Engine, membership: Membership) -> None:
        self._engine, self._membership = engine, membership
        self._renewed = asyncio.Event()

    def refresh_soon(self) -> None:
        """Have them asked for: the engine answers."""
        self._renewed.set()

    async def follow(self) -> None:
        """Keep up to date for as long as the node is a member."""
        while True:
            await self._renewed.wait()
            self._renewed.clear()
            try:
                await self.refresh()
                await self.end_dead()
            except EngineUnavailable:
                continue  # the next renewal that is answered comes here again

    async def refresh(self) -> None:
        """Ask for all nodes now."""
        self._membership.nodes = await self._engine.nodes()

    async def end_dead(self) -> None:
        """Bury those that are due, a hundred of their sessions a call."""
        membership = self._membership
        due = burials_due(
            membership.nodes, incarnation=membership.incarnation, terms=membership.terms
        )
        for incarnation in due:
            ended = 0
            while True:
                buried = await self._engine.bury(incarnation, proven=False)
                ended += buried.ended
                if buried.done or not buried.ended:
                    break  # it is gone; or it lives after all, by the engine's own time
            if buried.done:
                _log.warning(
                    "node %s is dead: its %d sessions are lost",
                    incarnation,
                    ended,
                    extra={"event": "node_changed", "incarnation": incarnation, "state": "dead"},
                )
