"""Where a request goes whose session is not here. A record, below what is passed on."""

from __future__ import annotations

from dataclasses import dataclass

from frontdesk.cluster.node_records import EndedElsewhere
from frontdesk.cluster.records import NodeStatus


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a session is answered for.

    Attributes:
        key (str): The session's in the registry.
        session_id (str): As the client has it.
        node (NodeStatus): The node.
        fence (int | None): Of the session; None for one that may have ended.
        ended (EndedElsewhere | None): How it ended, if it has.
    """

    key: str
    session_id: str
    node: NodeStatus
    fence: int | None
    ended: EndedElsewhere | None = None
