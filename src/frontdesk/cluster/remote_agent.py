"""RemoteAgent: what stands for an agent that lives on another node."""

from __future__ import annotations

from dataclasses import dataclass

from frontdesk.cluster.records import IndexEntry
from frontdesk.records import Session, seal_session, session_builder

__all__ = ["RemoteAgent", "remote_session"]


@dataclass(frozen=True, slots=True)
class RemoteAgent:
    """An agent on another node: it says where, and whether it lives is that node's to say.

    Attributes:
        incarnation (str): Its node.
        address (str | None): Where other nodes reach that; None where it is not known (yet).
    """

    incarnation: str
    address: str | None

    def done(self) -> bool:
        """Return False: as far as is known here it lives, or its session would not be found."""
        return False


def remote_session(entry: IndexEntry, *, address: str | None) -> Session[RemoteAgent]:
    """Return another node's session as a record, with a `RemoteAgent` for its agent.

    Its fence and pid are its node's; its `monitor` is the `RemoteAgent` too.
    """
    new = entry.entry
    agent = RemoteAgent(new.incarnation, address)
    builder = session_builder(
        new.session_id,
        agent,
        new.api_key,
        new.tenant_id,
        new.blueprint,
        new.model,
        new.created_at,
    )
    return seal_session(builder, agent, agent, new.pid, entry.fence)
