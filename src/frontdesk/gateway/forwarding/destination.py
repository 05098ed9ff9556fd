"""Where a request goes whose session is not here: to its owner, or to whoever had it last.

Below the forwarding, above the node, which knows where sessions are and how they ended. One that is
stored and has no agent is answered for by its owner, which the storage knows.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from frontdesk.cluster.errors import EngineUnavailable, OwnerUnreachable, Recovering
from frontdesk.cluster.node import Node
from frontdesk.cluster.node_records import EndedElsewhere
from frontdesk.cluster.records import NodeState, NodeStatus
from frontdesk.errors import SessionNotFound
from frontdesk.gateway.forwarding.hops import GONE_STATUS
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.request_context import RequestContext
from frontdesk.sessions.errors import SessionDead


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


async def destination_of(
    gateway: Gateway, node: Node, context: RequestContext, key: str
) -> Destination | None:
    """Return where the session of a request is answered for, None where that is here.

    `OwnerUnreachable` where its node has stalled; what the index raises where it does not know.
    """
    session_id = context.session_id or ""
    try:
        located = await node.find(key)
    except SessionNotFound:
        owner = await gateway.service.owner_of(context.tenant_sessions.tenant_id, session_id)
        if owner is not None:
            return destination_of_owner(node, context, key, owner)
        return await destination_of_ended(node, context, key)
    except (EngineUnavailable, Recovering):
        if gateway.service.recently_ended(key) is not None:
            # What ended here, its own node knows best.
            return None
        raise
    except OwnerUnreachable as error:
        raise OwnerUnreachable(session_id, problem=error.problem) from None
    if located.node.node.incarnation == node.incarnation:
        return None
    if located.node.state is NodeState.STALLED:
        raise OwnerUnreachable(session_id, problem="it has stalled")
    return Destination(key, session_id, located.node, located.entry.fence)


def destination_of_owner(
    node: Node, context: RequestContext, key: str, owner: str
) -> Destination | None:
    """Return the node that owns a stored conversation without an agent; None where that is here.

    So it is where the owner is dead: who is asked takes it over.
    """
    status = None if owner == node.owner else node.named(owner)
    if status is None or status.node.incarnation == node.incarnation:
        return None
    session_id = context.session_id or ""
    if status.state is NodeState.STALLED:
        raise OwnerUnreachable(session_id, problem="it has stalled")
    return Destination(key, session_id, status, None)


async def destination_of_ended(node: Node, context: RequestContext, key: str) -> Destination | None:
    """Return the node that has what a session emitted until it ended; None where that is here.

    It may be between two agents there. `SessionDead` where that node is dead.
    """
    try:
        ended = await _ended(node, key)
    except SessionNotFound:
        return None
    if ended.incarnation == node.incarnation:
        return None
    session_id, status = context.session_id or "", await status_of(node, ended.incarnation)
    if status is not None:
        return Destination(key, session_id, status, None, ended)
    if context.tenant_key.only is not None:
        # To a session token, one that is not known here is one that never was.
        return None
    raise SessionDead(session_id, reason=ended.ended.reason)


async def _ended(node: Node, key: str) -> EndedElsewhere:
    """Return how a session ended: just now, too, which this node may not have read yet."""
    with suppress(SessionNotFound):
        return node.ended(key)
    await node.read_all()
    return node.ended(key)


async def status_of(node: Node, incarnation: str) -> NodeStatus | None:
    """Return how another node stands; None where it is dead, or nobody can say."""
    if node.is_dead(incarnation):
        return None
    status = node.node(incarnation)
    if status is None:
        # It may have joined since all were asked for last.
        with suppress(EngineUnavailable):
            for each in await node.engine.nodes():
                if each.node.incarnation == incarnation:
                    return each
    return status


def raise_unless_gone(status: int, problem: bytes, destination: Destination) -> None:
    """Raise `OwnerUnreachable` for a node's own answer, unless the session is not there."""
    if status != GONE_STATUS:
        text = problem.decode("utf-8", "replace")
        raise OwnerUnreachable(destination.session_id, problem=text)
