"""The nodes of the cluster as operators see them: in a list, and beside the rows that follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frontdesk.schemas.operator_schemas import ListedNode

if TYPE_CHECKING:
    # Late: without a cluster, nothing of it is imported.
    from frontdesk.cluster.node import Node
    from frontdesk.cluster.records import NodeStatus


def listed(status: NodeStatus, node: Node) -> ListedNode:
    """Return a node as operators see it; `node` is the one that answers."""
    return ListedNode(
        name=status.node.name,
        incarnation=status.node.incarnation,
        state=status.state.value,
        # What was heard of it grows old where this node hears no more.
        lease_left_ms=round((status.lease_left_s - node.nodes_age_s) * 1000),
        sessions=status.sessions,
        draining=status.draining,
        version=status.node.version,
        config_digest=status.node.config_digest,
        answering=status.node.incarnation == node.incarnation,
    )


def all_listed(node: Node | None) -> tuple[ListedNode, ...]:
    """Return every node that is not dead, by name; none where the gateway is alone."""
    if node is None:
        return ()
    rows = (listed(each, node) for each in node.nodes())
    return tuple(sorted(rows, key=lambda row: (row.name, row.incarnation)))
