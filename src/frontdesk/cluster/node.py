"""A node: one running process's part in the cluster.

It joins, renews its lease, tells the index what becomes of the sessions in its own store, and finds
everybody else's. Its store stays the authority on its own sessions: what the index lost, it is told
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from frontdesk.clock import Clock
from frontdesk.cluster.cluster_watch import ClusterWatch
from frontdesk.cluster.decisions import NodeCondition
from frontdesk.cluster.engine import Engine
from frontdesk.cluster.node_records import EndedElsewhere, Located, NodeHooks
from frontdesk.cluster.records import EntryPage, IndexLimits, NodeStatus, Selection
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.records import Fence, Session
from frontdesk.store import SessionStore

__all__ = ["Node"]


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
    """

    engine: Engine
    incarnation: str

    def __init__(
        self,
        engine: Engine,
        store: SessionStore[Any],
        *,
        name: str,
        address: str,
        config_digest: str = "",
        terms: LeaseTerms = LeaseTerms(),
        clock: Clock | None = None,
        hooks: NodeHooks = NodeHooks(),
    ) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        raise NotImplementedError

    @property
    def condition(self) -> NodeCondition:
        """How it stands to the cluster now, by its own clock."""
        raise NotImplementedError

    def begin_draining(self) -> None:
        """Take no new sessions: told with every renewal from now on. Those it has go on."""
        raise NotImplementedError

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
        node is cut off or joins anew: then nothing is reserved.
        """
        raise NotImplementedError

    async def release(self, session_id: str, *, token: str) -> None:
        """Give a reservation back; what cannot be told now goes with its deadline."""
        raise NotImplementedError

    async def create(
        self, session: Session[Any], *, token: str, minted: bool, limits: IndexLimits
    ) -> Fence:
        """Enter a session of the local store under the token of its reservation; return its fence.

        From here on its end is told by the node. Raises as `reserve` does; then it is not in the
        index, and the session is the caller's to end. An unknown outcome is asked again with the
        token for two seconds, and undone after.
        """
        raise NotImplementedError

    def fence(self, session_id: str) -> Fence | None:
        """Return the index's fence of a session that lives here; None where it has none."""
        raise NotImplementedError

    def next_token(self, session_id: str) -> str | None:
        """Return the token that a session between two agents is reserved under: of a restart."""
        raise NotImplementedError

    # -- everybody's -----------------------------------------------------------------------------

    async def find(self, session_id: str) -> Located:
        """Return where a session is: from the near cache, else from the engine.

        `SessionNotFound`; `Recovering` where the engine has lost what it knew. While the engine
        cannot be asked: from the cache, or from the nodes last known, whose word counts;
        `EngineUnavailable` where none of them has it.
        """
        raise NotImplementedError

    def forget(self, session_id: str) -> None:
        """Take an owner's word that a session is not there (any more): look it up anew."""
        raise NotImplementedError

    def ended(self, session_id: str) -> EndedElsewhere:
        """Return how a session ended, wherever it was: this node's bounded memory of the log.

        `SessionNotFound` where it lives, or is not remembered.
        """
        raise NotImplementedError

    async def list(self, selection: Selection, *, after: Fence = 0, limit: int = 1000) -> EntryPage:
        """Return a page of the sessions of all nodes, oldest first."""
        raise NotImplementedError

    async def count(self, selection: Selection) -> int:
        """Return how many sessions there are on all nodes."""
        raise NotImplementedError

    def watch(self, *, tenant_id: str | None = None, api_key: str | None = None) -> ClusterWatch:
        """Follow the changes of all nodes."""
        raise NotImplementedError

    def nodes(self) -> Sequence[NodeStatus]:
        """Return all nodes, this one included, as last heard: no older than a quarter lease."""
        raise NotImplementedError

    def node(self, incarnation: str) -> NodeStatus | None:
        """Return one node, as last heard of."""
        raise NotImplementedError
