"""How a node stands in its cluster, counted: calls of the engine, repairs, eras, other nodes.

What is counted as it happens comes from the engine's client and the node, which call this; how
things stand now is looked at once a second. A gateway that is alone has all of it, and it is 0.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from frontdesk.gateway.metrics.instruments import Distribution, Tally
from frontdesk.gateway.metrics.metric_cells import MetricCells

if TYPE_CHECKING:
    # Late: without a cluster, nothing of it is imported.
    from frontdesk.cluster.decisions import RenewalOutcome
    from frontdesk.cluster.node import Node

FAILURES = {
    "EngineUnavailable": "unavailable",
    "EngineRefused": "refused",
    "SchemaRefused": "refused",
    "Recovering": "recovering",
    "LeaseLost": "lease_lost",
}
"""What is counted as a failure of the engine; whatever else it refuses is an answer."""
REPAIRS = ("rejoin", "restore", "reconcile")
STATES = ("alive", "stalled", "suspect", "leaving")


class ClusterMetrics:
    """Count what a node does. Belongs to its event loop."""

    def __init__(self, cells: MetricCells) -> None:
        self._nodes = Tally("frontdesk_nodes", cells)
        self._configurations = Tally("frontdesk_node_configurations", cells)
        self._cut_off = Tally("frontdesk_node_cut_off", cells)
        self._lease_age = Tally("frontdesk_lease_age_seconds", cells)
        self._seconds = Distribution("frontdesk_engine_call_seconds", cells)
        self._errors = Tally("frontdesk_engine_errors_total", cells)
        self._eras = Tally("frontdesk_eras_total", cells)
        self._repairs = Tally("frontdesk_repairs_total", cells)
        for kind in FAILURES.values():
            self._errors.begin(kind)
        for kind in REPAIRS:
            self._repairs.begin(kind)

    def on_call(self, verb: str, seconds: float, error: BaseException | None) -> None:
        """Count a call of the engine."""
        if isinstance(error, asyncio.CancelledError):
            return  # its caller went away
        self._seconds.observe(seconds, verb)
        if error is not None and (kind := FAILURES.get(type(error).__name__)) is not None:
            self._errors.add(kind)

    def on_renewal(self, outcome: RenewalOutcome) -> None:
        """Count a renewal of the lease, which has a thread and a connection of its own."""
        self._seconds.observe(outcome.at_s - outcome.sent_s, "renew")
        if outcome.renewed is None:
            self._errors.add("lease_lost" if outcome.lost else "unavailable")

    def on_era(self) -> None:
        """Count a new era."""
        self._eras.add()

    def on_repair(self, kind: str) -> None:
        """Count a repair that has come to its end."""
        self._repairs.add(kind)

    def refresh(self, node: Node | None) -> None:
        """Look at how the node stands, and whom it knows."""
        states: Counter[str] = Counter()
        configurations = set()
        if node is not None:
            for status in node.nodes():
                states[status.state.value] += 1
                if status.state.value != "suspect":
                    configurations.add(status.node.config_digest)
            self._cut_off.set(value=float(node.condition.value == "cut_off"))
            self._lease_age.set(value=node.lease_age_s)
        for state in STATES:
            self._nodes.set(state, value=states[state])
        self._configurations.set(value=len(configurations))
