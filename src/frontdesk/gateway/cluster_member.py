"""How a gateway takes part in a cluster: what whoever starts it gives to it.

Beside the settings, below the gateway. The command line makes one (an engine, a name, an address);
without one, a gateway is alone, and nothing of a cluster is imported.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from frontdesk.clock import Clock
from frontdesk.cluster.engine import Engine
from frontdesk.cluster.node import Node
from frontdesk.cluster.node_records import NodeHooks
from frontdesk.cluster.records import IndexEntry, NodeStatus
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.sessions.service import SessionService
from frontdesk.store import SessionStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterMember:
    """An engine that is open, and what this gateway is to the other nodes.

    Attributes:
        engine (Engine): Opened before the gateway, closed after it, by whoever gives it.
        name (str): What the node is called over its restarts: `host/1`.
        address (str): Where other nodes reach its private listener.
        terms (LeaseTerms): How long leases, graces and holds last.
        listener_age_s (Callable): Since when the private listener has not answered.
        ask_owner (Callable): Asks another node for one of its sessions; None is nobody.
        end_process (Callable): Ends the process when its loop stands still; None as `NodeHooks`.
    """

    engine: Engine
    name: str
    address: str
    terms: LeaseTerms = field(default_factory=LeaseTerms)
    listener_age_s: Callable[[], float] = float
    ask_owner: Callable[[str, NodeStatus], Awaitable[IndexEntry | None]] | None = None
    end_process: Callable[[], None] | None = None

    def node(
        self,
        store: SessionStore[Any],
        *,
        clock: Clock,
        config_digest: str,
        service: Callable[[], SessionService],
    ) -> Node:
        """Return the node over a store; it joins when it is entered.

        `service` is asked for when there are sessions: it is made over the node.
        """
        given = {"ask_owner": self.ask_owner, "end_process": self.end_process}
        hooks: dict[str, Any] = {name: each for name, each in given.items() if each is not None}
        return Node(
            self.engine,
            store,
            name=self.name,
            address=self.address,
            config_digest=config_digest,
            terms=self.terms,
            clock=clock,
            hooks=NodeHooks(
                on_superseded=lambda key, fence: service().on_superseded(key, fence),
                on_isolated=lambda key, fence: service().on_isolated(key, fence),
                listener_age_s=self.listener_age_s,
                **hooks,
            ),
        )
