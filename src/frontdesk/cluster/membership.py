"""What a node is in the cluster now, and whom it knows there. All parts of a node read it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from frontdesk._version import __version__
from frontdesk.clock import Clock
from frontdesk.cluster.decisions import NodeAction, NodeCondition, Standing, condition
from frontdesk.cluster.errors import EngineUnavailable, LeaseLost
from frontdesk.cluster.node_records import NodeHooks
from frontdesk.cluster.records import SCHEMA, NodeRecord, NodeState, NodeStatus
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.feed import Wakers
from frontdesk.records import Fence

__all__ = ["Membership", "new_token"]

_log = logging.getLogger("frontdesk")


def new_token() -> str:
    """Return a token for a reservation and the create after it."""
    return secrets.token_hex(8)


class Membership:
    """Who this node is, how it stands, which other nodes it has heard of, and what it has to do.

    Attributes:
        incarnation (str): This run of it, since it last joined.
        owner (str): Its name and the first of its incarnations.
        standing (Standing): How it stands; moved by `decisions` only.
        moved_s (float): When the event loop last moved.
        joins (int): Changes with every join's begin and end.
        draining (bool): Whether it takes no new sessions.
        complete_s (float): From when on those that live are among `nodes`: they join anew within a
            lease where the engine has lost them.
        due (set[NodeAction]): What is to be repaired, as soon as the engine can be asked.
        renew_soon (Callable): Has the lease renewed now: the answer says what is to be done.
        changed (Wakers): Wakes who waits for the engine to answer again, or for something `due`.
    """

    def __init__(
        self,
        *,
        name: str,
        address: str,
        config_digest: str,
        terms: LeaseTerms,
        clock: Clock,
        hooks: NodeHooks,
    ) -> None:
        self._name, self._address, self._config_digest = name, address, config_digest
        self.terms: LeaseTerms = terms
        self.clock: Clock = clock
        self.hooks: NodeHooks = hooks
        self.incarnation: str = secrets.token_hex(16)
        self.owner: str = f"{name}/{self.incarnation}"
        self.standing: Standing = Standing()
        self.moved_s: float = hooks.now_s()
        self.joins: int = 0
        self.draining: bool = False
        self.complete_s: float = 0.0
        self.due: set[NodeAction] = set()
        self.renew_soon: Callable[[], object] = tuple
        self.changed: Wakers = Wakers()
        self._nodes: dict[str, NodeStatus] = {}
        self._nodes_at_s: float = hooks.now_s()

    @property
    def record(self) -> NodeRecord:
        """What it says of itself when it joins."""
        return NodeRecord(
            self.incarnation,
            self._name,
            self._address,
            SCHEMA,
            __version__,
            self._config_digest,
        )

    @property
    def condition(self) -> NodeCondition:
        """How it stands now, by its own clock."""
        now_s = self.hooks.now_s()
        stalled_for_s = max(now_s - self.moved_s, self.hooks.listener_age_s())
        return condition(self.standing, now_s=now_s, stalled_for_s=stalled_for_s, terms=self.terms)

    def require_lease(self) -> None:
        """Refuse what only a node whose lease holds may ask for."""
        standing = self.condition
        if standing is NodeCondition.JOINED:
            return
        if standing is NodeCondition.LEFT:
            raise EngineUnavailable("this node has left the cluster")
        raise EngineUnavailable(_WHY_NOT[standing], retry_after_s=self.terms.renew_s)

    def refuse_lost(self, error: LeaseLost) -> NoReturn:
        """Turn the loss of the lease into what a caller can do about it: ask again.

        Whether it is lost for good, the answer to a renewal says.
        """
        self.renew_soon()
        problem = "this node has no lease there now: it renews it, or joins anew"
        raise EngineUnavailable(problem, retry_after_s=self.terms.renew_s) from error

    def supersede(self, session_id: str, local_fence: Fence) -> None:
        """Have the agent of a session stopped here: another node has the id by now."""
        _log.warning("session %s is another node's: it is stopped here", session_id)
        self.hooks.on_superseded(session_id, local_fence)

    def do_soon(self, *actions: NodeAction) -> None:
        """Have something done as soon as the engine can be asked."""
        if actions:
            self.due.update(actions)
            self.changed.wake_all()

    async def pause(self, limit_s: float) -> None:
        """Wait so long, or until a renewal was answered, or something is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self.changed.wait_async()

    # -- others ----------------------------------------------------------------------------------

    @property
    def nodes(self) -> Sequence[NodeStatus]:
        """All nodes that were heard of last, by name."""
        return tuple(self._nodes.values())

    @nodes.setter
    def nodes(self, nodes: Sequence[NodeStatus]) -> None:
        before, self._nodes = self._nodes, {each.node.incarnation: each for each in nodes}
        self._nodes_at_s = self.hooks.now_s()
        for incarnation in {**before, **self._nodes}:
            then, now = before.get(incarnation), self._nodes.get(incarnation)
            if (state := _state(now)) != _state(then):
                status = now or then
                assert status is not None, "it is one of either"
                _log_change(status, state)

    @property
    def nodes_age_s(self) -> float:
        """How long ago that was."""
        return self.hooks.now_s() - self._nodes_at_s

    def node(self, incarnation: str) -> NodeStatus | None:
        """Return one of them."""
        return self._nodes.get(incarnation)


def _state(status: NodeStatus | None) -> str:
    """Return how a node stands, in a word."""
    if status is None:
        return "gone"
    return "draining" if status.draining and status.state is NodeState.ALIVE else status.state.value


def _log_change(status: NodeStatus, state: str) -> None:
    name, incarnation = status.node.name, status.node.incarnation
    facts = {"event": "node_changed", "which": name, "incarnation": incarnation, "state": state}
    level = logging.WARNING if state in _TROUBLE else logging.INFO
    _log.log(level, "node %s is %s", name, state, extra=facts)


_TROUBLE = frozenset({NodeState.STALLED.value, NodeState.SUSPECT.value})

_WHY_NOT = {
    NodeCondition.CUT_OFF: "this node has not heard of its lease for longer than that lasts",
    NodeCondition.STALLED: "this node's event loop or private listener does not move",
    NodeCondition.REJOINING: "this node was held to be dead, and joins anew",
}
