"""How sessions ended whose node died: the other nodes say so, each to its own readers.

Every other node hears of each from the index, and lists it: lists of several nodes name an end
once. What is counted or logged is told by one of them alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from frontdesk.agents.ids import split
from frontdesk.gateway.log_events import LogEvent, log_event
from frontdesk.gateway.rows.local_rows import LocalRows
from frontdesk.records import Ended

if TYPE_CHECKING:
    # Late: without a cluster, nothing of it is imported.
    from frontdesk.cluster.node import Node


def record_lost(rows: LocalRows, ended: Ended, incarnation: str, *, node: Node) -> None:
    """List an end, and count and log it where this node is the one."""
    tenant_id, session_id = split(ended.session.session_id)
    status = node.node(incarnation)
    name = "" if status is None else status.node.name
    end = rows.ends.add_lost(ended, tenant_id=tenant_id, session_id=session_id, node=name)
    if node.incarnation == min(
        (each.node.incarnation for each in node.nodes() if each.node.incarnation != incarnation),
        default="",
    ):
        rows.hour.count(tenant_id, ended.reason.kind.value)
        log_event(
            LogEvent.SESSION_ENDED,
            tenant=tenant_id,
            session_id=session_id,
            blueprint=end.blueprint,
            reason=end.reason,
            log_id=end.log_id,
            age_ms=end.age_ms,
        )
