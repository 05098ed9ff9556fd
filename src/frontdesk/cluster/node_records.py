"""What a node answers, and what it is given by whoever runs it. Frozen."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from frontdesk.cluster.boot_time import boot_time_s
from frontdesk.cluster.decisions import NodeAction, RenewalOutcome
from frontdesk.cluster.records import IndexEntry, NodeStatus
from frontdesk.records import Ended, Fence

__all__ = ["NO_HOOKS", "EndedElsewhere", "Located", "NodeHooks"]


@dataclass(frozen=True, slots=True)
class Located:
    """Where a session is.

    Attributes:
        entry (IndexEntry): The session, as the index has it.
        node (NodeStatus): Its node, as last heard of.
        confirmed (bool): False where this node is cut off, so that it may have changed since.
    """

    entry: IndexEntry
    node: NodeStatus
    confirmed: bool = True


@dataclass(frozen=True, slots=True)
class EndedElsewhere:
    """How a session ended, wherever it was.

    Attributes:
        ended (Ended): How, and when; the revision is the index's.
        incarnation (str): The node that it was on.
    """

    ended: Ended
    incarnation: str


def _ignore(session_id: str, fence: Fence) -> None:
    """Do nothing about a session that has to stop: there is nobody who runs it."""


def _ignore_end(ended: Ended, incarnation: str) -> None:
    """Tell nobody of a session that ended with its node."""


def _ignore_incarnation(incarnation: str) -> None:
    """Write nothing down: nobody looks for what a dead node had joined as."""


def _ignore_renewal(outcome: RenewalOutcome) -> None:
    """Count no renewals."""


def _ignore_era() -> None:
    """Count no eras."""


def _ignore_repair(action: NodeAction) -> None:
    """Count no repairs."""


async def _ask_nobody(session_id: str, node: NodeStatus) -> IndexEntry | None:
    """Answer that a node does not have a session: there is no way to ask it."""
    del session_id, node
    return None


@dataclass(frozen=True, slots=True)
class NodeHooks:
    """What a node calls. All on its event loop, unless it says otherwise.

    Attributes:
        on_superseded (Callable): Stops the agent of a session (its id, its local fence) that
            somebody else owns by now, with reason `superseded`; never a later one of that id.
        on_isolated (Callable): Stops the agent of a session (its id, its local fence) under an id
            that a caller chose, when the node was cut off for longer than the isolation grace. Not
            called for minted ids, which nobody else can get. Whoever keeps the conversation itself
            may leave that to its storage.
        listener_age_s (Callable): Since when the private listener has not answered. From any
            thread.
        ask_owner (Callable): Asks a node itself for one of its sessions, while the engine cannot be
            asked; None where it says that it has none, an error where it says nothing.
        on_lost (Callable): Told of each session of another node that ended because that is dead,
            and which node that was.
        on_joining (Callable): Told as which incarnation the node is about to join, each time.
        end_process (Callable): Ends the process, whose event loop has not moved for a minute; from
            the thread of the lease, after the stacks were logged.
        on_renewal (Callable): Told what came of each renewal, of the lease that it has.
        on_era (Callable): Called when the engine has lost what it knew and began anew.
        on_repair (Callable): Told each repair that has come to its end.
        now_s (Callable): The time of leases; for tests. From any thread.
    """

    on_superseded: Callable[[str, Fence], None] = _ignore
    on_isolated: Callable[[str, Fence], None] = _ignore
    listener_age_s: Callable[[], float] = float
    ask_owner: Callable[[str, NodeStatus], Awaitable[IndexEntry | None]] = _ask_nobody
    on_lost: Callable[[Ended, str], None] = _ignore_end
    on_joining: Callable[[str], None] = _ignore_incarnation
    end_process: Callable[[], None] = os.abort
    on_renewal: Callable[[RenewalOutcome], None] = _ignore_renewal
    on_era: Callable[[], None] = _ignore_era
    on_repair: Callable[[NodeAction], None] = _ignore_repair
    now_s: Callable[[], float] = boot_time_s


NO_HOOKS = NodeHooks()
"""Of a node that nobody asks for anything."""
