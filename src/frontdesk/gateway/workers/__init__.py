"""Workers: several processes that serve one address, with one registry between them.

    supervisor   the parent: starts workers, replaces dead ones, passes signals on, restarts them
    child_processes  and how the supervisor hears from the kernel that one has ended
    channel      the socket between the supervisor and one worker: orders one way, reports the other
    listening    the public address, once for each worker
    storage      the conversations of all of them, in one file that the supervisor writes
    sockets      where the private sockets between workers lie
    death_limit  how many deaths are too many

The supervisor runs no gateway and no agent. Each worker is a whole gateway, and each is a node of
the cluster (`frontdesk.cluster`), whose index the supervisor holds, unless an engine does.
"""

from __future__ import annotations

__all__: list[str] = []
